//! The section `[acme]`: how certificate authorities are spoken to. Which ones, the providers say.

pub mod limits;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::acme::limits::LimitsEntry;
use crate::config::time_span::TimeSpan;
use crate::domain::value::server_url::PlainHttpPolicy;

/// Settings of the ACME client, the same for every provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeSection {
    /// Whether the terms of service of the CAs in use have been read and are accepted. Default `false`.
    pub accept_terms_of_service: bool,
    /// PEM files with the roots of private CAs, trusted beside those of the system. Default none.
    pub extra_roots: Vec<PathBuf>,
    /// Whether a CA may be spoken to without TLS; for tests only. Default `false`.
    pub allow_http: bool,
    /// How long one call may take, answer included. Default `30s`.
    pub timeout: TimeSpan,
    /// How long one run waits for an order to become ready, and again for its certificate. Default `5m`.
    pub poll_timeout: TimeSpan,
    /// The first pause between two looks at an order, where the CA names none; later ones grow. Default `1s`.
    pub first_poll: TimeSpan,
    /// The longest pause between two looks at an order, where the CA names none. Default `10s`.
    pub longest_poll: TimeSpan,
    /// The limits of CAs, where they are not those that Let's Encrypt publishes. Default none.
    pub limits: Vec<LimitsEntry>,
}

impl AcmeSection {
    /// Whether a provider may have a server without TLS.
    pub const fn plain_http(&self) -> PlainHttpPolicy {
        if self.allow_http { PlainHttpPolicy::Allowed } else { PlainHttpPolicy::Refused }
    }
}

impl Default for AcmeSection {
    fn default() -> Self {
        Self {
            accept_terms_of_service: false,
            extra_roots: Vec::new(),
            allow_http: false,
            timeout: TimeSpan::seconds(30),
            poll_timeout: TimeSpan::seconds(300),
            first_poll: TimeSpan::seconds(1),
            longest_poll: TimeSpan::seconds(10),
            limits: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_has_the_safe_defaults() {
        let section: AcmeSection = toml::from_str("").unwrap();
        assert_eq!(section, AcmeSection::default());
        assert!(!section.accept_terms_of_service && !section.allow_http);
        assert_eq!(
            toml::from_str::<AcmeSection>(r#"poll_timeout = "2m""#).unwrap().poll_timeout,
            TimeSpan::seconds(120)
        );
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        assert!(toml::from_str::<AcmeSection>("accept_terms = true").is_err());
    }
}
