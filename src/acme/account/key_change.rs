//! The change of an account's key (RFC 8555 section 7.3.5), which survives a crash at any moment: the new key is stored
//! before the CA hears of it, and the CA can be asked afterwards which of the two it knows. The account keeps its URL.

use std::fmt;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use http::header::LOCATION;
use http::{Response, Uri};
use instant_acme::Key;
use secrecy::SecretString;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::acme::account::jws::Signer;
use crate::acme::account::{AccountCredentials, AccountKey, StoredAccount, serialize};
use crate::acme::client::AcmeClient;
use crate::acme::error::AcmeError;
use crate::acme::problem::{AcmeStep, ProblemKind};
use crate::acme::refusal::host_and_port;
use crate::acme::transport::CaConnection;
use crate::domain::value::server_url::ServerUrl;

/// A change of an account's key that was not sent yet.
pub struct PreparedKeyChange {
    connection: CaConnection,
    new_nonce_url: Uri,
    key_change_url: Uri,
    account_url: String,
    old_key: AccountKey,
    new_key: AccountKey,
    pending_credentials: SecretString,
}

impl AcmeClient {
    /// The URL of the account that has this key, as the CA tells it; of an account that is `known` already, whether it
    /// has this key. Nothing where the CA knows no such account.
    ///
    /// # Errors
    /// Where the account is not valid any more, or the CA refuses or cannot be reached.
    pub async fn find_account(
        &self,
        server: &ServerUrl,
        key: &AccountKey,
        known: Option<&str>,
    ) -> Result<Option<String>, AcmeError> {
        let exchange = self.connection(server)?;
        let endpoints = exchange.load_endpoints().await?;
        let (url, payload) = match known {
            // POST-as-GET, section 6.3.
            Some(account) => {
                (account.parse().map_err(|_| AcmeError::UnusableServer(account.to_owned()))?, String::new())
            }
            None => (endpoints.new_account, json!({ "onlyReturnExisting": true }).to_string()),
        };
        let signer = Signer { key, account_url: known };
        let answer = match exchange.post_signed(AcmeStep::Account, &endpoints.new_nonce, &url, signer, &payload).await {
            Err(error) if error.kind() == Some(ProblemKind::AccountDoesNotExist) => return Ok(None),
            answer => answer?,
        };
        let location = known.or_else(|| answer.headers().get(LOCATION)?.to_str().ok());
        let url = location.ok_or_else(|| AcmeError::Unreadable {
            step: AcmeStep::Account,
            cause: "it does not say where the account is".into(),
        })?;
        match account_status(&answer).filter(|status| status != "valid") {
            Some(status) => Err(AcmeError::AccountNotValid { url: url.to_owned(), status: status.into() }),
            None => Ok(Some(url.to_owned())),
        }
    }

    /// Makes a fresh key for an account, without sending anything.
    ///
    /// The order of things: store [`PreparedKeyChange::credentials`] (sealed), then [`Self::send_key_change`], then store
    /// what that returns in place of the old credentials. Found after a crash, the stored ones go to
    /// [`Self::recover_key_change`] first.
    ///
    /// # Errors
    /// [`AcmeError::NoKeyChange`], or where the CA cannot be reached.
    pub async fn prepare_key_change(
        &self,
        server: &ServerUrl,
        account: &str,
        old: AccountKey,
    ) -> Result<PreparedKeyChange, AcmeError> {
        let unusable = || AcmeError::UnusableCredentials("no new key can be made");
        let exchange = self.connection(server)?;
        let endpoints = exchange.load_endpoints().await?;
        let no_key_change = || AcmeError::NoKeyChange(host_and_port(server.as_str()).to_owned());
        let key_change = endpoints.key_change.ok_or_else(no_key_change)?;
        let (_, der) = Key::generate_pkcs8().map_err(|_| unusable())?;
        let der = Zeroizing::new(der);
        let new = AccountKey::from_p256_pkcs8(der.secret_pkcs8_der()).map_err(|_| unusable())?;
        let stored = StoredAccount {
            id: account.to_owned(),
            key_pkcs8: BASE64_URL_SAFE_NO_PAD.encode(der.secret_pkcs8_der()),
            directory: server.to_string(),
        };
        let (account, new_nonce) = (account.to_owned(), endpoints.new_nonce);
        Ok(PreparedKeyChange {
            connection: exchange,
            new_nonce_url: new_nonce,
            key_change_url: key_change,
            account_url: account,
            old_key: old,
            new_key: new,
            pending_credentials: serialize(&stored)?,
        })
    }

    /// Asks the CA for a change of key whose credentials are stored.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached. Unless [`AcmeError::had_no_effect`], the CA may know the new key.
    pub async fn send_key_change(&self, prepared: &PreparedKeyChange) -> Result<AccountCredentials, AcmeError> {
        let PreparedKeyChange {
            connection: exchange,
            new_nonce_url: new_nonce,
            key_change_url: key_change,
            account_url: account,
            old_key: old,
            new_key: new,
            pending_credentials: pending,
        } = prepared;
        let old_key = old.public_jwk().ok_or(AcmeError::UnusableCredentials("its key cannot be shown"))?;
        // The inner signature has no nonce, and shows the new key.
        let consent = json!({ "account": account, "oldKey": old_key }).to_string();
        let inner = Signer { key: new, account_url: None }.sign(key_change, None, &consent)?.to_string();
        let signer = Signer { key: old, account_url: Some(account) };
        exchange.post_signed(AcmeStep::KeyChange, new_nonce, key_change, signer, &inner).await?;
        AccountCredentials::from_stored(pending.clone())
    }

    /// Finds out whether a change of key that was prepared and stored reached the CA; `None` where the account still has
    /// the key that it had.
    ///
    /// # Errors
    /// Where the CA cannot be asked. Then nothing is known, and neither key may be thrown away.
    pub async fn recover_key_change(
        &self,
        server: &ServerUrl,
        pending: &SecretString,
    ) -> Result<Option<AccountCredentials>, AcmeError> {
        let begun = AccountCredentials::from_stored(pending.clone())?;
        let found = self.recover_registration(server, pending).await?;
        Ok(found.filter(|found| found.account_url() == begun.account_url()))
    }
}

impl PreparedKeyChange {
    /// The account with its new key, to be stored before the change is sent.
    pub const fn credentials(&self) -> &SecretString {
        &self.pending_credentials
    }
}

impl fmt::Debug for PreparedKeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedKeyChange").field("account", &self.account_url).finish_non_exhaustive()
    }
}

/// The status that an account object shows, RFC 8555 section 7.1.2.
pub(super) fn account_status(answer: &Response<bytes::Bytes>) -> Option<String> {
    let account: Value = serde_json::from_slice(answer.body()).ok()?;
    account.get("status")?.as_str().map(ToOwned::to_owned)
}
