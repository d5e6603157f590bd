//! Deploy windows: the hours in which a renewed certificate may be activated, by the clock on a wall somewhere.
//!
//! The rules of time zones are those of the machine (`/usr/share/zoneinfo`), which are kept up to date, or, where it has
//! none, those that were built in.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::value::moment::Moment;
use crate::domain::value::text::quoted;

/// Days of the week, hours of the day and a time zone, such as `Mon-Fri 02:00-05:00 Europe/Berlin`.
///
/// Hours that end before they begin end on the next day; the window belongs to the day on which it begins. Where the
/// clock skips its beginning or end, the moment of the skip stands for it, and a window that is skipped whole opens right
/// then for its usual length. Where the clock shows its beginning or end twice, the first time counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployWindow {
    /// From Monday on.
    days: [bool; 7],
    begin: TimeOfDay,
    /// Never midnight at the day's beginning.
    end: TimeOfDay,
    zone: TimeZone,
}

/// What is wrong with the text of a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDeployWindow {
    /// It has not two or three parts, or one without days.
    #[error(
        "{0} is no deploy window; write days, hours and a time zone, such as \"Mon-Fri 02:00-05:00 Europe/Berlin\""
    )]
    Parts(String),
    /// A day that is none.
    #[error("{0} is no day; write Mon, Tue, Wed, Thu, Fri, Sat or Sun, ranges such as Mon-Fri, and commas between")]
    Day(String),
    /// Hours that are none.
    #[error("{0} are no hours; write them from 00:00 to 24:00, such as 02:00-05:00")]
    Hours(String),
    /// Hours without a length.
    #[error("the hours {0} end as they begin; for whole days write 00:00-24:00")]
    Empty(String),
    /// A time zone that is none.
    #[error("{0} is no time zone; write a name of the IANA database, such as Europe/Berlin or UTC")]
    Zone(String),
}

impl DeployWindow {
    /// The first moment from `now` on at which the window is open: `now` itself where it is.
    pub fn next_open_at(&self, now: Moment) -> Moment {
        self.next_opening(now).unwrap_or(now)
    }

    /// Nothing only where `now` lies at the end of all time.
    fn next_opening(&self, now: Moment) -> Option<Moment> {
        let today = Timestamp::from_microsecond(now.micros()).ok()?.to_zoned(self.zone.clone()).date();
        let mut date = today.yesterday().ok()?;
        loop {
            if self.days[usize::from(date.weekday().to_monday_zero_offset().unsigned_abs())] {
                let (begin, end) = self.span_on(date)?;
                if now < end {
                    return Some(now.max(begin));
                }
            }
            date = date.tomorrow().ok()?;
        }
    }

    /// The beginning and the end of the window of this day.
    fn span_on(&self, date: Date) -> Option<(Moment, Moment)> {
        let begin = self.begin.on_date(date)?;
        let end =
            if self.begin < self.end { self.end.on_date(date)? } else { self.end.on_date(date.tomorrow().ok()?)? };
        let (opens, closes) = (first_occurrence(&self.zone, begin)?, first_occurrence(&self.zone, end)?);
        let closes = if opens < closes { closes } else { opens.checked_add(end.duration_since(begin)).ok()? };
        Some((Moment::from_micros(opens.as_microsecond()), Moment::from_micros(closes.as_microsecond())))
    }
}

/// The first moment at which the clock shows this time, or a later one where it skips it.
fn first_occurrence(zone: &TimeZone, time: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(time);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => {
            let before = ambiguous.earlier().ok()?;
            zone.following(before).next().map(|transition| transition.timestamp())
        }
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
    }
}

/// Minutes since midnight, that of the day's end included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TimeOfDay(i16);

impl TimeOfDay {
    const MIDNIGHT: Self = Self(0);
    const NEXT_MIDNIGHT: Self = Self(MINUTES_PER_DAY);

    fn on_date(self, date: Date) -> Option<DateTime> {
        let since_midnight = SignedDuration::from_mins(self.0.into());
        date.to_datetime(Time::midnight()).checked_add(since_midnight).ok()
    }
}

