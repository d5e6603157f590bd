//! Whether the clock is right, as far as that can be known (decision 12 of the renewal design): what CAs say the time is,
//! what the clock showed before, and how long it has run since by a clock that nobody can set. Pure.

use time::Duration;

use crate::domain::value::moment::Moment;

/// What a clock showed after so much running time, summed over all starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The running time.
    pub uptime: Duration,
    /// What the clock showed then.
    pub shown: Moment,
}

/// What is kept of a clock across starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockRecord {
    /// Some readings of the last day of running time and the last one before that, in the order of time.
    pub readings: Vec<ClockReading>,
    /// The latest moment that anything may have been written at.
    pub latest_moment: Moment,
}

/// What CAs say of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockVerdict {
    /// Every one that told its time agrees within an hour.
    Right,
    /// One does not agree.
    Wrong,
    /// None has told its time since the start.
    Unknown,
}

/// What a look at the clock has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockCheck {
    /// Whether it was set since the last look, or this is the first one.
    pub was_set: bool,
    /// By how much it was ahead when something was written; nothing where it was not.
    pub was_ahead: Option<Duration>,
    /// Whether the record is to be kept now.
    pub should_store: bool,
}

/// What is known about whether the clock is right. Running times are those of this process.
#[derive(Clone, Debug)]
pub struct ClockEvidence {
    ca_times: Vec<CaTime>,
    record: ClockRecord,
    /// The running time of the starts before this one.
    earlier_uptime: Duration,
    last_reading: Option<ClockReading>,
}

/// The time that a CA told, and when.
#[derive(Clone, Debug)]
struct CaTime {
    host: String,
    reported: Moment,
    uptime: Duration,
}

impl ClockEvidence {
    /// Nothing is known.
    pub const NONE: Self = Self {
        ca_times: Vec::new(),
        record: ClockRecord { readings: Vec::new(), latest_moment: Moment::from_micros(i64::MIN) },
        earlier_uptime: Duration::ZERO,
        last_reading: None,
    };

    /// Notes the time that a CA has told just now.
    pub fn record_ca_time(&mut self, host: &str, told: Moment, running: Duration) {
        self.ca_times.retain(|known| known.host != host);
        if self.ca_times.len() >= MAX_CAS {
            self.ca_times.remove(0);
        }
        self.ca_times.push(CaTime { host: host.to_owned(), reported: told, uptime: running });
    }

    /// What CAs say of a clock that shows `now`.
    pub fn verdict(&self, now: Moment, running: Duration) -> ClockVerdict {
        let off = |ca: &CaTime| (now - (ca.reported + (running - ca.uptime))).abs();
        match self.ca_times.iter().map(off).max() {
            None => ClockVerdict::Unknown,
            Some(off) if off <= TOLERANCE => ClockVerdict::Right,
            Some(_) => ClockVerdict::Wrong,
        }
    }

    /// Whether anything was looked at since the start.
    pub const fn is_unchecked(&self) -> bool {
        self.last_reading.is_none()
    }

    /// Goes on from what was kept of the starts before this one.
    pub fn restore(&mut self, record: ClockRecord) {
        self.earlier_uptime = record.readings.last().map_or(Duration::ZERO, |last| last.uptime);
        self.record = record;
    }

    /// Looks at the clock, which shows `now`.
    pub fn check(&mut self, now: Moment, running: Duration) -> ClockCheck {
        let reading = ClockReading { uptime: self.earlier_uptime + running, shown: now };
        let expected = self.last_reading.map(|last| last.shown + (reading.uptime - last.uptime));
        let was_set = expected.is_none_or(|expected| (now - expected).abs() > MAX_NTP_CORRECTION);
        let latest = self.record.latest_moment.max(now);
        self.record.latest_moment = expected.map_or(latest, |expected| latest.max(expected));
        self.last_reading = Some(reading);
        let kept = self.record.readings.last();
        let is_to_be_kept = was_set || kept.is_none_or(|kept| reading.uptime - kept.uptime >= READING_INTERVAL);
        if is_to_be_kept {
            self.record.push_reading(reading);
        }
        let ahead = self.record.latest_moment - now;
        ClockCheck { was_set, was_ahead: (ahead > MAX_NTP_CORRECTION).then_some(ahead), should_store: is_to_be_kept }
    }

    /// What was written by a clock that was ahead is mended: from now on what it shows counts.
    pub fn accept_current_time(&mut self) {
        let Some(last) = self.last_reading else { return };
        self.record.latest_moment = last.shown;
        self.record.readings.retain(|reading| reading.shown <= last.shown);
        self.record.push_reading(last);
    }

    /// What was over by this moment may be deleted: all that the clock says where every CA agrees with it, else what it has
    /// said for a day of running time without a break.
    pub fn deletable_until(&self, now: Moment, running: Duration) -> Option<Moment> {
        if self.verdict(now, running) == ClockVerdict::Right {
            return Some(now);
        }
        let a_day_ago = self.earlier_uptime + running - TRUSTED_UPTIME;
        let first = self.record.readings.iter().rposition(|reading| reading.uptime <= a_day_ago)?;
        self.record.readings.iter().skip(first).map(|reading| reading.shown).chain([now]).min()
    }

    /// What is to be kept across starts.
    pub const fn record(&self) -> &ClockRecord {
        &self.record
    }
}

impl ClockRecord {
    fn push_reading(&mut self, reading: ClockReading) {
        if self.readings.last() != Some(&reading) {
            self.readings.push(reading);
        }
        let a_day_ago = reading.uptime - TRUSTED_UPTIME;
        let needed = self.readings.iter().rposition(|reading| reading.uptime <= a_day_ago).unwrap_or_default();
        self.readings.drain(..needed);
        while self.readings.len() > MAX_READINGS {
            // Of a clock that is set over and over, what it showed at the least stays known.
            let second = self.readings.remove(1);
            self.readings[0].shown = self.readings[0].shown.min(second.shown);
        }
    }
}

