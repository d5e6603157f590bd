use time::Duration;

use super::*;
use crate::domain::certificate::NewestCertificate;
use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::deferral::{Deferral, DeferralCause};
use crate::domain::failure::disposition::Failure;
use crate::domain::provider::rate_limit_ledger::LimitKind;
use crate::domain::renewal::attempt::StageKind;
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::renewal::preflight::Preflight;
use crate::domain::renewal::renewal_info::{RenewalInfo, RenewalSuggestion, RenewalWindow};
use crate::domain::report::forecast::Forecast;
use crate::domain::value::resource::{Actor, Audit};

const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

fn planned(number: usize, standing: AutoCertificateFacts) -> PlannedAutoCertificate {
    let name = format!("host{number:02}.example.com");
    let subject = AutoCertificate {
        id: uuid::Uuid::from_u128(number as u128).into(),
        name: name.parse().unwrap(),
        provider: uuid::Uuid::nil().into(),
        common_name: name.parse().unwrap(),
        key_algorithm: KeyAlgorithm::Secp256r1,
        subject_alternative_names: Vec::new(),
        profile: None,
        audit: Audit::new(Actor::autocertd(), NOW),
        standing,
    };
    let outlook = Forecast::from_facts(&subject.standing, NOW);
    PlannedAutoCertificate { auto_certificate: subject, forecast: outlook }
}

fn serving(days_left: i64) -> AutoCertificateFacts {
    let not_after = NOW + Duration::days(days_left);
    let newest = NewestCertificate {
        id: uuid::Uuid::nil().into(),
        not_before: not_after - Duration::days(90),
        not_after,
        revoked: false,
        issuer: None,
    };
    let info = RenewalInfo { suggestion: None, ask_at: NOW + Duration::HOUR, failures: 0, problem: None };
    AutoCertificateFacts { newest: Some(newest), renewal_info: Some(info), ..AutoCertificateFacts::default() }
}

/// Fifty auto-certificates in mixed states.
fn fleet() -> Vec<PlannedAutoCertificate> {
    let trouble = |failure, failures| {
        let first = FailureStreak::after(None, failure, NOW - Duration::SECOND, None, 0.5);
        Some(FailureStreak { failures, ..first })
    };
    let caa = "caa-check.example refused to take the order: HTTP 403, CAA record for host00.example.com prevents issuance \
               (caa). What to do: let the CA issue in the CAA records of the name, or remove them";
    let down = "ca.example could not take the order: HTTP 503, the service is down for maintenance";
    let limit = DeferralCause::RateLimit {
        kind: LimitKind::Domain,
        description: "new certificates of example.com (50 in 7 d)".to_owned(),
    };
    let in_window = |days: i64| {
        let start = NOW + Duration::days(days);
        let window = RenewalWindow::new(start, start + Duration::days(2)).unwrap();
        let suggestion = RenewalSuggestion { window, moment: start + Duration::HOUR, explanation_url: None };
        let info =
            RenewalInfo { suggestion: Some(suggestion), ask_at: NOW + Duration::HOUR, failures: 0, problem: None };
        AutoCertificateFacts { renewal_info: Some(info), ..serving(30 + days) }
    };
    let mut fleet = vec![
        planned(0, AutoCertificateFacts { failure_streak: trouble(Failure::operator(caa), 3), ..serving(20) }),
        planned(1, AutoCertificateFacts { failure_streak: trouble(Failure::retry(down), 2), ..serving(3) }),
        planned(
            2,
            AutoCertificateFacts {
                deferral: Some(Deferral { until: NOW + Duration::hours(3), cause: limit }),
                ..AutoCertificateFacts::default()
            },
        ),
        planned(3, AutoCertificateFacts { running: true, open_attempt: Some(StageKind::Ordered), ..serving(25) }),
        planned(4, AutoCertificateFacts::default()),
        planned(
            5,
            AutoCertificateFacts {
                deferral: Some(Deferral { until: NOW + Duration::minutes(4), cause: DeferralCause::ProviderDown }),
                ..serving(29)
            },
        ),
    ];
    fleet.extend((6..28).map(|number| planned(number, serving(31 + i64::try_from(number).unwrap()))));
    fleet.extend((28..50).map(|number| planned(number, in_window(i64::try_from(number).unwrap() - 27))));
    fleet
}

#[test]
fn fifty_in_mixed_states_read_well_in_80_columns() {
    let page = render_page(&fleet(), &[], NOW, 80);
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    insta::assert_snapshot!(page);
}

#[test]
fn a_narrow_terminal_cuts_lines_and_words_are_wrapped() {
    let page = render_page(&fleet(), &[], NOW, 40);
    assert!(page.lines().all(|line| line.chars().count() <= 40), "{page}");
    assert_eq!(wrap("one two three", 7), ["one two", "three"]);
    assert_eq!(truncate("abcdef", 4), "abc…");
}

#[test]
fn nothing_is_said_to_be_nothing() {
    assert_eq!(render_page(&[], &[], NOW, 80), "there are no auto-certificates\n");
}

#[test]
fn what_ends_soon_is_said_below() {
    let caution = "the token of dns.ionos expires in 12 days at 2027-01-27T08:00:00Z; give a new one before";
    let page = render_page(&fleet()[4..5], &[caution.to_owned()], NOW, 60);
    insta::assert_snapshot!(page, @r"
    1 about to be issued
      NAME                          WHEN        SLACK  WHY
      host04.example.com             now            -  its firs…

    the token of dns.ionos expires in 12 days at
    2027-01-27T08:00:00Z; give a new one before
    ");
}

#[test]
fn what_would_fail_as_things_are_is_told_in_full() {
    let about = CheckSubject::Name("host01.example.com".to_owned());
    let finding = CheckResult::fault(
        &about,
        Check::Caa,
        "CAA forbids a certificate for host01.example.com",
        "let ca.example issue",
    );
    let rehearsal = Preflight { certificate: uuid::Uuid::nil().into(), at: NOW, results: vec![finding] };
    let fleet =
        [planned(1, AutoCertificateFacts { preflight: Some(rehearsal), ..serving(36) }), planned(2, serving(36))];
    insta::assert_snapshot!(render_page(&fleet, &[], NOW, 80), @r"
    1 planned, but would fail as things are
      host01.example.com: in 6 d, 25 d 12 h before the last safe moment
        the renewal planned for 2027-01-21T08:00:00Z would fail: host01.example.com:
        CAA forbids a certificate for host01.example.com; let ca.example issue

    1 planned
      NAME                          WHEN        SLACK  WHY
      host02.example.com          in 6 d    25 d 12 h  by its lifetime
    ");
}
