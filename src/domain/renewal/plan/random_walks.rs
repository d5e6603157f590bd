//! What comes of plans that are followed for long, in a model world: a clock that only the walk turns, a CA that suggests
//! and issues as it is told, and a scheduler that looks exactly when the plan wants it, and a day later at the latest.

use proptest::prelude::*;

use super::*;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::renewal::renewal_info::RenewalInfoAnswer;

const START: Moment = Moment::from_micros(1_800_000_000_000_000);
const FLEET: usize = 10_000;
const BUCKETS: usize = 20;
/// In each of 20 parts of a span, 10,000 certificates are 500, give or take 22 (the standard deviation); this is five of them.
const FLATNESS: f64 = 1.25;

/// Repeatable random numbers (`SplitMix64`).
struct Draws(u64);

impl Draws {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn up_to(&mut self, span: Duration) -> Duration {
        span * self.fraction()
    }

    fn certificate(&mut self, not_before: Moment, lifetime: Duration) -> NewestCertificate {
        let id = uuid::Uuid::from_u64_pair(self.bits(), self.bits()).into();
        NewestCertificate { id, not_before, not_after: not_before + lifetime, revoked: false, issuer: None }
    }
}

/// An order that succeeded.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Success {
    at: Moment,
    reason: RenewalReason,
    replaced: Option<NewestCertificate>,
}

struct Walk {
    facts: AutoCertificateFacts,
    now: Moment,
    lifetime: Duration,
    draws: Draws,
    /// When an order was tried, well or not.
    tries: Vec<Moment>,
    issued: Vec<Success>,
    polls: usize,
}

/// What the CA suggests for a certificate, by the moment and a random number.
type Suggests<'a> = &'a dyn Fn(&NewestCertificate, Moment, f64) -> RenewalInfoAnswer;
/// What goes wrong with an order, by a random number.
type Orders<'a> = &'a dyn Fn(f64) -> Option<Failure>;

impl Walk {
    /// A walk that begins with a certificate that was just issued.
    fn new(lifetime: Duration, seed: u64) -> Self {
        let mut draws = Draws(seed);
        let newest = draws.certificate(START, lifetime);
        let facts =
            AutoCertificateFacts { newest: Some(newest), last_issued: Some(START), ..AutoCertificateFacts::default() };
        Self { facts, now: START, lifetime, draws, tries: Vec::new(), issued: Vec::new(), polls: 0 }
    }

    fn run_until(&mut self, end: Moment, suggests: Suggests<'_>, orders: Orders<'_>) {
        let mut at_once = 0;
        while self.now < end {
            let plan = plan_renewal(&self.facts, self.now);
            assert_eq!(plan, super::plan_renewal(&self.facts.clone(), self.now), "the same facts give the same plan");
            assert!(plan.next_check <= plan.at.max(self.now), "{plan:?}");
            at_once = if plan.action == RenewalAction::Idle { 0 } else { at_once + 1 };
            assert!(at_once < 10, "a storm at {}: {plan:?}", self.now);
            match plan.action {
                RenewalAction::Idle => self.now = plan.next_check.min(self.now + Duration::DAY).min(end),
                RenewalAction::AskRenewalInfo => self.poll(suggests),
                RenewalAction::Start | RenewalAction::Resume(_) => self.order(plan.reason, orders),
                RenewalAction::CleanUp | RenewalAction::Purge => unreachable!("nothing is left over, nothing deleted"),
            }
        }
    }

    fn poll(&mut self, suggests: Suggests<'_>) {
        let newest = self.facts.newest.expect("only about a certificate that serves");
        assert!(self.now < newest.not_after, "an expired certificate is not asked about");
        self.polls += 1;
        let answer = suggests(&newest, self.now, self.draws.fraction());
        let info = RenewalInfo::after(self.facts.renewal_info.as_ref(), answer, self.now, self.draws.fraction());
        self.facts.renewal_info = Some(info);
    }

