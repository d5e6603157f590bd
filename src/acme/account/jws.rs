//! Requests that are signed here: what instant-acme cannot sign, because the key is none of ours or comes from outside.
//! They are JSON Web Signatures in their flattened form (RFC 8555 section 6.2).

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use http::{Response, Uri};
use serde_json::{Value, json};

use crate::acme::account::AccountKey;
use crate::acme::directory::Endpoints;
use crate::acme::error::AcmeError;
use crate::acme::problem::AcmeStep;
use crate::acme::transport::{CaConnection, PostOutcome};

/// Who signs.
#[derive(Clone, Copy)]
pub(super) struct Signer<'a> {
    pub(super) key: &'a AccountKey,
    /// The account, which takes the key's place in the header once it is known.
    pub(super) account_url: Option<&'a str>,
}

impl Signer<'_> {
    /// Signs a request to `url`, which nobody has to take as fresh where it has no nonce.
    pub(super) fn sign(&self, url: &Uri, nonce: Option<&str>, payload: &str) -> Result<Value, AcmeError> {
        let unusable = || AcmeError::UnusableCredentials("its key does not sign");
        let mut header = json!({ "alg": self.key.algorithm(), "url": url.to_string() });
        match self.account_url {
            Some(account) => header["kid"] = account.into(),
            None => header["jwk"] = self.key.public_jwk().ok_or_else(unusable)?,
        }
        if let Some(nonce) = nonce {
            header["nonce"] = nonce.into();
        }
        let protected = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
        let payload = BASE64_URL_SAFE_NO_PAD.encode(payload);
        let signature = self.key.sign(format!("{protected}.{payload}").as_bytes()).ok_or_else(unusable)?;
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        Ok(json!({ "protected": protected, "payload": payload, "signature": signature }))
    }
}

impl CaConnection {
    /// Where requests go.
    pub(in crate::acme) async fn load_endpoints(&self) -> Result<Endpoints, AcmeError> {
        let document =
            self.load_directory().await.map_err(|error| AcmeError::from_transport(AcmeStep::Directory, error))?;
        Endpoints::from_directory(&document).ok_or_else(|| AcmeError::Unreadable {
            step: AcmeStep::Directory,
            cause: "it names no newNonce or newAccount".into(),
        })
    }

    /// Signs `payload` and sends it; anew, with the nonce of the answer, for as long as only its nonce is refused.
    pub(super) async fn post_signed(
        &self,
        step: AcmeStep,
        new_nonce: &Uri,
        url: &Uri,
        signer: Signer<'_>,
        payload: &str,
    ) -> Result<Response<Bytes>, AcmeError> {
        let failed = |error| AcmeError::from_transport(step, error);
        let mut nonce = None;
        for _ in 0..MAX_NONCE_TRIES {
            let fresh = match nonce.take() {
                Some(nonce) => nonce,
                None => self.fetch_nonce(new_nonce).await.map_err(failed)?,
            };
            let jws = signer.sign(url, Some(&fresh), payload)?.to_string();
            match self.post_or_nonce(url, jws.into()).await.map_err(failed)? {
                PostOutcome::Answer(answer) => return Ok(answer),
                PostOutcome::BadNonce(other) => nonce = other,
            }
        }
        Err(AcmeError::BadNonce)
    }
}

/// At a CA that refuses every second nonce, fewer than one request in a hundred thousand fails.
const MAX_NONCE_TRIES: u32 = 18;
