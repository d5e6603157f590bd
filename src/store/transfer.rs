//! Copies of the whole store, and takeovers from other tools.

pub(super) mod backup;
pub(super) mod takeover;
