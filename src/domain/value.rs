//! Values that are parsed once, at the edge, and cannot be wrong afterwards.

pub mod adapter_name;
pub mod client_network;
pub mod credential;
pub mod email;
pub mod endpoint;
pub mod human_duration;
pub mod id;
pub mod mac_key;
pub mod moment;
pub mod name;
pub mod pattern;
pub mod profile;
pub mod resolver_address;
pub mod resource;
pub mod secret_text;
pub mod server_url;
pub mod text;
pub mod token;
pub mod url_text;
pub mod zone_name;
