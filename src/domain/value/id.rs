//! Identifiers: one type for each kind of thing, all of them UUIDs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is no UUID where an identifier was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct ParseIdError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The bare UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| ParseIdError)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

id!(
    /// Names a provider: an ACME CA with an account.
    ProviderId
);
id!(
    /// Names an auto-certificate: the wish for a certificate that is kept fresh.
    AutoCertificateId
);
id!(
    /// Names a certificate, uploaded or issued.
    CertificateId
);
id!(
    /// Names one attempt to obtain a certificate.
    AttemptId
);
id!(
    /// Names one TXT record in the journal of challenge records.
    ChallengeRecordId
);
id!(
    /// Names the delivery of one auto-certificate to one place.
    DeliveryId
);
id!(
    /// Names an API token.
    TokenId
);
