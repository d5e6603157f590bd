//! The seam to certificate authorities that speak ACME (RFC 8555): accounts, orders, challenges and what a CA's refusal
//! means. It keeps nothing: whoever calls stores credentials and order URLs, and does so before the next call.

mod account;
mod client;
mod directory;
mod error;
mod lenient;
mod nonce;
mod order;
mod problem;
mod refusal;
mod renewal_info;
mod revocation;
mod transport;

pub use account::{
    AccountCredentials, AccountKey, PreparedAccount, PreparedKeyChange, Registration, UnusableAccountKey,
};
pub use client::{AcmeClient, UnusableAcmeSettings};
pub use error::{AcmeError, AwaitedState, NameProblem};
pub use order::{
    AcmeAccount, Authorization, AuthorizationState, ChallengeKind, Dns01, DnsPersist01, NewOrder, Order, OrderState,
};
pub use problem::{AcmeStep, Problem, ProblemKind, Subproblem};
pub use refusal::{Refusal, Unreachable};
