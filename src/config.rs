//! (being built)

pub mod acme;
pub mod dns;
pub mod span;
pub mod store;
