//! What a failure means, and when to try again.

pub mod back_off;
pub mod deferral;
pub mod disposition;
pub mod retry_after;
