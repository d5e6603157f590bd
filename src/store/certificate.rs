//! Certificates and their revocations.

pub(super) mod certificates;
pub(super) mod revocations;
