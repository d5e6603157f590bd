//! Private keys of ACME accounts, read as other tools keep them, and signatures with them (RFC 7518). Our own are ECDSA
//! keys on P-256; an account with another key is handed over to such a one.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;
use zeroize::{Zeroize, Zeroizing};

use crate::domain::certificate::leaf::is_encrypted_key;

/// The private key of an ACME account.
pub struct AccountKey(AccountKeyPair);

enum AccountKeyPair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A text that is no key which an ACME account could have here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableAccountKey {
    /// It is no key at all.
    #[error("it is neither a private key in PEM (PKCS#8, PKCS#1 or SEC1) nor a JSON Web Key")]
    Unreadable,
    /// Only a passphrase opens it.
    #[error(
        "it is encrypted with a passphrase; decrypt it with `openssl pkey -in KEY -out NEWKEY` and give the new file"
    )]
    Encrypted,
    /// It is a key of another kind.
    #[error("it is neither an RSA key of 2048 to 8192 bits nor one on the curve P-256 or P-384")]
    UnsupportedKind,
}

impl AccountKey {
    /// Reads a key from PEM (PKCS#8, PKCS#1 or SEC1), or from a JSON Web Key (RFC 7517), as certbot keeps it.
    ///
    /// # Errors
    /// Where it is neither, or of another kind.
    pub fn parse(text: &str) -> Result<Self, UnusableAccountKey> {
        if text.trim_start().starts_with('{') { Self::from_jwk(text) } else { Self::from_pem(text) }
    }

    /// The key as PKCS#8 DER, where it is on P-256, so that an account can go on with it.
    pub fn p256_pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        let AccountKeyPair::P256(pair) = &self.0 else { return None };
        pair.to_pkcs8v1().ok().map(|document| Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Whether it is an RSA key.
    pub const fn is_rsa(&self) -> bool {
        matches!(self.0, AccountKeyPair::Rsa(_))
    }

    pub(super) fn from_p256_pkcs8(pkcs8: &[u8]) -> Result<Self, UnusableAccountKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8);
        pair.map(|pair| Self(AccountKeyPair::P256(pair))).map_err(|_| UnusableAccountKey::Unreadable)
    }

    /// The algorithm that signatures with it name, RFC 7518 section 3.1.
    pub(super) const fn algorithm(&self) -> &'static str {
        match self.0 {
            AccountKeyPair::P256(_) => "ES256",
            AccountKeyPair::P384(_) => "ES384",
            AccountKeyPair::Rsa(_) => "RS256",
        }
    }

    /// Its public half as a JSON Web Key; none where it cannot be written, which aws-lc-rs does not do.
    pub(super) fn public_jwk(&self) -> Option<Value> {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match &self.0 {
            AccountKeyPair::P256(pair) | AccountKeyPair::P384(pair) => {
                let (_, point) = pair.public_key().as_ref().split_first()?;
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if matches!(self.0, AccountKeyPair::P256(_)) { P256 } else { P384 };
                Some(json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) }))
            }
            AccountKeyPair::Rsa(pair) => {
                let der = pair.public_key().as_der().ok()?;
                let (_, info) = SubjectPublicKeyInfo::from_der(der.as_ref()).ok()?;
                let Ok(PublicKey::RSA(public)) = info.parsed() else { return None };
                Some(
                    json!({ "kty": "RSA", "n": text(strip_leading_zeros(public.modulus)), "e": text(strip_leading_zeros(public.exponent)) }),
                )
            }
        }
    }

    /// Signs as [`Self::algorithm`] says; none where the key cannot, which a key that was read can.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.0 {
            AccountKeyPair::P256(pair) | AccountKeyPair::P384(pair) => {
                pair.sign(&random, message).ok().map(|signature| signature.as_ref().to_vec())
            }
            AccountKeyPair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }

    fn from_pem(text: &str) -> Result<Self, UnusableAccountKey> {
        if is_encrypted_key(text) {
            return Err(UnusableAccountKey::Encrypted);
        }
        let der = PrivateKeyDer::from_pem_slice(text.as_bytes());
        let der = der.map(Zeroizing::new).map_err(|_| UnusableAccountKey::Unreadable)?;
        let on = |curve| EcdsaKeyPair::from_private_key_der(curve, der.secret_der()).ok();
        let rsa = || match &*der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
            der => RsaKeyPair::from_pkcs8(der.secret_der()).ok(),
        };
        let pair = on(&ECDSA_P256_SHA256_FIXED_SIGNING).map(AccountKeyPair::P256);
        let pair = pair.or_else(|| on(&ECDSA_P384_SHA384_FIXED_SIGNING).map(AccountKeyPair::P384));
        match pair.or_else(|| rsa().map(AccountKeyPair::Rsa)) {
            Some(pair) => Ok(Self(pair)),
            None if rcgen::KeyPair::try_from(&*der).is_ok() => Err(UnusableAccountKey::UnsupportedKind),
            None => Err(UnusableAccountKey::Unreadable),
        }
    }

    fn from_jwk(text: &str) -> Result<Self, UnusableAccountKey> {
        let jwk: Jwk = serde_json::from_str(text).map_err(|_| UnusableAccountKey::Unreadable)?;
        let pair = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("EC", Some(P256)) => jwk.to_ecdsa_key_pair(&ECDSA_P256_SHA256_FIXED_SIGNING).map(AccountKeyPair::P256),
            ("EC", Some(P384)) => jwk.to_ecdsa_key_pair(&ECDSA_P384_SHA384_FIXED_SIGNING).map(AccountKeyPair::P384),
            ("RSA", _) => jwk.to_rsa_key_pair().map(AccountKeyPair::Rsa),
            _ => return Err(UnusableAccountKey::UnsupportedKind),
        };
        pair.map(Self).ok_or(UnusableAccountKey::Unreadable)
    }
}

