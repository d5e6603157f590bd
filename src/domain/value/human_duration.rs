//! Spans of time as people say them.

use std::fmt;

use time::Duration;

use crate::domain::value::moment::Moment;

/// A span in its two greatest units, such as `12 d 3 h`; less than nothing with a minus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_negative() {
            f.write_str("-")?;
        }
        let seconds = self.0.unsigned_abs().as_secs();
        let mut parts = UNITS.iter().scan(seconds, |left, (size, unit)| {
            let count = *left / size;
            *left %= size;
            Some((count, unit))
        });
        let Some((count, unit)) = parts.by_ref().find(|(count, _)| *count > 0) else { return f.write_str("0 s") };
        write!(f, "{count} {unit}")?;
        match parts.next() {
            Some((count, unit)) if count > 0 => write!(f, " {count} {unit}"),
            _ => Ok(()),
        }
    }
}

/// A moment as seen from another: `now`, `in 3 h`, `2 d ago`.
pub fn format_relative(now: Moment, at: Moment) -> String {
    let span = at - now;
    if span.abs() < Duration::SECOND {
        "now".to_owned()
    } else if span.is_positive() {
        format!("in {}", HumanDuration(span))
    } else {
        format!("{} ago", HumanDuration(-span))
    }
}

const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_greatest_units_tell_enough() {
        let spoken = |seconds| HumanDuration(Duration::seconds(seconds)).to_string();
        assert_eq!(spoken(12 * 86_400 + 3 * 3_600 + 59), "12 d 3 h");
        assert_eq!((spoken(86_400), spoken(86_405)), ("1 d".to_owned(), "1 d".to_owned()));
        assert_eq!(
            (spoken(95), spoken(0), spoken(-3_700)),
            ("1 min 35 s".to_owned(), "0 s".to_owned(), "-1 h 1 min".to_owned())
        );
    }

    #[test]
    fn moments_lie_ahead_or_behind() {
        let now = Moment::from_micros(1_800_000_000_000_000);
        assert_eq!(format_relative(now, now), "now");
        assert_eq!(format_relative(now, now + Duration::hours(3)), "in 3 h");
        assert_eq!(format_relative(now, now - Duration::minutes(2)), "2 min ago");
    }
}
