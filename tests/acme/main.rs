//! The seam to CAs, against a real Pebble behind a proxy that counts and breaks requests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what the tests stand on fails them by a panic, as they do"
)]

mod accounts;
mod adoption;
mod challenge_dns;
mod ends;
mod faults;
mod fixture;
mod odd_answers;
mod orders;
mod persist;
mod profiles;
mod registrar_fixture;
mod remedies;
mod renewal_info;
mod revocation;
mod rollover;
