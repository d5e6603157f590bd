//! The MAC key of an external account binding (RFC 8555 section 7.3.4). The RFC wants base64url without padding; CAs hand
//! out both alphabets, padded or not, and other ACME clients take them all.

use std::fmt;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// The key as it was given: base64 text. What it decodes to is the key of HMAC-SHA-256.
#[derive(Clone)]
pub struct MacKey(SecretString);

/// Why a text is no MAC key. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMacKey {
    /// It is blank, or padding alone.
    #[error("is empty")]
    Empty,
    /// It is longer than any CA's.
    #[error("is longer than {LONGEST_TEXT} characters")]
    TooLong,
    /// A character is in neither alphabet.
    #[error("is not base64, which has letters, digits and `+/-_=` alone; give the HMAC key as the CA shows it")]
    NotBase64,
    /// No number of bytes has a base64 text of this length.
    #[error("is not base64: a character is missing or too many; give the HMAC key as the CA shows it")]
    Length,
}

impl MacKey {
    /// Reads a key: either alphabet or both, with or without padding (the wrong amount, too), with any bits in the last
    /// character, blanks around it and line breaks within it.
    ///
    /// # Errors
    /// Where it is no base64 of at least one byte.
    pub fn parse(text: &str) -> Result<Self, InvalidMacKey> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        decode(text)?;
        Ok(Self(SecretString::from(text)))
    }

    /// A key as a store holds it. The former release did not look at it, so that it may be none.
    pub fn from_stored(text: impl Into<SecretString>) -> Self {
        Self(text.into())
    }

    /// The bytes of the key.
    ///
    /// # Errors
    /// Where a stored text is no key.
    pub fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, InvalidMacKey> {
        decode(self.0.expose_secret())
    }

    /// The text, for sealing.
    pub const fn sealable(&self) -> &SecretString {
        &self.0
    }

    /// Whether both are the same key, in whichever spelling.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.bytes(), other.bytes()) {
            (Ok(one), Ok(other)) => one == other,
            _ => self.expose_secret() == other.expose_secret(),
        }
    }
}

impl ExposeSecret<str> for MacKey {
    fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey([REDACTED])")
    }
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, InvalidMacKey> {
    if text.len() > LONGEST_TEXT {
        return Err(InvalidMacKey::TooLong);
    }
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}').trim_end_matches('=');
    // As Go's decoder does, with which most ACME clients read it: line breaks within are passed over.
    let characters = text.chars().filter(|c| !matches!(c, '\r' | '\n')).map(|c| match c {
        '+' => '-',
        '/' => '_',
        c => c,
    });
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    plain.extend(characters);
    if plain.is_empty() {
        return Err(InvalidMacKey::Empty);
    }
    if !plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err(InvalidMacKey::NotBase64);
    }
    LENIENT.decode(plain.as_bytes()).map(Zeroizing::new).map_err(|_| InvalidMacKey::Length)
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Many times the longest that a CA hands out.
const LONGEST_TEXT: usize = 4096;

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_taken_as_other_clients_take_it() {
        for (text, bytes) in [
            ("c2VjcmV0LWtleQ", b"secret-key".as_slice()),
            ("c2VjcmV0LWtleQ==", b"secret-key"),
            ("c2VjcmV0LWtleQ=", b"secret-key"),
            ("c2VjcmV0LWtleQ======", b"secret-key"),
            (" c2VjcmV0LWtleQ\r\n", b"secret-key"),
            ("\u{feff}c2VjcmV0\nLWtleQ==\n", b"secret-key"),
            // Any bits may follow the last byte.
            ("c2VjcmV0LWtleR", b"secret-key"),
            ("-_-_", &[0xfb, 0xff, 0xbf]),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
            ("+_-/", &[0xfb, 0xff, 0xbf]),
            // Of the official Terraform provider's tests.
            ("secret", &[0xb1, 0xe7, 0x2b, 0x7a]),
            ("ab+/cg==", &[0x69, 0xbf, 0xbf, 0x72]),
            ("provider-secret-nKj", b"\xa6\xba\x2f\x89\xd7\xab\xfa\xc7\x9c\xad\xeb\x7e\x9c\xa8"),
        ] {
            let key = MacKey::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(key.bytes().unwrap().as_slice(), bytes, "{text:?}");
            assert!(!format!("{key:?}").contains("c2V"));
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let too_long = "a".repeat(LONGEST_TEXT + 1);
        for (text, expected) in [
            ("", InvalidMacKey::Empty),
            (" \n", InvalidMacKey::Empty),
            ("==", InvalidMacKey::Empty),
            ("s p a c e", InvalidMacKey::NotBase64),
            ("c2Vj=cmV0", InvalidMacKey::NotBase64),
            ("c2Vj\u{0}cmV0", InvalidMacKey::NotBase64),
            ("gehe\u{ed}mnis", InvalidMacKey::NotBase64),
            ("${EAB_KEY}", InvalidMacKey::NotBase64),
            ("a", InvalidMacKey::Length),
            ("abcde", InvalidMacKey::Length),
            (too_long.as_str(), InvalidMacKey::TooLong),
        ] {
            assert_eq!(MacKey::parse(text).err(), Some(expected), "{text:?}");
            assert!(text.len() < 3 || !expected.to_string().contains(text));
        }
    }

    #[test]
    fn a_stored_text_that_is_no_key_is_found_when_it_is_used() {
        let stored = |text: &str| MacKey::from_stored(text);
        assert_eq!(stored("not a key").bytes().err(), Some(InvalidMacKey::NotBase64));
        assert_eq!(stored(" c2VjcmV0\n").bytes().unwrap().as_slice(), b"secret");
        assert!(stored("c2VjcmV0LWtleQ==").is_same(&MacKey::parse("c2VjcmV0LWtleQ").unwrap()));
        assert!(stored("not a key").is_same(&stored("not a key")));
        assert!(!stored("not a key").is_same(&stored("c2VjcmV0")));
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_key_is_the_key(key in proptest::collection::vec(any::<u8>(), 1..100)) {
            for text in [BASE64_STANDARD.encode(&key), BASE64_URL_SAFE_NO_PAD.encode(&key)] {
                let read = MacKey::parse(&text).unwrap().bytes().unwrap();
                prop_assert_eq!(read.as_slice(), key.as_slice());
            }
        }

        #[test]
        fn no_text_brings_it_down(text in any::<String>()) {
            let _ = MacKey::parse(&text);
        }
    }
}
