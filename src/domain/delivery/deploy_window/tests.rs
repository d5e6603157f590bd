use proptest::prelude::*;
use time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::*;

fn window(text: &str) -> DeployWindow {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn moment(text: &str) -> Moment {
    OffsetDateTime::parse(text, &Rfc3339).unwrap().into()
}

/// Each `now` with the moment at which the window opens, both with their offset from UTC.
fn check(text: &str, cases: &[(&str, &str)]) {
    let window = window(text);
    for (now, opens) in cases {
        assert_eq!(window.next_open_at(moment(now)), moment(opens), "{text}, looked at {now}");
    }
}

#[test]
fn an_open_window_is_open_now_and_a_closed_one_opens_next_time() {
    // 2026-06-01 is a Monday.
    check(
        "Mon-Fri 02:00-05:00 Europe/Berlin",
        &[
            ("2026-06-01T01:59:59+02:00", "2026-06-01T02:00:00+02:00"),
            ("2026-06-01T02:00:00+02:00", "2026-06-01T02:00:00+02:00"),
            ("2026-06-01T04:59:59+02:00", "2026-06-01T04:59:59+02:00"),
            ("2026-06-01T05:00:00+02:00", "2026-06-02T02:00:00+02:00"),
            ("2026-06-05T05:00:00+02:00", "2026-06-08T02:00:00+02:00"),
        ],
    );
    check("12:30-12:31", &[("2026-06-01T12:31:00Z", "2026-06-02T12:30:00Z")]);
    check("00:00-24:00", &[("2026-06-01T23:59:59Z", "2026-06-01T23:59:59Z")]);
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    check(
        "Sat 22:00-02:00",
        &[
            ("2026-06-06T21:00:00Z", "2026-06-06T22:00:00Z"),
            ("2026-06-07T01:59:00Z", "2026-06-07T01:59:00Z"),
            ("2026-06-07T02:00:00Z", "2026-06-13T22:00:00Z"),
            ("2026-06-06T01:00:00Z", "2026-06-06T22:00:00Z"),
        ],
    );
    check("Sat 22:00-00:00", &[("2026-06-07T00:00:00Z", "2026-06-13T22:00:00Z")]);
}

/// In Berlin the clock goes from 02:00 to 03:00 on 2026-03-29, a Sunday.
#[test]
fn the_moment_of_the_skip_stands_for_what_the_clock_skips() {
    let before = "2026-03-29T00:00:00+01:00";
    check("Sun 02:30-05:00 Europe/Berlin", &[(before, "2026-03-29T03:00:00+02:00")]);
    check("Sun 01:30-02:30 Europe/Berlin", &[("2026-03-29T03:00:00+02:00", "2026-04-05T01:30:00+02:00")]);
    // Skipped whole: right then, for half an hour.
    check(
        "Sun 02:15-02:45 Europe/Berlin",
        &[
            (before, "2026-03-29T03:00:00+02:00"),
            ("2026-03-29T03:29:00+02:00", "2026-03-29T03:29:00+02:00"),
            ("2026-03-29T03:30:00+02:00", "2026-04-05T02:15:00+02:00"),
        ],
    );
    check("Sun 02:00-03:00 Europe/Berlin", &[("2026-03-29T03:59:00+02:00", "2026-03-29T03:59:00+02:00")]);
}

/// In Berlin the clock goes from 03:00 back to 02:00 on 2026-10-25, a Sunday.
#[test]
fn of_what_the_clock_shows_twice_the_first_counts() {
    check(
        "Sun 02:15-02:45 Europe/Berlin",
        &[
            ("2026-10-25T00:00:00+02:00", "2026-10-25T02:15:00+02:00"),
            ("2026-10-25T02:45:00+02:00", "2026-11-01T02:15:00+01:00"),
            ("2026-10-25T02:20:00+01:00", "2026-11-01T02:15:00+01:00"),
        ],
    );
    // Once open it stays so.
    check("Sun 02:30-04:00 Europe/Berlin", &[("2026-10-25T02:10:00+01:00", "2026-10-25T02:10:00+01:00")]);
}

/// Samoa went over the date line by skipping Friday 2011-12-30.
#[test]
fn a_day_that_was_skipped_whole_opens_when_the_next_one_begins() {
    check("Fri 08:00-09:00 Pacific/Apia", &[("2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00")]);
}

#[test]
fn a_window_reads_back_as_people_write_it() {
    for (text, shown) in [
        ("02:00-05:00", "02:00-05:00 UTC"),
        (" mon-fri  02:00-05:00  europe/berlin ", "Mon-Fri 02:00-05:00 Europe/Berlin"),
        ("Sun,Sat,Wed 22:00-02:00", "Wed,Sat-Sun 22:00-02:00 UTC"),
        ("Fri-Mon 22:00-00:00 Asia/Kolkata", "Mon,Fri-Sun 22:00-24:00 Asia/Kolkata"),
        ("Mon-Sun 00:00-24:00", "00:00-24:00 UTC"),
    ] {
        assert_eq!(window(text).to_string(), shown);
        assert_eq!(window(shown), window(text));
    }
}

#[test]
fn an_error_names_the_wrong_part() {
    for (text, part) in [
        ("", "\"\" is no deploy window"),
        ("Mon-Fri", "\"Mon-Fri\" is no deploy window"),
        ("Mon 02:00-05:00 Europe/Berlin please", "is no deploy window"),
        ("Mon-Fry 02:00-05:00", "\"Fry\" is no day"),
        ("Mon, 02:00-05:00", "\"\" is no day"),
        ("Mon-Tue-Wed 02:00-05:00", "\"Tue-Wed\" is no day"),
        ("Mon 2:00-05:00", "\"2:00-05:00\" are no hours"),
        ("02:00", "\"02:00\" are no hours"),
        ("02:60-05:00", "are no hours"),
        ("02:00-24:01", "are no hours"),
        ("24:00-05:00", "are no hours"),
        ("+2:00-05:00", "is no deploy window"),
        ("02:00-02:00", "for whole days write 00:00-24:00"),
        ("02:00-05:00 Europe/Bern", "\"Europe/Bern\" is no time zone"),
        ("02:00-05:00 ../../etc/passwd", "is no time zone"),
    ] {
        let error = text.parse::<DeployWindow>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn at_the_end_of_all_time_a_window_is_open() {
    for now in [Moment::from_micros(i64::MAX), Moment::from_micros(i64::MIN)] {
        assert_eq!(window("Mon 02:00-05:00").next_open_at(now), now);
    }
}

prop_compose! {
    fn any_window()(
        days in 1_u8..128,
        begin in 0_i16..MINUTES_PER_DAY,
        length in 1_i16..MINUTES_PER_DAY,
        zone in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia",
            "America/Scoresbysund", "Africa/Casablanca",
        ]),
    ) -> DeployWindow {
        let end = match (begin + length) % MINUTES_PER_DAY { 0 => MINUTES_PER_DAY, end => end };
        DeployWindow {
            days: std::array::from_fn(|day| days & (1 << day) != 0),
            begin: TimeOfDay(begin),
            end: TimeOfDay(end),
            zone: TimeZone::get(zone).unwrap(),
        }
    }
}

proptest! {
    #[test]
    fn a_window_opens_soon_and_is_open_then(window in any_window(), seconds in 1_300_000_000_i64..2_500_000_000) {
        let now = Moment::from_micros(seconds * 1_000_000);
        let opens = window.next_open_at(now);
        prop_assert!(now <= opens && opens - now <= Duration::days(8), "{} at {}: {}", window, now, opens);
        prop_assert_eq!(window.next_open_at(opens), opens);
        prop_assert_eq!(window.to_string().parse::<DeployWindow>().unwrap(), window);
    }
}
