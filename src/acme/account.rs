//! Accounts that survive a crash at any moment. instant-acme makes the account's key only while it registers, so the
//! registration is signed first and held back: its key can be stored before the CA hears of it. That matters with an
//! external account binding, whose key is often good for one registration only.

mod deactivation;
mod jws;
mod key;
mod key_change;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use instant_acme::{
    Account, BodyWrapper, BytesResponse, Error as ProtocolError, ExternalAccountKey, HttpClient, Key, NewAccount,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

pub use key::{AccountKey, UnusableAccountKey};
pub use key_change::PreparedKeyChange;

use crate::acme::client::AcmeClient;
use crate::acme::directory::parse_meta;
use crate::acme::error::AcmeError;
use crate::acme::nonce::past_bad_nonces;
use crate::acme::problem::{AcmeStep, ProblemKind};
use crate::acme::transport::{CaConnection, to_bytes_response};
use crate::domain::provider::ExternalAccountBinding;
use crate::domain::value::email::Email;
use crate::domain::value::server_url::ServerUrl;
use crate::domain::value::text::RemoteMessage;

/// What an account is registered with.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The CA's directory.
    pub server: ServerUrl,
    /// The contact.
    pub email: Email,
    /// The binding to an account that the CA's owner knows, where the CA wants one.
    pub external_account: Option<ExternalAccountBinding>,
}

/// A registration that is signed, but not sent.
pub struct PreparedAccount {
    connection: CaConnection,
    pending_credentials: SecretString,
    url: Uri,
    request: Bytes,
}

/// An account with its key, as the store seals it.
#[derive(Clone)]
pub struct AccountCredentials {
    json: SecretString,
    url: String,
    server: String,
}

impl AcmeClient {
    /// Makes a fresh account key and signs the registration with it, without sending it.
    ///
    /// The order of things: store [`PreparedAccount::credentials`] (sealed), then [`Self::send_registration`], then
    /// store what that returns. Found after a crash, the stored ones go to [`Self::recover_registration`] first.
    /// [`AcmeError::BadNonce`] from sending means that the CA did nothing: the caller prepares and stores anew, for the
    /// nonce is part of what was signed.
    ///
    /// # Errors
    /// Where the CA cannot be reached or the binding's key is not base64.
    pub async fn prepare_registration(&self, registration: &Registration) -> Result<PreparedAccount, AcmeError> {
        let binding = registration.external_account.as_ref().map(decode_mac_key).transpose()?;
        let exchange = self.connection(&registration.server)?;
        let holding = RequestCapture { connection: exchange.clone(), captured: Arc::default() };
        let contact = registration.email.contact_url();
        let account = NewAccount {
            contact: &[&contact],
            terms_of_service_agreed: self.settings.accept_terms_of_service,
            only_return_existing: false,
        };
        let (_, credentials) = Account::builder_with_http(Box::new(holding.clone()))
            .create(&account, registration.server.to_string(), binding.as_ref())
            .await
            .map_err(|error| AcmeError::from_instant_acme(AcmeStep::Account, error))?;
        let pending = serialize(&credentials)?;
        let (url, request) = holding.take().ok_or(AcmeError::UnusableCredentials("nothing was signed"))?;
        Ok(PreparedAccount { connection: exchange, pending_credentials: pending, url, request })
    }

    /// Sends a registration whose credentials are stored.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached. After a failure other than a refusal the account may exist.
    pub async fn send_registration(&self, prepared: PreparedAccount) -> Result<AccountCredentials, AcmeError> {
        let PreparedAccount { connection: exchange, pending_credentials: pending, url, request } = prepared;
        let answer = match exchange.post(&url, request).await {
            Ok(answer) => answer,
            Err(error) => {
                return Err(self
                    .explain_terms_refusal(&exchange, AcmeError::from_transport(AcmeStep::Account, error))
                    .await);
            }
        };
        let location = answer.headers().get(LOCATION).and_then(|url| url.to_str().ok());
        let url = location.ok_or_else(|| AcmeError::Unreadable {
            step: AcmeStep::Account,
            cause: "it does not say where the account is".into(),
        })?;
        let mut stored = StoredAccount::parse(&pending)?;
        url.clone_into(&mut stored.id);
        AccountCredentials::from_stored(serialize(&stored)?)
    }

