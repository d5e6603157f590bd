//! The main job from outside: autocertd as a child process, a real Pebble behind the recording proxy, a local Cloud DNS.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails right there")]

mod accounts;
mod acme_dns;
mod activation;
mod bad_clients;
mod clockwork;
mod declared;
mod delegated;
mod deliveries;
mod disasters;
mod dns_faults;
mod doctor;
mod doctor_limits;
mod dry_run;
mod exec;
mod failover;
mod fleet;
mod foreign_text;
mod hardening;
mod hooks;
mod hung;
mod issuance;
mod kill;
mod lanes;
mod limits;
mod many_names;
mod moves;
mod one_shot;
mod persist;
mod refusals;
mod rehearsals;
mod reload;
mod renewal_info;
mod replicas;
mod revoke;
mod rfc2136;
mod sdk;
mod secrets;
mod stops;
mod stuck_orders;
mod sweep;
mod thousand;
mod two_adapters;
mod world;
mod wrong_clock;
