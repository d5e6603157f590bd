//! What autocertd is about, without any of the machinery: identifiers, names, keys, certificates, attempts and the
//! decisions about them. Everything here is pure; it knows no tokio, no SQL and no HTTP.

pub mod attempt;
pub mod auto_certificate;
pub mod back_off;
pub mod caa;
pub mod certificate;
pub mod declared;
pub mod delivery;
pub mod disposition;
pub mod email;
pub mod endpoint;
pub mod failover;
pub mod fingerprint;
pub mod id;
pub mod key_algorithm;
pub mod leaf;
pub mod moment;
pub mod name;
pub mod pattern;
pub mod plan;
pub mod profile;
pub mod provider;
pub mod resource;
pub mod retry_after;
pub mod said;
pub mod server_url;
pub mod shown;
pub mod state;
pub mod token;
pub mod window;