    /// Finds out whether a registration that was prepared and stored reached the CA; `None` where it did not, so that it
    /// can be prepared anew, with the same external account binding.
    ///
    /// # Errors
    /// Where the CA cannot be asked. Then nothing is known, and nothing may be registered anew.
    pub async fn recover_registration(
        &self,
        server: &ServerUrl,
        pending: &SecretString,
    ) -> Result<Option<AccountCredentials>, AcmeError> {
        let stored = StoredAccount::parse(pending)?;
        let exchange = self.connection(server)?;
        let found = past_bad_nonces!(
            Account::builder_with_http(Box::new(exchange.clone()))
                .from_key(stored.decode_key()?, server.to_string())
                .await
                .map_err(|error| AcmeError::from_instant_acme(AcmeStep::Account, error))
        );
        match found {
            Ok((_, credentials)) => AccountCredentials::from_stored(serialize(&credentials)?).map(Some),
            Err(error) if error.kind() == Some(ProblemKind::AccountDoesNotExist) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Recognises a refusal that has its reason in terms which nobody accepted. CAs word it in several types.
    async fn explain_terms_refusal(&self, exchange: &CaConnection, error: AcmeError) -> AcmeError {
        let AcmeError::Refused { step, refusal } = error else { return error };
        let kind = refusal.kind();
        let words = refusal.problem.as_ref().map(|problem| problem.detail.as_str().to_lowercase()).unwrap_or_default();
        let about_terms = matches!(kind, Some(ProblemKind::AgreementRequired | ProblemKind::UserActionRequired))
            || words.contains("terms of service")
            || words.contains("agree");
        if self.settings.accept_terms_of_service || !about_terms {
            return AcmeError::Refused { step, refusal };
        }
        let terms = exchange.load_directory().await.ok().and_then(|document| parse_meta(&document).terms_of_service);
        let terms = terms.map(|url| RemoteMessage::new(&url));
        AcmeError::TermsNotAccepted { terms, refusal }
    }
}

impl PreparedAccount {
    /// The account's key, to be stored before the registration is sent.
    pub const fn credentials(&self) -> &SecretString {
        &self.pending_credentials
    }
}

impl fmt::Debug for PreparedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedAccount").field("url", &self.url).finish_non_exhaustive()
    }
}

impl AccountCredentials {
    /// Reads credentials as they were stored.
    ///
    /// # Errors
    /// Where they are not whole, or belong to a registration that was never sent.
    pub fn from_stored(json: SecretString) -> Result<Self, AcmeError> {
        let mut stored = StoredAccount::parse(&json)?;
        if stored.id == PENDING_URL {
            return Err(AcmeError::UnusableCredentials("it was prepared, but never registered"));
        }
        stored.decode_key()?;
        Ok(Self { json, url: std::mem::take(&mut stored.id), server: std::mem::take(&mut stored.directory) })
    }

    /// The credentials of an account that another ACME client registered at `server`, with its key on P-256 as PKCS#8
    /// DER. Nobody asks the CA whether it knows the account.
    ///
    /// # Errors
    /// Where the key is another one.
    pub fn from_registered(url: &str, server: &ServerUrl, key_pkcs8: &[u8]) -> Result<Self, AcmeError> {
        let key_pkcs8 = BASE64_URL_SAFE_NO_PAD.encode(key_pkcs8);
        let stored = StoredAccount { id: url.to_owned(), key_pkcs8, directory: server.to_string() };
        Self::from_stored(serialize(&stored)?)
    }

    /// The account's URL, which CAA records may pin (RFC 8657).
    pub fn account_url(&self) -> &str {
        &self.url
    }

    /// The directory of the CA that the account is with.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The whole, key included, for sealing.
    pub const fn as_json(&self) -> &SecretString {
        &self.json
    }

    /// The account's key.
    ///
    /// # Errors
    /// Where it is not usable.
    pub fn key(&self) -> Result<AccountKey, AcmeError> {
        let stored = StoredAccount::parse(&self.json)?;
        let (_, der) = stored.decode_key()?;
        AccountKey::from_p256_pkcs8(der.secret_der())
            .map_err(|_| AcmeError::UnusableCredentials("its key is not usable"))
    }

    pub(super) fn to_instant_acme(&self) -> Result<instant_acme::AccountCredentials, AcmeError> {
        serde_json::from_str(self.json.expose_secret()).map_err(|_| AcmeError::UnusableCredentials("it cannot be read"))
    }
}

impl fmt::Debug for AccountCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountCredentials").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The binding's key; one that the former release stored may be none.
fn decode_mac_key(binding: &ExternalAccountBinding) -> Result<ExternalAccountKey, AcmeError> {
    let key = binding.key_secret.bytes().map_err(AcmeError::UnusableBinding)?;
    Ok(ExternalAccountKey::new(binding.key_id.clone(), &key))
}

