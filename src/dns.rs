//! The DNS adapter seam: publishing TXT records in the zones of a DNS service, and waiting until they are visible;
//! and the look-up of CAA records.
//! It knows nothing of ACME: names and values go in, records come and go.

pub mod adapter;
pub mod caa;
mod error;
pub mod ionos;
pub mod propagation;
mod resolver;

pub use error::{DnsError, Lagging};