/// Of the key its kind alone.
impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountKey({})", self.algorithm())
    }
}

/// The members of a JSON Web Key that private keys have, in base64url: those on curves RFC 7518 section 6.2, RSA keys
/// section 6.3.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    d: String,
    #[serde(default)]
    p: String,
    #[serde(default)]
    q: String,
    #[serde(default)]
    dp: String,
    #[serde(default)]
    dq: String,
    #[serde(default)]
    qi: String,
}

impl Jwk {
    fn to_ecdsa_key_pair(&self, curve: &'static EcdsaSigningAlgorithm) -> Option<EcdsaKeyPair> {
        let secret = decode_secret(&self.d)?;
        let public = [vec![UNCOMPRESSED_POINT], decode(&self.x)?, decode(&self.y)?].concat();
        EcdsaKeyPair::from_private_key_and_public_key(curve, &secret, &public).ok()
    }

    fn to_rsa_key_pair(&self) -> Option<RsaKeyPair> {
        let (n, e) = (decode(&self.n)?, decode(&self.e)?);
        let components = KeyPairComponents {
            public_key: PublicKeyComponents { n: strip_leading_zeros(&n), e: strip_leading_zeros(&e) },
            d: &decode_secret(&self.d)?[..],
            p: &decode_secret(&self.p)?[..],
            q: &decode_secret(&self.q)?[..],
            dP: &decode_secret(&self.dp)?[..],
            dQ: &decode_secret(&self.dq)?[..],
            qInv: &decode_secret(&self.qi)?[..],
        };
        RsaKeyPair::from_components(&components).ok()
    }
}

impl Drop for Jwk {
    fn drop(&mut self) {
        for secret in [&mut self.d, &mut self.p, &mut self.q, &mut self.dp, &mut self.dq, &mut self.qi] {
            secret.zeroize();
        }
    }
}

fn decode_secret(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    decode(text).map(Zeroizing::new)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// A number without the zeros that DER puts before it (RFC 7518 section 2 has none).
fn strip_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

const P256: &str = "P-256";
const P384: &str = "P-384";
/// SEC 1 section 2.3.3.
const UNCOMPRESSED_POINT: u8 = 4;

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsBigEndian;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    };
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};

    use super::*;

    fn pem(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
        KeyPair::generate_for(algorithm).unwrap().serialize_pem()
    }

    #[test]
    fn keys_are_read_from_pem_and_sign_as_they_say() {
        let kinds: [(_, _, &'static dyn VerificationAlgorithm); 3] = [
            (&PKCS_ECDSA_P256_SHA256, "ES256", &ECDSA_P256_SHA256_FIXED),
            (&PKCS_ECDSA_P384_SHA384, "ES384", &ECDSA_P384_SHA384_FIXED),
            (&PKCS_RSA_SHA256, "RS256", &RSA_PKCS1_2048_8192_SHA256),
        ];
        for (algorithm, name, verification) in kinds {
            let key = AccountKey::parse(&pem(algorithm)).unwrap();
            assert_eq!((key.algorithm(), key.p256_pkcs8().is_some()), (name, name == "ES256"));
            let signature = key.sign(b"message").unwrap();
            let public = match &key.0 {
                AccountKeyPair::P256(pair) | AccountKeyPair::P384(pair) => pair.public_key().as_ref().to_vec(),
                AccountKeyPair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            };
            UnparsedPublicKey::new(verification, public).verify(b"message", &signature).unwrap();
        }
    }

    #[test]
    fn a_web_key_on_a_curve_is_read() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let d = BASE64_URL_SAFE_NO_PAD.encode(pair.private_key().as_be_bytes().unwrap().as_ref());
        let mut jwk = AccountKey(AccountKeyPair::P384(pair)).public_jwk().unwrap();
        jwk["d"] = d.into();
        let read = AccountKey::parse(&jwk.to_string()).unwrap();
        jwk["d"].take();
        assert_eq!(read.algorithm(), "ES384");
        jwk["x"] = jwk["y"].clone();
        assert_eq!(AccountKey::parse(&jwk.to_string()).unwrap_err(), UnusableAccountKey::Unreadable);
    }

    #[test]
    fn what_is_no_account_key_is_told_apart() {
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(AccountKey::parse(encrypted).unwrap_err(), UnusableAccountKey::Encrypted);
        let public_only = AccountKey::parse(&pem(&PKCS_RSA_SHA256)).unwrap().public_jwk().unwrap().to_string();
        for text in
            ["", "no key", "{}", "{", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", &public_only]
        {
            assert_eq!(AccountKey::parse(text).unwrap_err(), UnusableAccountKey::Unreadable, "{text}");
        }
        for text in [pem(&PKCS_ED25519), r#"{"kty": "OKP", "crv": "Ed25519"}"#.to_owned()] {
            assert_eq!(AccountKey::parse(&text).unwrap_err(), UnusableAccountKey::UnsupportedKind);
        }
    }

    #[test]
    fn a_key_shows_only_its_kind() {
        assert_eq!(format!("{:?}", AccountKey::parse(&pem(&PKCS_ECDSA_P256_SHA256)).unwrap()), "AccountKey(ES256)");
    }
}
