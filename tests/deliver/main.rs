//! Deliveries, each with what it delivers to: real folders, real processes, real sockets.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod certificate_manager;
mod files;
mod fixture;
mod helper;
mod hook;
mod kubernetes;
mod payloads;
mod post;
mod roll_back;
mod signal;
mod unit;
mod verify;
