//! What a wrong clock wrote, and how it is put right.

pub(super) mod clock_correction;
pub(super) mod clock_records;
