use proptest::prelude::*;

use super::*;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::Failure;
use crate::domain::provider::rate_limit_ledger::LimitKind;

const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);
const ASK_AT: Moment = Moment::from_micros(NOW.micros() + 20 * 3_600_000_000);

fn newest(lifetime: Duration, age: Duration) -> NewestCertificate {
    let not_before = NOW - age;
    NewestCertificate {
        id: uuid::Uuid::nil().into(),
        not_before,
        not_after: not_before + lifetime,
        revoked: false,
        issuer: None,
    }
}

/// A certificate whose CA offers no renewal information, as it said lately.
fn with(newest: NewestCertificate) -> AutoCertificateFacts {
    let renewal_info = RenewalInfo { suggestion: None, ask_at: ASK_AT, failures: 0, problem: None };
    AutoCertificateFacts {
        newest: Some(newest),
        last_issued: Some(newest.not_before),
        renewal_info: Some(renewal_info),
        ..AutoCertificateFacts::default()
    }
}

/// A certificate for which the CA suggests a window, so many hours from now.
fn suggested(newest: NewestCertificate, from: i64, to: i64, moment: i64) -> AutoCertificateFacts {
    let at = |hours| NOW + Duration::hours(hours);
    let suggestion = RenewalSuggestion {
        window: RenewalWindow::new(at(from), at(to)).unwrap(),
        moment: at(moment),
        explanation_url: None,
    };
    let info = RenewalInfo { suggestion: Some(suggestion), ask_at: ASK_AT, failures: 0, problem: None };
    AutoCertificateFacts { renewal_info: Some(info), ..with(newest) }
}

#[test]
fn two_thirds_of_a_long_life_and_half_of_a_short_one() {
    let long = newest(Duration::days(90), Duration::ZERO);
    assert_eq!(lifetime_moment(&long), NOW + Duration::days(60));
    let short = newest(Duration::hours(160), Duration::ZERO);
    assert_eq!(lifetime_moment(&short), NOW + Duration::hours(80));
}

#[test]
fn a_first_certificate_is_due_at_once_and_a_fresh_one_is_not() {
    assert_eq!(
        plan_renewal(&AutoCertificateFacts::default(), NOW),
        act_now(RenewalAction::Start, RenewalReason::NoCertificate, NOW)
    );
    let fresh = plan_renewal(&with(newest(Duration::days(90), Duration::days(1))), NOW);
    let ahead = idle_plan(NOW - Duration::DAY + Duration::days(60), RenewalReason::RenewalAhead);
    assert_eq!(fresh, RenewalPlan { next_check: ASK_AT, ..ahead });
    let aged = plan_renewal(&with(newest(Duration::days(90), Duration::days(61))), NOW);
    assert_eq!((aged.action, aged.reason), (RenewalAction::Start, RenewalReason::LifetimeFraction));
}

#[test]
fn the_ca_is_asked_before_anything_is_begun_about_a_certificate_that_serves() {
    let aged = newest(Duration::days(90), Duration::days(61));
    let unasked = AutoCertificateFacts { renewal_info: None, ..with(aged) };
    assert_eq!(
        plan_renewal(&unasked, NOW),
        act_now(RenewalAction::AskRenewalInfo, RenewalReason::LifetimeFraction, NOW)
    );
    for standing in [
        AutoCertificateFacts { intent_changed: true, ..unasked.clone() },
        AutoCertificateFacts { renewal_requested: true, ..unasked.clone() },
        AutoCertificateFacts { open_attempt: Some(StageKind::Ordered), ..unasked.clone() },
        AutoCertificateFacts { newest: Some(newest(Duration::days(90), Duration::days(91))), ..unasked.clone() },
        AutoCertificateFacts { newest: Some(newest(Duration::days(90), Duration::days(87))), ..with(aged) },
    ] {
        assert!(
            matches!(plan_renewal(&standing, NOW).action, RenewalAction::Start | RenewalAction::Resume(_)),
            "{standing:?}"
        );
    }
    let ahead = RenewalInfo { suggestion: None, ask_at: NOW + Duration::days(400), failures: 0, problem: None };
    assert_eq!(
        plan_renewal(&AutoCertificateFacts { renewal_info: Some(ahead), ..with(aged) }, NOW).action,
        RenewalAction::AskRenewalInfo
    );
}

