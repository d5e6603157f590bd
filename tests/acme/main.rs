//! The seam to CAs, against a real Pebble behind a proxy that counts and breaks requests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what the tests stand on fails them by a panic, as they do"
)]

mod accounts;
mod challenge_dns;
mod faults;
mod orders;
mod renewal_info;
mod stage;
