//! ACME accounts of other tools. Ours sign with ECDSA on P-256, so that only an account with such a key can be carried
//! over as it is; any other one is named, and a new one is registered in its place.

use zeroize::Zeroizing;

use crate::acme::{AccountCredentials, AccountKey, UnusableAccountKey};
use crate::domain::value::server_url::ServerUrl;
use crate::import::servers::successor_directory;

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
    /// Its key: PEM, or a JSON Web Key.
    pub(super) key: &'a str,
}

impl TreeAccount {
    /// Judges an account at `server`.
    pub(super) fn from_raw(raw: RawAccount<'_>, server: &ServerUrl) -> Self {
        let foreign = |url, reason: String| Self::Foreign { url, reason };
        match (usable_key(raw.key), raw.url) {
            (Err(reason), url) => foreign(url, reason),
            (Ok(_), None) => foreign(None, "the URL of the old one is not written down".to_owned()),
            (Ok(_), Some(url)) if successor_directory(&url).is_some() => foreign(
                Some(url),
                "the URL of the old one is of ACMEv1; autocertd account adopt finds its present one".to_owned(),
            ),
            (Ok(key), Some(url)) => match AccountCredentials::from_registered(&url, server, &key) {
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
fn usable_key(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let kind = match AccountKey::parse(text) {
        Ok(key) => match key.p256_pkcs8() {
            Some(pkcs8) => return Ok(pkcs8),
            None if key.is_rsa() => "an RSA",
            None => "another kind of",
        },
        Err(UnusableAccountKey::UnsupportedKind) => "another kind of",
        Err(UnusableAccountKey::Encrypted) => return Err("the key of the old one is encrypted".to_owned()),
        Err(UnusableAccountKey::Unreadable) => return Err("the key of the old one cannot be read".to_owned()),
    };
    Err(format!("the old one has {kind} key, and autocertd signs with ECDSA on P-256"))
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};

    use super::*;
    use crate::domain::value::server_url::PlainHttpPolicy;

    fn judged(key: &str) -> TreeAccount {
        let server = ServerUrl::parse("https://ca.example/dir", PlainHttpPolicy::Refused).unwrap();
        TreeAccount::from_raw(RawAccount { url: Some("https://ca.example/acct/1".to_owned()), key }, &server)
    }

    #[test]
    fn only_a_key_on_p256_is_carried_over() {
        let pem = |algorithm| KeyPair::generate_for(algorithm).unwrap().serialize_pem();
        let usable = judged(&pem(&PKCS_ECDSA_P256_SHA256));
        assert!(
            matches!(&usable, TreeAccount::Usable(credentials) if credentials.server() == "https://ca.example/dir")
        );
        assert_eq!(usable.url(), Some("https://ca.example/acct/1"));
        for (algorithm, words) in [
            (&PKCS_RSA_SHA256, "an RSA key"),
            (&PKCS_ECDSA_P384_SHA384, "another kind of key"),
            (&PKCS_ED25519, "another kind of key"),
        ] {
            let foreign = judged(&pem(algorithm));
            assert!(matches!(&foreign, TreeAccount::Foreign { reason, .. } if reason.contains(words)), "{foreign:?}");
            assert_eq!(foreign.url(), Some("https://ca.example/acct/1"));
        }
        for nonsense in ["", "no key", "{}", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(judged(nonsense), TreeAccount::Foreign { .. }));
        }
    }
}