#[test]
fn the_moment_in_the_window_counts_and_not_the_fraction() {
    let aged = newest(Duration::days(90), Duration::days(61));
    let ahead = plan_renewal(&suggested(aged, 10, 20, 15), NOW);
    assert_eq!((ahead.action, ahead.next_check), (RenewalAction::Idle, NOW + Duration::hours(15)));
    assert!(matches!(ahead.reason, RenewalReason::WindowAhead(_)));
    let young = newest(Duration::days(90), Duration::days(2));
    let inside = plan_renewal(&suggested(young, -10, 20, -1), NOW);
    assert!(inside.action == RenewalAction::Start && matches!(inside.reason, RenewalReason::Window(_)), "{inside:?}");
    let over = plan_renewal(&suggested(young, -10, -5, -6), NOW);
    assert!(over.action == RenewalAction::Start && matches!(over.reason, RenewalReason::WindowOver(_)), "{over:?}");
}

#[test]
fn a_window_behind_the_backstop_does_not_count() {
    let aged = newest(Duration::days(90), Duration::days(86));
    assert_eq!(plan_renewal(&suggested(aged, 1_000, 2_000, 1_500), NOW).action, RenewalAction::Start);
    let younger = newest(Duration::days(90), Duration::days(85));
    let plan = plan_renewal(&AutoCertificateFacts { renewal_info: None, ..suggested(younger, 0, 1, 0) }, NOW);
    assert_eq!(plan.action, RenewalAction::AskRenewalInfo);
    let (moment, reason) = renewal_moment(&younger, suggested(younger, 1_000, 2_000, 1_500).renewal_info.as_ref(), NOW);
    assert_eq!((moment, reason), (backstop(&younger), RenewalReason::Backstop));
}

#[test]
fn a_window_in_the_past_loops_at_most_once_an_hour() {
    let fresh = newest(Duration::days(90), Duration::seconds(2));
    let reissued = plan_renewal(&suggested(fresh, -10, -5, -6), NOW);
    assert_eq!(
        reissued,
        idle_plan(NOW - Duration::seconds(2) + MIN_TIME_BETWEEN_CERTIFICATES, RenewalReason::IssuedRecently)
    );
}

#[test]
fn a_hold_keeps_back_what_the_provider_must_do_also_where_a_person_asked() {
    let until = NOW + Duration::minutes(36);
    let held =
        |cause| AutoCertificateFacts { deferral: Some(Deferral { until, cause }), ..AutoCertificateFacts::default() };
    assert_eq!(plan_renewal(&held(DeferralCause::ProviderDown), NOW), idle_plan(until, RenewalReason::ProviderDown));
    let limited = held(DeferralCause::RateLimit {
        kind: LimitKind::Orders,
        description: "orders of the account (300 in 3 h)".to_owned(),
    });
    assert_eq!(plan_renewal(&limited, NOW), idle_plan(until, RenewalReason::RateLimited));
    assert_eq!(
        plan_renewal(&AutoCertificateFacts { renewal_requested: true, ..limited.clone() }, NOW),
        idle_plan(until, RenewalReason::RateLimited)
    );
    assert_eq!(plan_renewal(&limited, until).action, RenewalAction::Start);
    let leftover = AutoCertificateFacts { clean_up_at: Some(NOW), ..limited };
    assert_eq!(plan_renewal(&leftover, NOW).action, RenewalAction::CleanUp);
}

