//! Deliveries, carried out on real files, processes, sockets and folders.

#![expect(clippy::unwrap_used, reason = "what the tests stand on fails them by a panic, as they do")]

mod helper;
mod hook;
mod post;
mod signal;
mod stage;
mod unit;
mod verify;
