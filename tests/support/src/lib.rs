//! What the tests and the demo stand on: servers of the real kinds, on loopback, that end with their handles.

pub mod again;
pub mod api;
pub mod cloud_dns;
pub mod daemon;
pub mod fault_proxy;
pub mod kubernetes;
pub mod patience;
pub mod pebble;
pub mod postgres;
pub mod resolver;
pub mod tls_server;