/// By which a CA's `Date` may be off.
const TOLERANCE: Duration = Duration::HOUR;
/// What the keeper of a clock corrects every day.
const MAX_NTP_CORRECTION: Duration = Duration::MINUTE;
/// So much running time makes a clock believable.
const TRUSTED_UPTIME: Duration = Duration::DAY;
const READING_INTERVAL: Duration = Duration::minutes(20);
const MAX_READINGS: usize = 200;
const MAX_CAS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_micros(1_800_000_000_000_000);
    const AHEAD: Duration = Duration::days(400);

    /// Lets time pass with a look every ten minutes, the clock being ahead by so much.
    fn pass(evidence: &mut ClockEvidence, running: &mut Duration, span: Duration, ahead: Duration) {
        let end = *running + span;
        while *running < end {
            *running += Duration::minutes(10).min(end - *running);
            evidence.check(START + *running + ahead, *running);
        }
    }

    #[test]
    fn a_clock_is_believed_with_the_cas_or_after_a_day() {
        let (mut evidence, mut running) = (ClockEvidence::NONE, Duration::ZERO);
        assert_eq!(evidence.deletable_until(START, running), None);
        pass(&mut evidence, &mut running, Duration::hours(23), Duration::ZERO);
        assert_eq!(evidence.deletable_until(START + running, running), None);
        evidence.record_ca_time("ca.example", START + running + Duration::minutes(59), running);
        assert_eq!(evidence.verdict(START + running, running), ClockVerdict::Right);
        assert_eq!(evidence.deletable_until(START + running, running), Some(START + running));
        evidence.record_ca_time("other.example", START + running + Duration::minutes(61), running);
        assert_eq!(evidence.verdict(START + running, running), ClockVerdict::Wrong);
        assert_eq!(evidence.deletable_until(START + running, running), None);
        pass(&mut evidence, &mut running, Duration::hours(5), Duration::ZERO);
        let until = evidence.deletable_until(START + running, running).unwrap();
        let behind = START + running - until;
        assert!(behind >= TRUSTED_UPTIME && behind < TRUSTED_UPTIME + Duration::HOUR, "{behind}");
    }

    #[test]
    fn a_clock_that_jumps_is_not_believed_for_a_day_of_running_time_over_all_starts() {
        let (mut evidence, mut running) = (ClockEvidence::NONE, Duration::ZERO);
        pass(&mut evidence, &mut running, Duration::hours(30), Duration::ZERO);
        pass(&mut evidence, &mut running, Duration::hours(12), AHEAD);
        assert!(evidence.deletable_until(START + running + AHEAD, running).unwrap() < START + running);
        let record = evidence.record().clone();
        let (mut again, mut running) = (ClockEvidence::NONE, Duration::ZERO);
        again.restore(record);
        pass(&mut again, &mut running, Duration::hours(11), AHEAD);
        assert!(again.deletable_until(START + running + AHEAD, running).unwrap() < START + Duration::hours(42));
        pass(&mut again, &mut running, Duration::hours(2), AHEAD);
        assert!(again.deletable_until(START + running + AHEAD, running).unwrap() > START + AHEAD);
    }

    #[test]
    fn that_it_was_ahead_is_noticed_at_once_and_after_a_restart() {
        let (mut evidence, mut running) = (ClockEvidence::NONE, Duration::ZERO);
        pass(&mut evidence, &mut running, Duration::HOUR, AHEAD);
        let record = evidence.record().clone();
        let back = evidence.check(START + running + Duration::minutes(5), running + Duration::minutes(5));
        assert_eq!(back, ClockCheck { was_set: true, was_ahead: Some(AHEAD), should_store: true });
        evidence.accept_current_time();
        let later = evidence.check(START + running + Duration::minutes(6), running + Duration::minutes(6));
        assert_eq!(later, ClockCheck { was_set: false, was_ahead: None, should_store: false });

        let mut again = ClockEvidence::NONE;
        again.restore(record);
        assert!(again.is_unchecked());
        let back = again.check(START + Duration::hours(2), Duration::ZERO);
        assert!(back.was_ahead.is_some_and(|ahead| ahead > AHEAD - Duration::hours(2)), "{back:?}");
        again.accept_current_time();
        assert_eq!(again.check(START + Duration::hours(3), Duration::HOUR).was_ahead, None);
    }

    #[test]
    fn a_step_back_within_what_has_passed_is_noticed_and_a_step_ahead_is_none_back() {
        let mut evidence = ClockEvidence::NONE;
        evidence.check(START, Duration::ZERO);
        let look = evidence.check(START + Duration::minutes(5), Duration::minutes(15));
        assert_eq!(look.was_ahead, Some(Duration::minutes(10)));
        evidence.accept_current_time();
        let look = evidence.check(START + AHEAD, Duration::minutes(16));
        assert_eq!((look.was_set, look.was_ahead), (true, None));
    }

    proptest! {
        #[test]
        fn the_record_stays_small_and_nothing_is_deleted_before_its_moment(
            steps in prop::collection::vec((0i64..3_000, -500_000i64..500_000), 1..400),
        ) {
            let (mut evidence, mut running) = (ClockEvidence::NONE, Duration::ZERO);
            for (minutes, off) in steps {
                running += Duration::minutes(minutes);
                let now = START + running + Duration::minutes(off);
                evidence.check(now, running);
                prop_assert!(evidence.record().readings.len() <= MAX_READINGS);
                prop_assert!(evidence.deletable_until(now, running).is_none_or(|until| until <= now));
            }
        }
    }
}
