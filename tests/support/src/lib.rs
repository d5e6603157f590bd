//! What the tests and the demo stand on: servers of the real kinds, on loopback, that end with their handles.

pub mod acme_dns;
pub mod again;
pub mod api;
pub mod bind;
pub mod cloud_dns;
pub mod daemon;
pub mod fault_proxy;
pub mod kubernetes;
pub mod loopback;
pub mod pebble;
pub mod pgbouncer;
pub mod postgres;
pub mod resolver;
pub mod skipped;
pub mod stalling_proxy;
pub mod timed;
pub mod tls_server;
pub mod wait;