#[test]
fn a_deleted_certificate_is_not_replaced_twice_an_hour() {
    let standing =
        AutoCertificateFacts { last_issued: Some(NOW - Duration::minutes(10)), ..AutoCertificateFacts::default() };
    assert_eq!(plan_renewal(&standing, NOW), idle_plan(NOW + Duration::minutes(50), RenewalReason::IssuedRecently));
    let forced = AutoCertificateFacts { renewal_requested: true, ..standing };
    assert_eq!(plan_renewal(&forced, NOW).action, RenewalAction::Start);
}

#[test]
fn a_changed_intent_is_due_at_once_and_waits_only_after_failures() {
    let fresh = with(newest(Duration::days(90), Duration::minutes(1)));
    let changed = AutoCertificateFacts { intent_changed: true, ..fresh };
    assert_eq!(plan_renewal(&changed, NOW), act_now(RenewalAction::Start, RenewalReason::IntentChanged, NOW));
    let trouble = FailureStreak::after(None, Failure::operator("CAA"), NOW, None, 0.5);
    let refused = AutoCertificateFacts { failure_streak: Some(trouble.clone()), ..changed };
    assert_eq!(plan_renewal(&refused, NOW), idle_plan(trouble.next_try, RenewalReason::BackOff));
    assert_eq!(
        plan_renewal(&refused, trouble.next_try),
        act_now(RenewalAction::Start, RenewalReason::IntentChanged, trouble.next_try)
    );
}

#[test]
fn a_revoked_one_is_replaced_at_once_and_waits_only_after_failures() {
    let revoked = NewestCertificate { revoked: true, ..newest(Duration::days(90), Duration::minutes(1)) };
    let unasked = AutoCertificateFacts { renewal_info: None, ..with(revoked) };
    assert_eq!(plan_renewal(&unasked, NOW), act_now(RenewalAction::Start, RenewalReason::Revoked, NOW));
    let trouble = FailureStreak::after(None, Failure::operator("CAA"), NOW, None, 0.5);
    let refused = AutoCertificateFacts { failure_streak: Some(trouble.clone()), ..unasked };
    assert_eq!(plan_renewal(&refused, NOW), idle_plan(trouble.next_try, RenewalReason::BackOff));
    assert_eq!(
        plan_renewal(&refused, trouble.next_try),
        act_now(RenewalAction::Start, RenewalReason::Revoked, trouble.next_try)
    );
}

#[test]
fn a_failure_waits_unless_someone_asks() {
    let trouble = FailureStreak::after(None, Failure::operator("CAA"), NOW, None, 0.5);
    let standing = AutoCertificateFacts {
        failure_streak: Some(trouble.clone()),
        open_attempt: Some(StageKind::Ordered),
        ..AutoCertificateFacts::default()
    };
    assert_eq!(plan_renewal(&standing, NOW), idle_plan(trouble.next_try, RenewalReason::BackOff));
    assert_eq!(plan_renewal(&standing, trouble.next_try).action, RenewalAction::Resume(StageKind::Ordered));
    let asked = AutoCertificateFacts { renewal_requested: true, ..standing };
    assert_eq!(
        plan_renewal(&asked, NOW),
        act_now(RenewalAction::Resume(StageKind::Ordered), RenewalReason::Requested, NOW)
    );
}

#[test]
fn records_are_removed_before_a_deleted_one_is_purged() {
    let deleted = AutoCertificateFacts {
        deleted: true,
        open_attempt: Some(StageKind::Ordered),
        ..AutoCertificateFacts::default()
    };
    assert_eq!(plan_renewal(&deleted, NOW).action, RenewalAction::Purge);
    let leftover = AutoCertificateFacts { clean_up_at: Some(NOW), ..deleted.clone() };
    assert_eq!(plan_renewal(&leftover, NOW).action, RenewalAction::CleanUp);
    let later = NOW + Duration::minutes(3);
    assert_eq!(
        plan_renewal(&AutoCertificateFacts { clean_up_at: Some(later), ..deleted }, NOW),
        idle_plan(later, RenewalReason::Deleted)
    );
}

