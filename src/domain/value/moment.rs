//! Moments in time, as both databases and the wire keep them.

use std::fmt;
use std::ops::{Add, Sub};

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// A moment in UTC with the precision of a microsecond.
///
/// Spans between moments are [`time::Duration`]s, which may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// Between them a clock may be right: from 2000 to the end of 9999, which is as far as RFC 3339 and X.509 go.
    pub const PLAUSIBLE: std::ops::RangeInclusive<Self> = Self(946_684_800_000_000)..=Self(253_402_300_799_999_999);

    /// The moment so many microseconds after 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The same moment cut to whole seconds, as certificates and `Retry-After` know it.
    #[must_use]
    pub const fn whole_seconds(self) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(MICROS_PER_SECOND)))
    }

    /// The moment as a date and time in UTC.
    pub fn to_date_time(self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::microseconds(self.0))
    }
}

impl From<OffsetDateTime> for Moment {
    fn from(date_time: OffsetDateTime) -> Self {
        let micros = date_time.unix_timestamp_nanos() / 1_000;
        Self(i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(saturated_micros(span)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(saturated_micros(span)))
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::microseconds(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 in UTC with a `Z`, to the second: for people and for the wire. Before the year 0 and after the year 9999, which
/// it does not know, the nearest moment that it does.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self(self.0.clamp(YEAR_0, Self::PLAUSIBLE.end().0));
        let text = known.whole_seconds().to_date_time().format(&Rfc3339).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

fn saturated_micros(span: Duration) -> i64 {
    i64::try_from(span.whole_microseconds()).unwrap_or(if span.is_negative() { i64::MIN } else { i64::MAX })
}

const MICROS_PER_SECOND: i64 = 1_000_000;
/// 0000-01-01T00:00:00Z.
const YEAR_0: i64 = -62_167_219_200_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_rfc3339_in_utc() {
        assert_eq!(Moment::from_micros(1_700_000_000_123_456).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(Moment::from_micros(-1).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn every_moment_can_be_shown() {
        for (micros, shown) in [
            (i64::MIN, "0000-01-01T00:00:00Z"),
            (-62_167_219_200_000_001, "0000-01-01T00:00:00Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59Z"),
            (253_402_300_800_000_000, "9999-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Moment::from_micros(micros).to_string(), shown);
        }
        assert!(!Moment::PLAUSIBLE.contains(&Moment::from_micros(0)));
        assert!(Moment::PLAUSIBLE.contains(&Moment::from_micros(1_800_000_000_000_000)));
    }

    #[test]
    fn spans_saturate_instead_of_wrapping() {
        assert_eq!(Moment::from_micros(i64::MAX) + Duration::days(1), Moment::from_micros(i64::MAX));
        assert_eq!(Moment::from_micros(5) - Moment::from_micros(7), Duration::microseconds(-2));
    }
}
