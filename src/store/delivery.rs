//! Deliveries, and which auto-certificates they are for.

pub(super) mod assignments;
pub(super) mod deliveries;
