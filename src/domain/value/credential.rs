//! What opens a service and ends one day, such as the token of a DNS service: when it ends, and when to warn of it.

use std::fmt;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde::Deserialize;
use time::Duration;

use crate::domain::value::moment::Moment;

/// A credential whose end is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What it is, in words, such as "the token of dns.ionos".
    pub what: String,
    /// When it ends.
    pub expires: Moment,
}

impl Credential {
    /// A token that tells its own end: a JSON Web Token with `exp` (RFC 7519 section 4.1.4). Nothing where it is another
    /// kind of token. Its signature is the service's business.
    pub fn from_token(what: String, token: &str) -> Option<Self> {
        let [_, claims, _] = token.trim().split('.').collect::<Vec<_>>().try_into().ok()?;
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
        let Claims { exp } = serde_json::from_slice(&claims).ok()?;
        let expires = Moment::from_micros(0) + Duration::checked_seconds_f64(exp)?;
        Some(Self { what, expires })
    }

    /// Whether it has ended by `now`.
    pub fn is_expired(&self, now: Moment) -> bool {
        self.expires <= now
    }

    /// What to say of it at `now`: nothing until 30 days ahead of its end.
    pub fn expiry_warning(&self, now: Moment) -> Option<String> {
        let left = self.expires - now;
        if left > WARNING_PERIOD {
            return None;
        }
        let (what, expires) = (&self.what, self.expires);
        Some(if self.is_expired(now) {
            format!("{what} expired at {expires}; give a new one")
        } else {
            format!("{what} expires in {} at {expires}; give a new one before", format_days(left))
        })
    }
}

/// What the credential is and when it ends, whether that is soon or not.
impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is valid until {}", self.what, self.expires)
    }
}

#[derive(Deserialize)]
struct Claims {
    /// Seconds since the epoch, perhaps with a fraction.
    exp: f64,
}

fn format_days(left: Duration) -> String {
    match left.whole_days() {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// A token lives at most 365 days, and whoever makes new ones may be on holiday.
const WARNING_PERIOD: Duration = Duration::days(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_from_thirty_days_ahead() {
        let expires = Moment::from_micros(1_700_000_000_000_000);
        let credential = Credential { what: "the token".to_owned(), expires };
        let caution = |left: Duration| credential.expiry_warning(expires - left);
        assert_eq!(caution(Duration::days(31)), None);
        assert!(
            caution(Duration::days(30)).unwrap().starts_with("the token expires in 30 days at 2023-11-14T22:13:20Z")
        );
        assert!(caution(Duration::days(1)).unwrap().contains("in 1 day at"));
        assert!(caution(Duration::hours(5)).unwrap().contains("in less than a day at"));
        assert!(caution(Duration::ZERO).unwrap().starts_with("the token expired at"));
    }

    #[test]
    fn a_json_web_token_tells_its_own_end() {
        let token = |claims: &str| format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let read = |token: &str| Credential::from_token("the token".to_owned(), token).map(|read| read.expires);
        let expires = Moment::from_micros(1_700_000_000_000_000);
        assert_eq!(read(&token(r#"{"iss": "ionoscloud", "exp": 1700000000}"#)), Some(expires));
        assert_eq!(read(&format!("{}\n", token(r#"{"exp": 1700000000.0}"#))), Some(expires));
        assert!(read(&token(r#"{"exp": 1e18}"#)).is_some_and(|end| !end.to_string().is_empty()));
        for other in ["", "a.b.c", "not-a-jwt", &token("{}"), &token(r#"{"exp": "soon"}"#), &token(r#"{"exp": 1e300}"#)]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
