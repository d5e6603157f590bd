//! `[[acme.limits]]`: how many orders and certificates a CA allows, for those that say so. What Let's Encrypt publishes is
//! known without any setting.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::Duration;
use url::Url;

use crate::config::ConfigError;
use crate::config::acme::AcmeSection;
use crate::config::time_span::TimeSpan;
use crate::domain::provider::rate_limit_ledger::{CaLimits, RateLimit};
use crate::domain::value::server_url::ServerUrl;

/// The limits of one CA. What is left out is as it is known of that CA, which is without limit but for Let's Encrypt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsEntry {
    /// The directory of the CA, as its providers have it.
    pub server: String,
    /// Orders of an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<LimitSetting>,
    /// New certificates of a registered domain, from all accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates_of_domain: Option<LimitSetting>,
    /// Certificates for exactly the same names, from all accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates_of_name_set: Option<LimitSetting>,
    /// Failed validations of a name by an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_of_name: Option<LimitSetting>,
}

/// A limit as the settings write it: `300 in 3h`, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSetting(Option<RateLimit>);

/// A text that is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no limit; write a count and a span between 1s and 366d, such as \"300 in 3h\", or \"none\"")]
pub struct InvalidLimitSetting(String);

impl AcmeSection {
    /// The limits of the CA with this directory.
    pub fn limits_for(&self, server: &ServerUrl) -> CaLimits {
        let url = Url::parse(server.as_str()).ok();
        let known = url.as_ref().and_then(Url::host_str).map_or(CaLimits::NONE, known_limits);
        let entry = self.limits.iter().find(|entry| url.is_some() && Url::parse(&entry.server).ok() == url);
        entry.map_or(known, |entry| entry.merge_over(known))
    }

    /// Looks whether each entry is about a CA of its own.
    pub(in crate::config) fn check_limits(&self) -> Result<(), ConfigError> {
        let mut seen = Vec::with_capacity(self.limits.len());
        for entry in &self.limits {
            let fault = |fault| Err(ConfigError::InvalidLimits { server: entry.server.clone(), fault });
            if let Err(error) = ServerUrl::parse(&entry.server, self.plain_http()) {
                return fault(error.to_string());
            }
            let url = Url::parse(&entry.server);
            if seen.contains(&url) {
                return fault("there are two of this server; write its limits into one".to_owned());
            }
            seen.push(url);
        }
        Ok(())
    }
}

impl LimitsEntry {
    fn merge_over(&self, known: CaLimits) -> CaLimits {
        let chosen = |own: Option<LimitSetting>, known| own.map_or(known, |limit| limit.0);
        CaLimits {
            orders_per_account: chosen(self.orders, known.orders_per_account),
            certificates_per_domain: chosen(self.certificates_of_domain, known.certificates_per_domain),
            certificates_per_name_set: chosen(self.certificates_of_name_set, known.certificates_per_name_set),
            failed_validations_per_name: chosen(self.failures_of_name, known.failed_validations_per_name),
        }
    }
}

fn known_limits(host: &str) -> CaLimits {
    match host {
        "acme-v02.api.letsencrypt.org" => CaLimits::LETS_ENCRYPT,
        "acme-staging-v02.api.letsencrypt.org" => CaLimits::LETS_ENCRYPT_STAGING,
        _ => CaLimits::NONE,
    }
}

impl FromStr for LimitSetting {
    type Err = InvalidLimitSetting;

    fn from_str(text: &str) -> Result<Self, InvalidLimitSetting> {
        if text == UNLIMITED {
            return Ok(Self(None));
        }
        let rate = || {
            let (count, span) = text.split_once(" in ")?;
            let span = Duration::try_from(span.parse::<TimeSpan>().ok()?.duration()).ok()?;
            let sensible = (Duration::SECOND..=MAX_SPAN).contains(&span);
            RateLimit::new(count.parse().ok()?, span).filter(|_| sensible)
        };
        rate().map(|rate| Self(Some(rate))).ok_or_else(|| InvalidLimitSetting(text.to_owned()))
    }
}

