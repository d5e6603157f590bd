//! The DNS adapter seam: publishing TXT records in the zones of a DNS service, and waiting until they are visible.
//! It knows nothing of ACME: names and values go in, records come and go.

pub mod adapter;
mod error;
pub mod ionos;
pub mod propagation;

pub use error::{DnsError, Lagging};
