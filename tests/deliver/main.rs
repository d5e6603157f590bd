//! Deliveries over real wires: real servers, real TLS, real files.

#![expect(clippy::unwrap_used, reason = "tests end where something unforeseen happens")]

mod certificate_manager;
mod kubernetes;
mod parcels;
