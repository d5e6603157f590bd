//! What opens a service and ends one day, such as the token of a DNS service: when it ends, and when to warn of it.

use time::Duration;

use crate::domain::moment::Moment;

/// A credential whose end is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What it is, in words, such as "the token of dns.ionos".
    pub what: String,
    /// When it ends.
    pub expires: Moment,
}

impl Credential {
    /// What to say of it at `now`: nothing until 30 days ahead of its end.
    pub fn caution(&self, now: Moment) -> Option<String> {
        let left = self.expires - now;
        if left > WARNED_AHEAD {
            return None;
        }
        let (what, expires) = (&self.what, self.expires);
        Some(if left <= Duration::ZERO {
            format!("{what} expired at {expires}; give a new one")
        } else {
            format!("{what} expires in {} at {expires}; give a new one before", days(left))
        })
    }
}

fn days(left: Duration) -> String {
    match left.whole_days() {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// A token lives at most 365 days, and whoever makes new ones may be on holiday.
const WARNED_AHEAD: Duration = Duration::days(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_from_thirty_days_ahead() {
        let expires = Moment::from_micros(1_700_000_000_000_000);
        let credential = Credential { what: "the token".to_owned(), expires };
        let caution = |left: Duration| credential.caution(expires - left);
        assert_eq!(caution(Duration::days(31)), None);
        assert!(
            caution(Duration::days(30)).unwrap().starts_with("the token expires in 30 days at 2023-11-14T22:13:20Z")
        );
        assert!(caution(Duration::days(1)).unwrap().contains("in 1 day at"));
        assert!(caution(Duration::hours(5)).unwrap().contains("in less than a day at"));
        assert!(caution(Duration::ZERO).unwrap().starts_with("the token expired at"));
    }
}
