//! The REST API of the Certificate Manager 2.0, over TCP for bearer tokens and over a Unix socket for the commands on
//! the same machine. It reads and writes the store and wakes the scheduler; it issues nothing itself.

mod auth;
mod auto_certificates;
mod body;
mod certificates;
mod collection;
pub mod control;
mod detached;
pub mod errors;
pub mod health;
pub mod list_slots;
mod listener;
mod max_lengths;
mod metadata;
mod openapi;
mod patch;
mod path;
mod providers;
mod query;
pub mod request_layers;
mod responses;
mod router;
pub mod server;

pub use auth::Peer;
pub use listener::ConnectionLimits;
pub use server::{LocalSocket, LocalSocketError, serve, serve_unix};

use crate::config::api::LimitsSection;
use crate::config::time_span::TimeSpan;
use crate::domain::value::server_url::PlainHttpPolicy;
use crate::http::list_slots::ListSlots;
use crate::runtime::clock::SharedClock;
use crate::runtime::credentials::KnownCredentials;
use crate::runtime::randomness::Randomness;
use crate::runtime::wake::Wake;
use crate::store::Store;

/// What the API stands on.
#[derive(Clone)]
pub struct Api {
    /// Where everything is kept.
    pub store: Store,
    /// The time by which states are computed.
    pub clock: SharedClock,
    /// Where request ids come from.
    pub randomness: Randomness,
    /// Makes the scheduler look again after a change.
    pub wake: Wake,
    /// What this instance is called, whose deliveries are shown.
    pub instance: String,
    /// How much is taken.
    pub limits: LimitsSection,
    /// How many lists are answered at a time.
    pub list_slots: ListSlots,
    /// How long a request may take.
    pub request_timeout: TimeSpan,
    /// Whether providers may be spoken to without TLS.
    pub plain_http: PlainHttpPolicy,
    /// What opens other services, as far as its end is known.
    pub credentials: KnownCredentials,
}