#[test]
fn leftover_records_do_not_wait_for_the_next_renewal() {
    let standing = with(newest(Duration::days(90), Duration::days(1)));
    let soon = NOW + Duration::minutes(3);
    assert_eq!(
        plan_renewal(&AutoCertificateFacts { clean_up_at: Some(soon), ..standing.clone() }, NOW).next_check,
        soon
    );
    let due = AutoCertificateFacts { clean_up_at: Some(NOW), ..standing };
    assert_eq!(plan_renewal(&due, NOW).action, RenewalAction::CleanUp);
    assert_eq!(
        plan_renewal(&AutoCertificateFacts { renewal_info: None, ..due }, NOW).action,
        RenewalAction::CleanUp,
        "before the CA is asked"
    );
}

#[test]
fn a_clock_that_was_ahead_puts_nothing_off() {
    let ahead = NOW + Duration::days(400);
    let trouble = FailureStreak::after(None, Failure::retry("x"), ahead, None, 0.5);
    let standing = AutoCertificateFacts {
        failure_streak: Some(trouble),
        last_issued: Some(ahead),
        ..AutoCertificateFacts::default()
    };
    assert_eq!(plan_renewal(&standing, NOW), act_now(RenewalAction::Start, RenewalReason::NoCertificate, NOW));
}

proptest! {
    #[test]
    fn a_renewal_is_never_later_than_its_fraction_nor_more_than_2_percent_early(bytes in any::<[u8; 16]>(), hours in 1i64..10_000) {
        let lifetime = Duration::hours(hours);
        let newest = NewestCertificate { id: uuid::Uuid::from_bytes(bytes).into(), ..newest(lifetime, Duration::ZERO) };
        let age = lifetime_moment(&newest) - newest.not_before;
        let fraction = if lifetime < SHORT_LIFETIME { 0.5 } else { 2.0 / 3.0 };
        prop_assert!(age <= lifetime * fraction + Duration::SECOND);
        prop_assert!(age >= lifetime * (fraction - 0.02) - Duration::SECOND);
    }

    #[test]
    fn a_plan_either_acts_now_or_looks_later_and_never_twice_an_hour(
        age in 0i64..4_000,
        failed in proptest::option::of(-500i64..500),
        issued in proptest::option::of(-500i64..500),
        clean_up in proptest::option::of(-500i64..500),
        (requested, changed, deleted, open) in any::<(bool, bool, bool, bool)>(),
    ) {
        let trouble = |minutes| FailureStreak::after(None, Failure::retry("x"), NOW - Duration::minutes(minutes), None, 0.3);
        let standing = AutoCertificateFacts {
            failure_streak: failed.map(trouble),
            renewal_requested: requested,
            intent_changed: changed,
            last_issued: issued.map(|minutes| NOW - Duration::minutes(minutes)),
            clean_up_at: clean_up.map(|minutes| NOW + Duration::minutes(minutes)),
            open_attempt: open.then_some(StageKind::Ordered),
            deleted,
            ..with(newest(Duration::hours(2_160), Duration::hours(age)))
        };
        let plan = plan_renewal(&standing, NOW);
        prop_assert_eq!(plan.action == RenewalAction::Idle, plan.next_check > NOW);
        let lately = issued.is_some_and(|minutes| (0..60).contains(&minutes));
        prop_assert!(!lately || requested || changed || plan.action != RenewalAction::Start);
        prop_assert!(!deleted || matches!(plan.action, RenewalAction::Idle | RenewalAction::CleanUp | RenewalAction::Purge));
        prop_assert!(plan.action != RenewalAction::Purge || clean_up.is_none());
        prop_assert!(!requested || deleted || matches!(plan.action, RenewalAction::Start | RenewalAction::Resume(_)));
    }
}
