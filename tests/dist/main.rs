//! Checks that need privileges, other programs or time. `make dist-test` runs them. They install nothing: each names the
//! program or the privilege that it misses.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod files;
mod fixture;
mod full_disk;
mod handshakes;
mod import;
mod web_servers;
