//! An auto-certificate, and the decisions about its renewal.

pub mod attempt;
pub mod auto_certificate;
pub mod check_result;
pub mod dns_persist;
pub mod facts;
pub mod plan;
pub mod preflight;
pub mod preflight_decision;
pub mod renewal_info;