    fn order(&mut self, reason: RenewalReason, orders: Orders<'_>) {
        self.tries.push(self.now);
        match orders(self.draws.fraction()) {
            None => {
                self.issued.push(Success { at: self.now, reason, replaced: self.facts.newest });
                let newest = Some(self.draws.certificate(self.now, self.lifetime));
                self.facts =
                    AutoCertificateFacts { newest, last_issued: Some(self.now), ..AutoCertificateFacts::default() };
            }
            Some(failure) => {
                let over = matches!(failure.disposition, Disposition::Restart | Disposition::Operator);
                let (before, expiry) = (self.facts.failure_streak.as_ref(), self.facts.newest.map(|it| it.not_after));
                let trouble = FailureStreak::after(before, failure, self.now, expiry, self.draws.fraction());
                self.facts.failure_streak = Some(trouble);
                self.facts.open_attempt = (!over).then_some(StageKind::Ordered);
                self.facts.renewal_requested = false;
            }
        }
    }
}

/// Windows of all kinds, and all ways to have none.
fn any_answer(newest: &NewestCertificate, now: Moment, draw: f64) -> RenewalInfoAnswer {
    let lifetime = newest.lifetime();
    match draw * 10.0 {
        kind if kind < 1.0 => RenewalInfoAnswer::NotOffered,
        kind if kind < 2.0 => RenewalInfoAnswer::Useless("the window ends before it starts".to_owned()),
        kind if kind < 3.0 => RenewalInfoAnswer::Unreachable("HTTP 503".to_owned(), None),
        kind if kind < 4.0 => past_window(newest, now, draw),
        // From a lifetime ago to a lifetime ahead.
        kind => window(now + lifetime * ((kind - 7.0) / 3.0), lifetime * 0.02),
    }
}

/// As in a mass revocation, or in the loop of a CA that has lost its mind.
fn past_window(_: &NewestCertificate, now: Moment, _: f64) -> RenewalInfoAnswer {
    window(now - Duration::days(2), Duration::DAY)
}

/// As Let's Encrypt suggests where nothing is wrong.
fn usual_window(newest: &NewestCertificate, now: Moment, _: f64) -> RenewalInfoAnswer {
    let start = newest.not_before + newest.lifetime() * 0.66;
    let RenewalInfoAnswer::Window { window, .. } = window(start, newest.lifetime() * 0.02) else {
        unreachable!("it is one")
    };
    RenewalInfoAnswer::Window { window, explanation_url: None, retry_after: Some(now + Duration::hours(6)) }
}

fn window(start: Moment, length: Duration) -> RenewalInfoAnswer {
    let window = RenewalWindow::new(start, start + length).expect("it ends behind its start");
    RenewalInfoAnswer::Window { window, explanation_url: None, retry_after: None }
}

fn always_succeed(_: f64) -> Option<Failure> {
    None
}

/// Passing troubles of all kinds.
fn always_fail(draw: f64) -> Option<Failure> {
    let down = Disposition::ProviderDown { not_before: None };
    let down = Failure { disposition: down, message: "HTTP 503".into() };
    let failures = [Failure::retry("cut"), Failure::restart("TXT"), down];
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0, 1 or 2")]
    let chosen = (draw * 3.0) as usize;
    failures.into_iter().nth(chosen)
}

/// How far the fullest and the emptiest of equal parts of a span are from flat.
fn unevenness(moments: impl Iterator<Item = Moment>, start: Moment, span: Duration) -> f64 {
    let mut counts = [0_u32; BUCKETS];
    let mut all = 0_u32;
    for moment in moments {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the span")]
        let bucket = ((moment - start) / span * 20.0) as usize;
        counts[bucket.min(BUCKETS - 1)] += 1;
        all += 1;
    }
    let flat = f64::from(all) / 20.0;
    let ratio = |count: u32| (f64::from(count) / flat).max(flat / f64::from(count));
    counts.into_iter().map(ratio).fold(1.0, f64::max)
}

#[test]
fn a_fleet_of_one_moment_renews_evenly_by_its_lifetime() {
    let (mut draws, lifetime) = (Draws(1), Duration::days(90));
    let fleet = (0..FLEET).map(|_| renewal_moment(&draws.certificate(START, lifetime), None, START).0);
    let first = START + lifetime * (2.0 / 3.0 - JITTER_FRACTION);
    let uneven = unevenness(fleet, first, lifetime * JITTER_FRACTION);
    assert!(uneven < FLATNESS, "{uneven}");
}

