//! Auto-certificates, their attempts and renewals.

pub(super) mod attempts;
pub(super) mod auto_certificates;
pub(super) mod claims;
pub(super) mod declared;
pub(super) mod deferrals;
pub(super) mod not_in_service;
pub(super) mod preflights;
pub(super) mod progress;
pub(super) mod queue;
pub(super) mod renewal_infos;