impl FromStr for DeployWindow {
    type Err = InvalidDeployWindow;

    fn from_str(text: &str) -> Result<Self, InvalidDeployWindow> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let begins_with_hours = parts.first().is_some_and(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        let (days, hours, zone) = match *parts.as_slice() {
            [hours] if begins_with_hours => (None, hours, None),
            [hours, zone] if begins_with_hours => (None, hours, Some(zone)),
            [days, hours] => (Some(days), hours, None),
            [days, hours, zone] => (Some(days), hours, Some(zone)),
            _ => return Err(InvalidDeployWindow::Parts(quoted(text))),
        };
        let days = days.map_or(Ok([true; 7]), parse_days)?;
        let (begin, end) = parse_hours(hours)?;
        let zone = zone.unwrap_or(DEFAULT_ZONE);
        let zone = TimeZone::get(zone).map_err(|_| InvalidDeployWindow::Zone(quoted(zone)))?;
        Ok(Self { days, begin, end, zone })
    }
}

fn parse_days(text: &str) -> Result<[bool; 7], InvalidDeployWindow> {
    let mut days = [false; 7];
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (mut day, last) = (parse_day(first)?, parse_day(last)?);
        days[day] = true;
        while day != last {
            day = (day + 1) % days.len();
            days[day] = true;
        }
    }
    Ok(days)
}

fn parse_day(text: &str) -> Result<usize, InvalidDeployWindow> {
    let found = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text));
    found.ok_or_else(|| InvalidDeployWindow::Day(quoted(text)))
}

fn parse_hours(text: &str) -> Result<(TimeOfDay, TimeOfDay), InvalidDeployWindow> {
    let both = text.split_once('-').and_then(|(begin, end)| Some((parse_time(begin)?, parse_time(end)?)));
    match both {
        Some((begin, end)) if begin == end => Err(InvalidDeployWindow::Empty(quoted(text))),
        Some((begin, TimeOfDay::MIDNIGHT)) => Ok((begin, TimeOfDay::NEXT_MIDNIGHT)),
        Some((begin, end)) if begin < TimeOfDay::NEXT_MIDNIGHT => Ok((begin, end)),
        _ => Err(InvalidDeployWindow::Hours(quoted(text))),
    }
}

/// Two digits, a colon and two digits.
fn parse_time(text: &str) -> Option<TimeOfDay> {
    let (hour, minute) = text.split_once(':')?;
    let number = |part: &str| {
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<i16>().ok().filter(|_| digits)
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let time = TimeOfDay(hour * MINUTES_PER_HOUR + minute);
    (minute < MINUTES_PER_HOUR && time <= TimeOfDay::NEXT_MIDNIGHT).then_some(time)
}

/// Reads back as the same window.
impl fmt::Display for DeployWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            write!(f, "{} ", format_days(self.days))?;
        }
        write!(f, "{}-{} {}", self.begin, self.end, self.zone.iana_name().unwrap_or(DEFAULT_ZONE))
    }
}

/// Neighbours as ranges, from Monday on.
fn format_days(days: [bool; 7]) -> String {
    let numbers: Vec<usize> = (0..days.len()).filter(|day| days[*day]).collect();
    let ranges = numbers.chunk_by(|day, next| day + 1 == *next).map(|range| match range {
        [day] => DAYS[*day].to_owned(),
        [first, .., last] => format!("{}-{}", DAYS[*first], DAYS[*last]),
        [] => String::new(),
    });
    ranges.collect::<Vec<_>>().join(",")
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / MINUTES_PER_HOUR, self.0 % MINUTES_PER_HOUR)
    }
}

impl<'de> Deserialize<'de> for DeployWindow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for DeployWindow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DEFAULT_ZONE: &str = "UTC";
const MINUTES_PER_HOUR: i16 = 60;
const MINUTES_PER_DAY: i16 = 24 * MINUTES_PER_HOUR;

#[cfg(test)]
mod tests;