#[test]
fn a_fleet_of_one_moment_renews_evenly_in_the_window_of_the_ca() {
    let (mut draws, lifetime) = (Draws(2), Duration::days(45));
    let fleet = (0..FLEET).map(|_| {
        let newest = draws.certificate(START, lifetime);
        let info = RenewalInfo::after(None, usual_window(&newest, START, 0.0), START, draws.fraction());
        renewal_moment(&newest, Some(&info), START).0
    });
    let uneven = unevenness(fleet, START + lifetime * 0.66, lifetime * 0.02);
    assert!(uneven < FLATNESS, "{uneven}");
}

/// All CAs give all certificates the same pause. The tenth by which it is stretched makes the busiest minute of a fleet that
/// was issued within one at most 350 questions after six hours and 250 after a day, and less from then on.
#[test]
fn a_fleet_of_one_minute_does_not_ask_in_one_minute() {
    let mut draws = Draws(3);
    let mut asks: Vec<Moment> = (0..FLEET).map(|_| START + draws.up_to(Duration::MINUTE)).collect();
    for most in [350, 350, 270, 250] {
        for ask_at in &mut asks {
            let newest = draws.certificate(START, Duration::days(90));
            *ask_at = RenewalInfo::after(None, usual_window(&newest, *ask_at, 0.0), *ask_at, draws.fraction()).ask_at;
        }
        let mut minutes = std::collections::HashMap::new();
        for ask_at in &asks {
            *minutes.entry((*ask_at - START).whole_minutes()).or_insert(0) += 1;
        }
        let busiest = minutes.into_values().max().unwrap();
        assert!(busiest <= most, "{busiest} questions in a minute, more than {most}");
    }
}

#[test]
fn a_window_that_is_always_over_yields_one_certificate_an_hour() {
    let mut walk = Walk::new(Duration::days(90), 4);
    walk.run_until(START + Duration::days(2), &past_window, &always_succeed);
    assert_eq!(walk.issued.len(), 47);
    assert!(walk.issued.iter().all(|success| matches!(success.reason, RenewalReason::WindowOver(_))));
}

#[test]
fn a_ca_that_is_well_is_asked_four_times_a_day_and_renews_in_its_window() {
    let mut walk = Walk::new(Duration::days(90), 5);
    walk.run_until(START + Duration::days(600), &usual_window, &always_succeed);
    assert!((9..=10).contains(&walk.issued.len()), "{:?}", walk.issued);
    assert!(walk.issued.iter().all(|success| matches!(success.reason, RenewalReason::Window(_))));
    assert!((2_150..=2_420).contains(&walk.polls), "{} questions in 600 days", walk.polls);
}

