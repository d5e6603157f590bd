//! A simulation of a fleet over months: the real planner, ledger, back-off and breaker under a turned clock, against a
//! model of a CA with the limits that Let's Encrypt publishes. It answers whether a fleet survives these limits, outages
//! and mass revocations; and where the decisions are wrong, it fails.
//!
//! What it leaves out: DNS and deliveries, which never cost an order, crashes, and certificates that come or go.

mod account;
mod ca;
mod plot;
pub mod report;
pub mod scenario;
mod tally;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::simulation::account::SimulatedAccount;
use crate::simulation::report::SimulationReport;
use crate::simulation::scenario::Scenario;
use crate::simulation::tally::Tally;

/// Lives through a scenario. The same scenario with the same seed gives the same report.
///
/// Accounts share nothing, so that each one lives its year on its own: that keeps a million certificates small, and all
/// processors busy.
pub fn run(scenario: &Scenario) -> SimulationReport {
    let next = AtomicU32::new(0);
    let worker = || {
        let mut tally = Tally::new(scenario);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= scenario.accounts {
                return tally;
            }
            tally += SimulatedAccount::new(scenario, number).run();
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let tally = thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(worker)).collect();
        others.into_iter().fold(worker(), |mut sum, other| {
            match other.join() {
                Ok(tally) => sum += tally,
                Err(panic) => std::panic::resume_unwind(panic),
            }
            sum
        })
    });
    SimulationReport::new(scenario, &tally)
}
