//! The main job from outside: autocertd as a child process, a real Pebble behind the recording proxy, a local Cloud DNS.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails right there")]

mod accounts;
mod activation;
mod clockwork;
mod declared;
mod deliveries;
mod disasters;
mod doctor;
mod dry_run;
mod failover;
mod fleet;
mod hardening;
mod hooks;
mod issuance;
mod kill;
mod limits;
mod moves;
mod one_shot;
mod refusals;
mod rehearsals;
mod reload;
mod renewal_info;
mod replicas;
mod revoke;
mod sdk;
mod secrets;
mod stops;
mod world;
