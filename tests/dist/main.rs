//! Checks that need privileges, other programs or time. `make dist-test` runs them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod files;
mod handshakes;
mod stage;
mod web_servers;
