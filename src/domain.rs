//! What autocertd is about, without any of the machinery: identifiers, names, keys, certificates, attempts and the
//! decisions about them. Everything here is pure; it knows no tokio, no SQL and no HTTP.

pub mod admission;
pub mod attempt;
pub mod auto_certificate;
pub mod back_off;
pub mod breaker;
pub mod certificate;
pub mod declared;
pub mod delivery;
pub mod disposition;
pub mod email;
pub mod endpoint;
pub mod fingerprint;
pub mod hold;
pub mod id;
pub mod key_algorithm;
pub mod leaf;
pub mod ledger;
pub mod moment;
pub mod name;
pub mod outlook;
pub mod pattern;
pub mod plan;
pub mod provider;
pub mod renewal_info;
pub mod resource;
pub mod retry_after;
pub mod revocation;
pub mod said;
pub mod serial_number;
pub mod server_url;
pub mod shown;
pub mod spoken;
pub mod state;
pub mod token;
pub mod window;
