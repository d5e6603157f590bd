//! What people are told about an auto-certificate.

pub mod forecast;
pub mod overdue;
pub mod state;
