//! Providers, their accounts, breakers and rate limits.

pub(super) mod accounts;
pub(super) mod breakers;
pub(super) mod providers;
pub(super) mod rate_limit_ledger;
