//! (being built)

pub mod acme;
pub mod api;
pub mod dns;
pub mod span;
pub mod store;
