//! Spans of time in settings: a number with its unit, such as `30s`, `10m`, `36h` or `30d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time as the settings write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(Duration);

/// A text that is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a span of time; write a number with its unit: 500ms, 30s, 10m, 36h or 30d")]
pub struct InvalidTimeSpan(String);

impl TimeSpan {
    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The span for timers.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for TimeSpan {
    type Err = InvalidTimeSpan;

    fn from_str(text: &str) -> Result<Self, InvalidTimeSpan> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let millis_per_unit = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, millis)| *millis);
        number
            .parse::<u64>()
            .ok()
            .zip(millis_per_unit)
            .and_then(|(number, millis)| number.checked_mul(millis))
            .map(Self::millis)
            .ok_or_else(|| InvalidTimeSpan(text.to_owned()))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (unit, per) = UNITS
            .iter()
            .rev()
            .map(|(unit, per)| (*unit, u128::from(*per)))
            .find(|(_, per)| millis >= *per && millis.is_multiple_of(*per))
            .unwrap_or(("ms", 1));
        write!(f, "{}{unit}", millis / per)
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Units and their milliseconds, growing.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_print_in_their_largest_unit() {
        for (text, seconds, printed) in [("90s", 90, "90s"), ("10m", 600, "10m"), ("48h", 172_800, "2d")] {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!((span.duration().as_secs(), span.to_string().as_str()), (seconds, printed));
        }
        assert_eq!(TimeSpan::millis(1_500).to_string(), "1500ms");
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in ["", "10", "s", "-1s", "1.5h", "1y", "99999999999999999999d"] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text} was taken");
        }
    }
}
