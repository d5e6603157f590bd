//! The dns-persist-01 challenge (draft-ietf-acme-dns-persist), as Pebble 2.10 offers it. instant-acme does not know it: what
//! it leaves out is read from the authorization itself.

use serde::Deserialize;

/// A dns-persist-01 challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPersist01 {
    /// The names by which the CA knows itself in standing records; any of them will do.
    pub issuers: Vec<String>,
}

/// The challenge at `url` in an authorization, where that has one.
pub(super) fn parse_challenge(authorization: &[u8], url: &str) -> Option<DnsPersist01> {
    let authorization: Authorization = serde_json::from_slice(authorization).ok()?;
    let challenge = authorization.challenges.into_iter().find(|challenge| challenge.url == url)?;
    (!challenge.issuers.is_empty()).then_some(DnsPersist01 { issuers: challenge.issuers })
}

/// Its type, as authorizations name it.
pub(super) const CHALLENGE_TYPE: &str = "dns-persist-01";

#[derive(Deserialize)]
struct Authorization {
    challenges: Vec<Challenge>,
}

#[derive(Deserialize)]
struct Challenge {
    url: String,
    #[serde(default, rename = "issuer-domain-names")]
    issuers: Vec<String>,
}
