//! The store on both databases: real SQLite files, and a real PostgreSQL that the tests start for themselves.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod attempts;
mod auto_certificates;
mod backup;
mod certificates;
mod clock;
mod declared;
mod deliveries;
mod faults;
mod former_release;
mod holds;
mod house;
mod journal;
mod leases;
mod ledger;
mod lists;
mod many;
mod opening;
mod providers;
mod queried;
mod rehearsals;
mod revocations;
mod rotation;
mod sealing;
mod takeover;
mod tokens;
mod work;
