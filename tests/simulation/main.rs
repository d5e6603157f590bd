//! The simulation: fleets survive what befalls them without breaking a limit of the CA, and the same fleets with a known
//! wrong behaviour do not.

#![expect(clippy::unwrap_used, reason = "tests end where something unforeseen happens")]

mod command;

use autocertd::runtime::randomness::Randomness;
use autocertd::simulation;
use autocertd::simulation::report::SimulationReport;
use autocertd::simulation::scenario::{Control, FailingNames, MassRevocation, Outage, Scenario};
use time::Duration;

/// Another one each time, and told, so that a failure can be repeated: `SIMULATION_SEED=... cargo test --test simulation`.
fn seed() -> u64 {
    let seed = match std::env::var("SIMULATION_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => u64::from_le_bytes(Randomness::from_system().unwrap().bytes()),
    };
    println!("SIMULATION_SEED={seed}");
    seed
}

/// A fleet that meets an outage of five days, names that fail for twelve and a mass revocation.
fn scenario_with_faults(certificates: u32, seed: u64) -> Scenario {
    Scenario {
        outages: vec![Outage { day: 30, span: Duration::days(5) }],
        failing_names: vec![FailingNames { day: 50, span: Duration::days(12), percent: 10 }],
        mass_revocations: vec![MassRevocation { day: 80, notice: Duration::days(5) }],
        ..Scenario::new(certificates, Duration::days(45), 90, seed)
    }
}

fn with(control: Control, scenario: Scenario) -> SimulationReport {
    simulation::run(&Scenario { control: Some(control), ..scenario })
}

#[test]
fn twenty_thousand_certificates_survive_a_year_with_an_outage_and_a_mass_revocation() {
    let scenario = Scenario {
        outages: vec![Outage { day: 100, span: Duration::days(5) }],
        mass_revocations: vec![MassRevocation { day: 200, notice: Duration::days(5) }],
        ..Scenario::new(20_000, Duration::days(45), 365, seed())
    };
    let report = simulation::run(&scenario);
    println!("{report}\n\n{}", report.plot());
    assert_eq!((report.lapses, report.refused.total), (0, 0));
    // Each one is renewed every 30 days, and once more for the revocation.
    assert!((240_000..270_000).contains(&report.issued), "{}", report.issued);
    assert!(report.held_by_ledger > 0 && report.held_by_breaker > 0 && report.unanswered > 0);
    // A fleet that has a certificate renewed is nearly as even as it was: no storm beyond the outage and the revocation.
    let usual = report.orders.by_day[..100].iter().max().unwrap();
    assert!(*usual < 20_000 / 30 * 3 / 2, "{usual}");
}

#[test]
fn a_troubled_fleet_survives_without_a_refusal() {
    let report = simulation::run(&scenario_with_faults(1_000, seed()));
    assert_eq!((report.lapses, report.refused.total), (0, 0), "{report}");
    assert!(report.failed_validations > 0 && report.unanswered > 0, "{report}");
}

#[test]
fn renewed_at_midnight_without_asking_the_ca_it_lapses() {
    let report = with(Control::Midnight, scenario_with_faults(1_000, seed()));
    assert!(report.lapses > 500, "{report}");
}

#[test]
fn without_a_ledger_orders_are_refused() {
    let report = with(Control::NoLedger, scenario_with_faults(1_000, seed()));
    assert!(report.refused.orders > 100, "{report}");
}

#[test]
fn without_back_off_names_are_paused_and_the_ca_is_stormed() {
    let seed = seed();
    let scenario = Scenario { days: 70, mass_revocations: Vec::new(), ..scenario_with_faults(400, seed) };
    let real = simulation::run(&scenario);
    assert_eq!((real.lapses, real.refused.total), (0, 0), "{real}");
    let report = with(Control::NoBackOff, scenario);
    assert!(report.refused.paused_names > 0, "{report}");
    assert!(report.unanswered > 20 * real.unanswered, "{} against {}", report.unanswered, real.unanswered);
}

#[test]
fn an_outage_in_which_everything_is_revoked_costs_no_refusal() {
    let scenario = Scenario {
        outages: vec![Outage { day: 9, span: Duration::days(2) }],
        mass_revocations: vec![MassRevocation { day: 10, notice: Duration::days(5) }],
        ..Scenario::new(2_000, Duration::days(90), 20, seed())
    };
    let report = simulation::run(&scenario);
    assert_eq!((report.lapses, report.refused.total), (0, 0), "{report}");
}

#[test]
fn a_ca_that_asks_for_nonsense_or_a_year_while_it_is_down_ends_no_certificate() {
    let scenario = Scenario { careless_retry_after: true, ..scenario_with_faults(1_000, seed()) };
    let report = simulation::run(&scenario);
    assert_eq!((report.lapses, report.refused.total), (0, 0), "{report}");
    assert!(report.unanswered > 0 && report.smallest_slack.as_ref().unwrap().seconds > 0, "{report}");
    // Five days of outage, half an hour apart at the most: it is probed and not stormed.
    assert!(report.unanswered < 2_000, "{report}");
}

#[test]
fn what_nobody_can_survive_is_told() {
    let scenario = Scenario {
        mass_revocations: vec![MassRevocation { day: 5, notice: Duration::days(1) }],
        accounts: 1,
        ..Scenario::new(5_000, Duration::days(45), 20, seed())
    };
    let report = simulation::run(&scenario);
    assert_eq!(report.refused.total, 0, "{report}");
    assert!(report.lapses > 1_000 && report.to_string().contains("does not survive"), "{report}");
    assert!(report.smallest_slack.unwrap().seconds < 0);
}

#[test]
fn small_fleets_of_every_lifetime_survive_what_they_can() {
    let randomness = Randomness::from_seed(seed());
    let between = |least: u32, most: u32| least + u32::from_le_bytes(randomness.bytes()) % (most - least);
    for _ in 0..12 {
        // Hours: an outage may take what is left behind the window, but for the time that the backlog takes.
        let (lifetime, longest_outage) = [(160, 36), (47 * 24, 10 * 24), (90 * 24, 20 * 24)][between(0, 3) as usize];
        let (day, hours) = (between(0, 20), between(1, longest_outage));
        let revoked = day + hours.div_ceil(24) + between(0, 40);
        let scenario = Scenario {
            outages: vec![Outage { day, span: Duration::hours(hours.into()) }],
            mass_revocations: vec![MassRevocation { day: revoked, notice: Duration::days(5) }],
            ..Scenario::new(between(1, 400), Duration::hours(lifetime), revoked + 40, between(0, u32::MAX).into())
        };
        let report = simulation::run(&scenario);
        assert_eq!((report.lapses, report.refused.total), (0, 0), "{scenario:?}\n{report}");
    }
}

#[test]
fn a_seed_repeats_a_run() {
    let scenario = Scenario {
        outages: vec![Outage { day: 3, span: Duration::hours(20) }],
        mass_revocations: vec![MassRevocation { day: 8, notice: Duration::days(5) }],
        accounts: 3,
        ..Scenario::new(60, Duration::days(45), 12, 7)
    };
    let (one, other) = (simulation::run(&scenario), simulation::run(&scenario));
    assert_eq!(one.to_string(), other.to_string());
    insta::assert_json_snapshot!(one);
    insta::assert_snapshot!(one);
}
