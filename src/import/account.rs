//! ACME accounts of other tools. Ours sign with ECDSA on P-256, so that only an account with such a key can be carried
//! over; any other one is named, and a new one is registered in its place.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::acme::AccountCredentials;
use crate::domain::server_url::ServerUrl;

/// The account that a tree has at the server of a lineage.
#[derive(Clone, Debug)]
pub enum TreeAccount {
    /// It can be used as it is.
    Usable(AccountCredentials),
    /// It cannot be carried over.
    Foreign {
        /// Its URL, where the tree knows it.
        url: Option<String>,
        /// Why not.
        reason: String,
    },
    /// The tree has none.
    Unknown,
}

/// An account as the files of a tool have it.
pub(super) struct RawAccount<'a> {
    /// Its URL, where it is known.
    pub(super) url: Option<String>,
    /// Its key.
    pub(super) key: AccountKey<'a>,
}

/// The text of an account's key.
pub(super) enum AccountKey<'a> {
    Pem(&'a str),
    /// A JSON Web Key (RFC 7517), as certbot keeps it.
    Jwk(&'a str),
}

impl TreeAccount {
    /// Judges an account at `server`.
    pub(super) fn judged(raw: RawAccount<'_>, server: &ServerUrl) -> Self {
        let key = match raw.key {
            AccountKey::Pem(text) => key_of_pem(text),
            AccountKey::Jwk(text) => key_of_jwk(text),
        };
        let foreign = |url, reason: String| Self::Foreign { url, reason };
        match (key, raw.url) {
            (Err(reason), url) => foreign(url, reason),
            (Ok(_), None) => foreign(None, "the URL of the old one is not written down".to_owned()),
            (Ok(key), Some(url)) => match AccountCredentials::of_registered(&url, server, &key) {
                Ok(credentials) => Self::Usable(credentials),
                Err(_) => foreign(Some(url), "the key of the old one cannot be used".to_owned()),
            },
        }
    }

    /// The account's URL, where it is known.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Usable(credentials) => Some(credentials.account_url()),
            Self::Foreign { url, .. } => url.as_deref(),
            Self::Unknown => None,
        }
    }
}

/// The key as PKCS#8, or what it is instead.
type Pkcs8 = Result<Zeroizing<Vec<u8>>, String>;

fn key_of_pem(text: &str) -> Pkcs8 {
    let unreadable = || "the key of the old one cannot be read".to_owned();
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| unreadable())?;
    if let Ok(pair) = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der()) {
        return pkcs8(&pair).ok_or_else(unreadable);
    }
    let key = KeyPair::try_from(&der).map_err(|_| unreadable())?;
    let algorithm = format!("{:?}", key.algorithm());
    Err(if algorithm.contains("RSA") { of_kind("an RSA") } else { of_kind("another kind of") })
}

fn key_of_jwk(text: &str) -> Pkcs8 {
    let unreadable = || "the key of the old one cannot be read".to_owned();
    let jwk: Jwk = serde_json::from_str(text).map_err(|_| unreadable())?;
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("EC", Some("P-256")) => jwk.to_pkcs8().ok_or_else(unreadable),
        ("RSA", _) => Err(of_kind("an RSA")),
        _ => Err(of_kind("another kind of")),
    }
}

fn of_kind(kind: &str) -> String {
    format!("the old one has {kind} key, and autocertd signs with ECDSA on P-256")
}

fn pkcs8(pair: &EcdsaKeyPair) -> Option<Zeroizing<Vec<u8>>> {
    pair.to_pkcs8v1().ok().map(|document| Zeroizing::new(document.as_ref().to_vec()))
}

/// The members of a JSON Web Key that an elliptic curve key has (RFC 7518 section 6.2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    d: String,
}

impl Jwk {
    fn to_pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let secret = Zeroizing::new(decoded(&self.d)?);
        let public = [vec![UNCOMPRESSED_POINT], decoded(&self.x)?, decoded(&self.y)?].concat();
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        pkcs8(&EcdsaKeyPair::from_private_key_and_public_key(curve, &secret, &public).ok()?)
    }
}

impl Drop for Jwk {
    fn drop(&mut self) {
        self.d.zeroize();
    }
}

/// SEC 1 section 2.3.3.
const UNCOMPRESSED_POINT: u8 = 4;

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsBigEndian;
    use aws_lc_rs::signature::KeyPair as _;
    use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};

    use super::*;
    use crate::domain::server_url::PlainHttp;

    fn judged(key: AccountKey<'_>) -> TreeAccount {
        let server = ServerUrl::parse("https://ca.example/dir", PlainHttp::Refused).unwrap();
        TreeAccount::judged(RawAccount { url: Some("https://ca.example/acct/1".to_owned()), key }, &server)
    }

    #[test]
    fn only_a_key_on_p256_is_carried_over() {
        let pem = |algorithm| KeyPair::generate_for(algorithm).unwrap().serialize_pem();
        let usable = judged(AccountKey::Pem(&pem(&PKCS_ECDSA_P256_SHA256)));
        assert!(
            matches!(&usable, TreeAccount::Usable(credentials) if credentials.server() == "https://ca.example/dir")
        );
        assert_eq!(usable.url(), Some("https://ca.example/acct/1"));
        for (algorithm, word) in [(&PKCS_RSA_SHA256, "an RSA key"), (&PKCS_ECDSA_P384_SHA384, "another kind of key")] {
            let foreign = judged(AccountKey::Pem(&pem(algorithm)));
            assert!(matches!(&foreign, TreeAccount::Foreign { reason, .. } if reason.contains(word)), "{foreign:?}");
            assert_eq!(foreign.url(), Some("https://ca.example/acct/1"));
        }
        for nonsense in ["", "no key", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(judged(AccountKey::Pem(nonsense)), TreeAccount::Foreign { .. }));
            assert!(matches!(judged(AccountKey::Jwk(nonsense)), TreeAccount::Foreign { .. }));
        }
    }

    #[test]
    fn a_web_key_on_p256_is_carried_over_too() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let d = pair.private_key().as_be_bytes().unwrap();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = |x: &[u8]| {
            serde_json::json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y), "d": text(d.as_ref()) })
                .to_string()
        };
        assert!(matches!(judged(AccountKey::Jwk(&jwk(x))), TreeAccount::Usable(_)));
        assert!(matches!(judged(AccountKey::Jwk(&jwk(y))), TreeAccount::Foreign { .. }));
    }
}
