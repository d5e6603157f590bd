//! Deliveries, each with what it delivers to: real folders, real processes, real sockets.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod certificate_manager;
mod files;
mod kubernetes;
mod parcels;
