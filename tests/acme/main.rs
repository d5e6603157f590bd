//! The seam to CAs, against a real Pebble behind a proxy that counts and breaks requests.

mod accounts;
mod challenge_dns;
mod faults;
mod orders;
mod stage;
