//! The store on both databases: real SQLite files, and a real PostgreSQL that the tests start for themselves.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod attempts;
mod auto_certificates;
mod backup;
mod certificates;
mod claims;
mod clock;
mod declared;
mod deferrals;
mod deliveries;
mod faults;
mod fixture;
mod former_release;
mod journal;
mod leases;
mod lists;
mod many;
mod opening;
mod preflights;
mod providers;
mod queried;
mod rate_limit_ledger;
mod revocations;
mod rotation;
mod sealing;
mod takeover;
mod tokens;
