//! The REST API from outside: real HTTP on loopback over a real SQLite file. Files mirror the paths; answers are held
//! whole by snapshots.

mod auto_certificates;
mod certificates;
mod control;
mod daemon;
mod errors;
mod health;
mod lists;
mod log;
mod openapi;
mod providers;
mod secrets;
mod server;
