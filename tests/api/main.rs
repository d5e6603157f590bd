//! The REST API from outside: real HTTP on loopback over a real SQLite file. Files mirror the paths; answers are held
//! whole by snapshots.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails right there")]

mod auto_certificates;
mod certificates;
mod control;
mod declared;
mod edges;
mod errors;
mod filters;
mod fixture;
mod health;
mod listener;
mod lists;
mod log;
mod openapi;
mod providers;
mod secrets;
mod server;
mod streaming;
