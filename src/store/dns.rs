//! The journal of TXT records, and the records that stay.

pub(super) mod delegated;
pub(super) mod journal;
pub(super) mod persist_records;
