//! The key algorithms that a certificate may be asked for.

use std::fmt;
use std::str::FromStr;

use crate::domain::value::text::quoted;

/// A key algorithm of the Certificate Manager API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
    /// ECDSA on NIST P-256.
    Secp256r1,
    /// ECDSA on NIST P-384.
    Secp384r1,
}

/// A key algorithm that the API does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown key algorithm {0}; use one of rsa2048, rsa3072, rsa4096, secp256r1, secp384r1")]
pub struct UnknownKeyAlgorithm(String);

impl KeyAlgorithm {
    /// Every algorithm, in the order of the API's documentation.
    pub const ALL: [Self; 5] = [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::Secp256r1, Self::Secp384r1];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
            Self::Secp256r1 => "secp256r1",
            Self::Secp384r1 => "secp384r1",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyAlgorithm {
    type Err = UnknownKeyAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownKeyAlgorithm> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| UnknownKeyAlgorithm(quoted(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_and_others_do_not() {
        for algorithm in KeyAlgorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
        }
        assert!("RSA2048".parse::<KeyAlgorithm>().is_err());
    }
}
