//! Moments in the headers of HTTP answers: when the other side wants to be asked again, and what its clock says.

use std::fmt;

use time::Duration;

use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;

/// What an answer says about when to ask again (`Retry-After`, RFC 9110 section 10.2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RetryAfter {
    /// Nothing.
    #[default]
    Absent,
    /// Not before this moment, at most a year ahead.
    At(Moment),
    /// Nothing that makes sense, which counts as nothing: no delay and no date, a date in the past, or a delay of years,
    /// as of a server that sends seconds since 1970.
    Unusable(RemoteMessage),
}

impl RetryAfter {
    /// Reads the value of the header: seconds, or a date in one of the three forms of section 5.6.7.
    pub fn parse(value: Option<&[u8]>, now: Moment) -> Self {
        let Some(value) = value else { return Self::Absent };
        let text = String::from_utf8_lossy(value);
        match parse_moment(text.trim(), now) {
            Some(at) if at >= now && at - now <= MAX_DELAY => Self::At(at),
            _ => Self::Unusable(RemoteMessage::from_bytes(value)),
        }
    }

    /// The moment, where there is one that makes sense.
    pub const fn moment(&self) -> Option<Moment> {
        match self {
            Self::At(moment) => Some(*moment),
            Self::Absent | Self::Unusable(_) => None,
        }
    }

    /// The moment, but no later than `longest` after `now`.
    pub fn within(&self, longest: Duration, now: Moment) -> Option<Moment> {
        self.moment().map(|moment| moment.min(now + longest))
    }
}

impl From<Option<Moment>> for RetryAfter {
    fn from(moment: Option<Moment>) -> Self {
        moment.map_or(Self::Absent, Self::At)
    }
}

/// What was asked for, to stand behind what happened.
impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => Ok(()),
            Self::At(moment) => write!(f, "; not before {moment}"),
            Self::Unusable(value) => write!(f, "; its Retry-After \"{value}\" makes no sense and is ignored"),
        }
    }
}

/// Reads a date in one of the three forms of RFC 9110 section 5.6.7, such as that of `Date`.
pub fn parse_http_date(value: &str) -> Option<Moment> {
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    let since_1970 = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Moment::from_micros(i64::try_from(since_1970.as_micros()).ok()?))
}

fn parse_moment(text: &str, now: Moment) -> Option<Moment> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(now + Duration::seconds(text.parse().ok()?));
    }
    parse_http_date(text)
}

/// Nobody means more.
const MAX_DELAY: Duration = Duration::days(365);

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14T22:13:20Z.
    const NOW: Moment = Moment::from_micros(1_700_000_000_000_000);

    fn read(value: &str) -> RetryAfter {
        RetryAfter::parse(Some(value.as_bytes()), NOW)
    }

    #[test]
    fn seconds_and_the_three_forms_of_dates_are_read() {
        let later = RetryAfter::At(NOW + Duration::seconds(120));
        for value in [
            "120",
            " 00120\t",
            "Tue, 14 Nov 2023 22:15:20 GMT",
            "Tuesday, 14-Nov-23 22:15:20 GMT",
            "Tue Nov 14 22:15:20 2023",
        ] {
            assert_eq!(read(value), later, "{value}");
        }
        assert_eq!(read("0"), RetryAfter::At(NOW));
        assert_eq!(read("31536000"), RetryAfter::At(NOW + Duration::days(365)));
        assert_eq!(RetryAfter::parse(None, NOW), RetryAfter::Absent);
        assert_eq!(later.to_string(), "; not before 2023-11-14T22:15:20Z");
        assert_eq!(later.within(Duration::MINUTE, NOW), Some(NOW + Duration::MINUTE));
    }

    #[test]
    fn nonsense_counts_as_nothing_and_is_shown() {
        for nonsense in [
            "",
            "soon",
            "-1",
            "+120",
            "1.5",
            "1e3",
            "NaN",
            "120, 120",
            "Tue, 14 Nov 2023",
            // Seconds since 1970, milliseconds of them, and more than fits anywhere.
            "1700000120",
            "1700000120000",
            "31536001",
            "99999999999999999999999999999",
            // In the past, and years ahead.
            "Tue, 14 Nov 2023 22:13:19 GMT",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 14 Nov 2024 22:13:20 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ] {
            assert_eq!(read(nonsense), RetryAfter::Unusable(nonsense.into()), "{nonsense}");
            assert_eq!(read(nonsense).moment(), None);
        }
        let hostile = RetryAfter::parse(Some(&[b"\x1b[31m\r\n\xff".as_slice(), &b"9".repeat(70_000)].concat()), NOW);
        assert!(hostile.to_string().len() < 2_000 && !hostile.to_string().contains(['\x1b', '\n', '\r']), "{hostile}");
        assert_eq!(read("soon").to_string(), "; its Retry-After \"soon\" makes no sense and is ignored");
    }

    #[test]
    fn a_date_is_that_of_a_clock() {
        assert_eq!(parse_http_date("Tue, 14 Nov 2023 22:13:20 GMT"), Some(NOW));
        assert_eq!(parse_http_date("now"), None);
    }
}