proptest! {
    #[test]
    fn never_two_successes_within_an_hour_unless_a_person_asked_or_changed_the_intent(
        seed in any::<u64>(),
        lifetime in 2i64..100,
        wishes in proptest::collection::vec((1i64..300, any::<bool>()), 0..6),
    ) {
        let mut walk = Walk::new(Duration::days(lifetime), seed);
        let moody = |draw: f64| if draw < 0.3 { always_fail(draw / 0.3) } else { None };
        for (minutes, asked) in wishes {
            walk.run_until(walk.now + Duration::minutes(minutes), &any_answer, &moody);
            walk.facts.renewal_requested |= asked;
            walk.facts.intent_changed |= !asked;
        }
        walk.run_until(walk.now + Duration::days(2), &any_answer, &moody);
        let mut before = START;
        for success in walk.issued {
            let wished = matches!(success.reason, RenewalReason::Requested | RenewalReason::IntentChanged | RenewalReason::AttemptOpen);
            prop_assert!(wished || success.at - before >= Duration::HOUR, "{success:?} after {before}");
            before = success.at;
        }
    }

    #[test]
    fn never_later_than_the_backstop(seed in any::<u64>(), lifetime in 2i64..200) {
        let lifetime = Duration::days(lifetime);
        let mut walk = Walk::new(lifetime, seed);
        walk.run_until(START + lifetime * 5, &any_answer, &always_succeed);
        prop_assert!(walk.issued.len() >= 4);
        for success in walk.issued {
            prop_assert!(success.at <= backstop(&success.replaced.unwrap()), "{success:?}");
        }
    }

    /// Failures for which the CA names no moment and nobody waits for a person: Retry-After wins, and people are asked daily.
    #[test]
    fn at_least_ten_tries_remain_before_the_expiry(seed in any::<u64>(), hours in 24i64..5_000, far in any::<bool>()) {
        let mut walk = Walk::new(Duration::hours(hours), seed);
        let expiry = START + walk.lifetime;
        // A window behind the expiry leaves only what is behind the backstop.
        let suggests = |newest: &NewestCertificate, now: Moment, draw: f64| {
            if far { window(newest.not_after, Duration::DAY) } else { any_answer(newest, now, draw) }
        };
        walk.run_until(expiry, &suggests, &always_fail);
        prop_assert!(walk.tries.len() >= 10, "{} tries", walk.tries.len());
        let pauses = walk.tries.windows(2).map(|pair| pair[1] - pair[0]);
        prop_assert!(pauses.min().unwrap() >= Duration::MINUTE);
    }

    #[test]
    fn restarts_and_other_replicas_change_nothing(seed in any::<u64>(), looks in proptest::collection::vec(1i64..3_000, 0..40)) {
        let [mut steady, mut restarted] = [(); 2].map(|()| Walk::new(Duration::days(47), seed));
        for minutes in looks {
            restarted.run_until(restarted.now + Duration::minutes(minutes), &usual_window, &always_succeed);
        }
        let end = START.max(restarted.now) + Duration::days(50);
        restarted.run_until(end, &usual_window, &always_succeed);
        steady.run_until(end, &usual_window, &always_succeed);
        prop_assert_eq!(steady.issued, restarted.issued);
        prop_assert_eq!(steady.polls, restarted.polls);
    }

    #[test]
    fn the_same_window_learned_again_keeps_the_moment(draws in proptest::collection::vec(0.0..1.0f64, 1..30), hours in 1i64..50) {
        let newest = Draws(6).certificate(START, Duration::days(90));
        let mut info: Option<RenewalInfo> = None;
        let mut moments = Vec::new();
        for (round, draw) in (0_i32..).zip(draws) {
            let now = START + Duration::hours(hours) * round;
            let answer = match round % 3 {
                1 => RenewalInfoAnswer::Unreachable("cut".to_owned(), None),
                2 => RenewalInfoAnswer::Useless("no JSON".to_owned()),
                _ => usual_window(&newest, now, 0.0),
            };
            let next = RenewalInfo::after(info.as_ref(), answer, now, draw);
            moments.push(next.suggestion.as_ref().unwrap().moment);
            info = Some(next);
        }
        prop_assert!(moments.iter().all(|moment| *moment == moments[0]));
    }

    #[test]
    fn a_clock_that_jumps_back_a_day_starts_no_storm(seed in any::<u64>(), minutes in 1i64..3_000) {
        let mut looping = Walk::new(Duration::days(90), seed);
        looping.run_until(START + Duration::minutes(minutes), &past_window, &always_succeed);
        looping.now = looping.now - Duration::DAY;
        let (jumped, before) = (looping.now, looping.issued.len());
        looping.run_until(jumped + Duration::hours(5), &past_window, &always_succeed);
        let after: Vec<Moment> = looping.issued[before..].iter().map(|success| success.at).collect();
        prop_assert!(after.windows(2).all(|pair| pair[1] - pair[0] >= Duration::HOUR), "{after:?}");
        prop_assert_eq!(after.len(), 5, "one for the jump, and one an hour");

        let mut failing = Walk::new(Duration::days(90), seed);
        failing.run_until(START + Duration::minutes(minutes), &past_window, &always_fail);
        failing.now = failing.now - Duration::DAY;
        let (jumped, before) = (failing.now, failing.tries.len());
        failing.run_until(jumped + Duration::DAY, &past_window, &always_fail);
        prop_assert!(failing.tries.len() - before <= 6, "{:?}", &failing.tries[before..]);

        let mut healthy = Walk::new(Duration::days(90), seed);
        healthy.run_until(START + Duration::minutes(minutes), &usual_window, &always_succeed);
        healthy.now = healthy.now - Duration::DAY;
        healthy.run_until(START + Duration::days(58), &usual_window, &always_succeed);
        prop_assert_eq!(healthy.issued, Vec::new());
    }
}
