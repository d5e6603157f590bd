//! The contact address of an ACME account.

use std::fmt;
use std::str::FromStr;

use crate::domain::value::text::quoted;

/// One plain e-mail address: `local@domain`, without a display name, a list or a header (RFC 8555 section 7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

/// What is wrong with a contact address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not one plain e-mail address such as admin@example.com")]
pub struct InvalidEmail(String);

impl Email {
    /// The address as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The contact URL of the account, RFC 8555 section 7.3.
    pub fn contact_url(&self) -> String {
        format!("mailto:{}", self.0)
    }
}

impl FromStr for Email {
    type Err = InvalidEmail;

    fn from_str(text: &str) -> Result<Self, InvalidEmail> {
        let plain = text.split_once('@').is_some_and(|(local, domain)| is_local_part(local) && is_domain(domain));
        if plain && text.len() <= MAX_EMAIL_LENGTH {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidEmail(quoted(text)))
        }
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A dot-atom of RFC 5322 without the `%` and `?` that a `mailto:` URL gives a meaning of its own.
fn is_local_part(local: &str) -> bool {
    local.len() <= 64
        && local.split('.').all(|atom| {
            !atom.is_empty() && atom.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&'*+-/=^_`{|}~".contains(c))
        })
}

fn is_domain(domain: &str) -> bool {
    domain.contains('.')
        && domain.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
}

/// The longest address that SMTP can carry, RFC 5321 section 4.5.3.1.3.
const MAX_EMAIL_LENGTH: usize = 254;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_address_is_taken() {
        let email: Email = "ops+acme@example.com".parse().unwrap();
        assert_eq!(email.contact_url(), "mailto:ops+acme@example.com");
    }

    #[test]
    fn lists_names_and_headers_are_refused() {
        for text in [
            "",
            "a",
            "a@",
            "@b.de",
            "a@b",
            "a b@c.de",
            "A <a@b.de>",
            "a@b.de,c@d.de",
            "mailto:a@b.de",
            "a@b.de?cc=c@d.de",
            "a@-b.de",
            "a..b@c.de",
        ] {
            assert!(text.parse::<Email>().is_err(), "{text} was taken");
        }
    }
}
