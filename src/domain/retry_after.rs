//! Moments in the headers of HTTP answers: when the other side wants to be asked again, and what its clock says.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, PrimitiveDateTime};

use crate::domain::moment::Moment;

/// Reads `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date in the form that section 5.6.7 prefers. What is
/// beyond 366 days counts as that.
pub fn retry_after(value: &str, now: Moment) -> Option<Moment> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = value.parse().unwrap_or(i64::MAX).min(LONGEST_WAIT.whole_seconds());
        return Some(now + Duration::seconds(seconds));
    }
    Some(http_date(value)?.min(now + LONGEST_WAIT))
}

/// Reads a date in the form that RFC 9110 section 5.6.7 prefers, such as that of `Date`.
pub fn http_date(value: &str) -> Option<Moment> {
    let date = PrimitiveDateTime::parse(value.trim(), HTTP_DATE).ok()?;
    Some(date.assume_utc().into())
}

const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// What a `Retry-After` of nonsense counts as.
const LONGEST_WAIT: Duration = Duration::days(366);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let now = Moment::from_micros(1_700_000_000_000_000);
        assert_eq!(retry_after("120", now), Some(now + Duration::seconds(120)));
        assert_eq!(retry_after("Tue, 14 Nov 2023 22:15:20 GMT", now), Some(now + Duration::seconds(120)));
        assert_eq!(retry_after("99999999999999999999", now), Some(now + LONGEST_WAIT));
        for nonsense in ["", "-1", "soon", "Tue, 14 Nov 2023"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }
}