/// instant-acme's stored form, of which we set the account's URL once it is known.
#[derive(Deserialize, Serialize)]
struct StoredAccount {
    id: String,
    key_pkcs8: String,
    directory: String,
}

impl StoredAccount {
    fn parse(json: &SecretString) -> Result<Self, AcmeError> {
        serde_json::from_str(json.expose_secret()).map_err(|_| AcmeError::UnusableCredentials("it cannot be read"))
    }

    fn decode_key(&self) -> Result<(Key, PrivateKeyDer<'static>), AcmeError> {
        let unusable = AcmeError::UnusableCredentials("its key is not usable");
        let Ok(der) = BASE64_URL_SAFE_NO_PAD.decode(&self.key_pkcs8).map(Zeroizing::new) else { return Err(unusable) };
        let Ok(key) = Key::from_pkcs8_der(PrivatePkcs8KeyDer::from(der.as_slice())) else { return Err(unusable) };
        // instant-acme keeps this copy.
        Ok((key, PrivateKeyDer::Pkcs8(der.to_vec().into())))
    }
}

impl Drop for StoredAccount {
    fn drop(&mut self) {
        self.key_pkcs8.zeroize();
    }
}

/// The way to a CA on which directory and nonces pass, while the registration itself is held back and answered as if it
/// had been taken.
#[derive(Clone)]
struct RequestCapture {
    connection: CaConnection,
    captured: Arc<Mutex<Option<(Uri, Bytes)>>>,
}

impl RequestCapture {
    fn take(&self) -> Option<(Uri, Bytes)> {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl HttpClient for RequestCapture {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, ProtocolError>> + Send>> {
        if request.method() != Method::POST {
            return self.connection.request(request);
        }
        let held = Arc::clone(&self.captured);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            *held.lock().unwrap_or_else(PoisonError::into_inner) = Some((parts.uri, body));
            let mut answer = Response::new(Bytes::from_static(b"{}"));
            *answer.status_mut() = StatusCode::CREATED;
            answer.headers_mut().insert(LOCATION, HeaderValue::from_static(PENDING_URL));
            Ok(to_bytes_response(answer))
        })
    }
}

fn serialize(credentials: &impl Serialize) -> Result<SecretString, AcmeError> {
    serde_json::to_string(credentials)
        .map(SecretString::from)
        .map_err(|_| AcmeError::UnusableCredentials("it cannot be written"))
}

/// The URL of an account that no CA knows yet (RFC 6761 keeps the domain from ever existing).
const PENDING_URL: &str = "https://pending.invalid/";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::value::mac_key::MacKey;

    fn binding(secret: &str) -> ExternalAccountBinding {
        let key_secret = MacKey::from_stored(SecretString::from(secret.to_owned()));
        ExternalAccountBinding { key_id: "kid".to_owned(), key_secret }
    }

    #[test]
    fn a_stored_key_that_is_none_is_refused_without_showing_it() {
        assert!(decode_mac_key(&binding(" c2VjcmV0LWtleQ==\n")).is_ok());
        for secret in ["no key", "", "s p a c e"] {
            let error = decode_mac_key(&binding(secret)).err().unwrap();
            assert!(secret.is_empty() || !format!("{error} {error:?}").contains(secret));
        }
        assert!(!format!("{:?}", binding("c2VjcmV0LWtleQ")).contains("c2Vj"));
    }

    #[test]
    fn credentials_that_were_never_registered_are_no_account() {
        let (_, der) = Key::generate_pkcs8().unwrap();
        let json = |id: &str| {
            let key = BASE64_URL_SAFE_NO_PAD.encode(der.secret_pkcs8_der());
            SecretString::from(format!(
                r#"{{"id": "{id}", "key_pkcs8": "{key}", "directory": "https://ca.example/dir"}}"#
            ))
        };
        assert!(AccountCredentials::from_stored(json(PENDING_URL)).is_err());
        let stored = AccountCredentials::from_stored(json("https://ca.example/acct/1")).unwrap();
        assert_eq!((stored.account_url(), stored.server()), ("https://ca.example/acct/1", "https://ca.example/dir"));
        assert!(!format!("{stored:?}").contains("key_pkcs8"));
        assert!(AccountCredentials::from_stored(SecretString::from("{}".to_owned())).is_err());
    }
}