impl fmt::Display for LimitSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rate) = self.0 else { return f.write_str(UNLIMITED) };
        let millis = u64::try_from(rate.span().whole_milliseconds()).unwrap_or_default();
        write!(f, "{} in {}", rate.count(), TimeSpan::millis(millis))
    }
}

impl<'de> Deserialize<'de> for LimitSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for LimitSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const UNLIMITED: &str = "none";
const MAX_SPAN: Duration = Duration::days(366);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::value::server_url::PlainHttpPolicy;

    fn section(text: &str) -> AcmeSection {
        toml::from_str(text).unwrap()
    }

    fn limits(section: &AcmeSection, server: &str) -> CaLimits {
        section.limits_for(&ServerUrl::parse(server, PlainHttpPolicy::Allowed).unwrap())
    }

    #[test]
    fn the_limits_of_lets_encrypt_are_known_by_its_host() {
        let none = AcmeSection::default();
        assert_eq!(limits(&none, "https://acme-v02.api.letsencrypt.org/directory"), CaLimits::LETS_ENCRYPT);
        assert_eq!(
            limits(&none, "https://acme-staging-v02.api.letsencrypt.org/directory"),
            CaLimits::LETS_ENCRYPT_STAGING
        );
        assert_eq!(limits(&none, "https://ca.example/acme-v02.api.letsencrypt.org"), CaLimits::NONE);
    }

    #[test]
    fn what_is_set_stands_and_what_is_left_out_is_as_it_is_known() {
        let section = section(
            "[[limits]]\nserver = 'https://CA.example:443/dir'\norders = '3 in 10m'\n\
             [[limits]]\nserver = 'https://acme-v02.api.letsencrypt.org/directory'\norders = '900 in 3h'\n\
             certificates_of_domain = 'none'\n",
        );
        let of_ca = limits(&section, "https://ca.example/dir");
        assert_eq!(of_ca, CaLimits { orders_per_account: RateLimit::new(3, Duration::minutes(10)), ..CaLimits::NONE });
        let raised = limits(&section, "https://acme-v02.api.letsencrypt.org/directory");
        let orders = RateLimit::new(900, Duration::hours(3));
        assert_eq!(
            raised,
            CaLimits { orders_per_account: orders, certificates_per_domain: None, ..CaLimits::LETS_ENCRYPT }
        );
        assert_eq!(limits(&section, "https://other.example/dir"), CaLimits::NONE);
    }

    #[test]
    fn limits_read_and_print() {
        for text in ["300 in 3h", "1 in 1s", "30000 in 7d", "5 in 90s", UNLIMITED] {
            assert_eq!(text.parse::<LimitSetting>().unwrap().to_string(), text);
        }
        for text in ["", "300", "0 in 3h", "-1 in 3h", "300 in", "300 in 3", "300 in 10ms", "1 in 367d", "None", "3h"] {
            assert!(text.parse::<LimitSetting>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_entry_is_about_a_server_of_its_own() {
        let fault = |text: &str| section(text).check_limits().unwrap_err().to_string();
        let twice = "[[limits]]\nserver = 'https://ca.example'\n[[limits]]\nserver = 'https://ca.example/'\n";
        let expected = "[[acme.limits]] https://ca.example/: there are two of this server; write its limits into one";
        assert_eq!(fault(twice), expected);
        assert!(fault("[[limits]]\nserver = 'http://ca.example/dir'\n").contains("is not an https URL"));
        assert!(section("allow_http = true\n[[limits]]\nserver = 'http://ca.example/dir'\n").check_limits().is_ok());
        assert!(toml::from_str::<AcmeSection>("[[limits]]\norders = '3 in 1h'\n").is_err());
        assert!(toml::from_str::<AcmeSection>("[[limits]]\nserver = 'https://a.b'\norder = '3 in 1h'\n").is_err());
    }
}
