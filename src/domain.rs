//! What autocertd is about, without any of the machinery: identifiers, names, keys, certificates, attempts and the
//! decisions about them. Everything here is pure; it knows no tokio, no SQL and no HTTP.

pub mod certificate;
pub mod clock_evidence;
pub mod declared;
pub mod delivery;
pub mod failure;
pub mod provider;
pub mod renewal;
pub mod report;
pub mod value;
