//! PEM blocks (RFC 7468), cut out of a text as they stand there.

use secrecy::{ExposeSecret, SecretString};

use crate::domain::certificate::leaf::is_encrypted_key;
use crate::domain::certificate::leaf_error::LeafError;

/// A block of a PEM text.
struct PemBlock<'a> {
    label: &'a str,
    text: &'a str,
}

/// The certificates of a text, each as a PEM text of its own.
pub(super) fn certificates(text: &str) -> Vec<String> {
    blocks(text)
        .into_iter()
        .filter(|block| block.label == "CERTIFICATE")
        .map(|block| with_final_newline(block.text))
        .collect()
}

/// The private keys of a text, each as a PEM text of its own in the form in which it is there: PKCS#8, PKCS#1 or SEC1.
/// The parameters that OpenSSL writes before a SEC1 key are left out; the key says the same.
pub(super) fn private_keys(text: &str) -> Vec<SecretString> {
    let keys = blocks(text).into_iter().filter(|block| block.label.ends_with("PRIVATE KEY"));
    keys.map(|block| SecretString::from(with_final_newline(block.text))).collect()
}

/// The first private key of a text.
pub(super) fn private_key(text: &str) -> Result<SecretString, LeafError> {
    let key = private_keys(text).into_iter().next().ok_or(LeafError::UnreadableKey)?;
    if is_encrypted_key(key.expose_secret()) { Err(LeafError::EncryptedKey) } else { Ok(key) }
}

fn blocks(text: &str) -> Vec<PemBlock<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        rest = begun;
        let Some((label, body)) = begun.split_once("-----") else { break };
        let end = format!("{END}{label}-----");
        if let Some(length) = body.find(&end).filter(|_| !label.contains('\n')) {
            let start = text.len() - begun.len() - BEGIN.len();
            let stop = text.len() - body.len() + length + end.len();
            found.push(PemBlock { label, text: &text[start..stop] });
            rest = &text[stop..];
        }
    }
    found
}

fn with_final_newline(block: &str) -> String {
    format!("{block}\n")
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cut_out_and_what_is_around_them_is_left() {
        let certificate = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        let key = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        let parameters = "-----BEGIN EC PARAMETERS-----\nAA==\n-----END EC PARAMETERS-----\n";
        let (one, two) = (certificate("AAAA"), certificate("BBBB"));
        let text = format!("# a comment\n{one}\n{parameters}{key}subject=x\n{two}");
        assert_eq!(certificates(&text), [one.clone(), two]);
        let keys: Vec<_> = private_keys(&text).iter().map(|key| key.expose_secret().to_owned()).collect();
        assert_eq!(keys, [key]);
        assert_eq!(certificates(&format!("-----BEGIN CERTIFICATE-----\ncut {one}")).len(), 1);
        for broken in ["", "-----BEGIN ", "-----BEGIN CERTIFICATE-----", "-----BEGIN A\nB-----x-----END A\nB-----"] {
            assert!(certificates(broken).is_empty() && private_keys(broken).is_empty(), "{broken}");
        }
    }
}
