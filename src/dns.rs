//! DNS: the adapter seam, through which TXT records are published in the zones of DNS services; routes and aliases, which
//! say where a record goes; the wait until it is visible; and look-ups.
//! It knows nothing of ACME: names and values go in, records come and go.

pub mod adapter;
pub mod adapters;
pub mod alias;
pub mod caa;
pub mod delegated;
mod error;
mod http;
pub mod lookup;
pub mod propagation;
pub mod question;
mod resolvers;
pub mod routes;
pub mod server;
mod zone_finder;

pub use error::{DnsError, LaggingNameserver};
