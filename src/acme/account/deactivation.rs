//! The end of an account (RFC 8555 section 7.3.6). instant-acme's own call passes for done what the CA refused for its
//! nonce.

use serde_json::json;

use crate::acme::account::AccountCredentials;
use crate::acme::account::jws::Signer;
use crate::acme::account::key_change::account_status;
use crate::acme::client::AcmeClient;
use crate::acme::error::AcmeError;
use crate::acme::problem::AcmeStep;
use crate::domain::value::server_url::ServerUrl;

impl AcmeClient {
    /// Deactivates an account for good: the CA takes nothing from it any more, and gives up its pending orders.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached. Unless [`AcmeError::had_no_effect`], the account may be deactivated.
    pub async fn deactivate_account(&self, credentials: &AccountCredentials) -> Result<(), AcmeError> {
        let server = ServerUrl::from_stored(credentials.server())
            .map_err(|_| AcmeError::UnusableServer(credentials.server().to_owned()))?;
        let account = credentials.account_url();
        let url = account.parse().map_err(|_| AcmeError::UnusableServer(account.to_owned()))?;
        let (exchange, key) = (self.connection(&server)?, credentials.key()?);
        let new_nonce = exchange.load_endpoints().await?.new_nonce;
        let signer = Signer { key: &key, account_url: Some(account) };
        let wish = json!({ "status": "deactivated" }).to_string();
        let answer = exchange.post_signed(AcmeStep::Deactivation, &new_nonce, &url, signer, &wish).await?;
        match account_status(&answer).filter(|status| status != "deactivated") {
            Some(status) => Err(AcmeError::Unreadable {
                step: AcmeStep::Deactivation,
                cause: format!("it says that the account is {status}").into(),
            }),
            None => Ok(()),
        }
    }
}
