//! autocertd: a self-hosted Certificate Manager with an ACME renewal daemon behind it.
//!
//! Imports run one way: `main -> cli -> app -> {http, scheduler, config}`, `scheduler -> {issuance, deliver, store}`,
//! `issuance -> {acme, dns, store}`, `{cli, app, scheduler} -> doctor -> {acme, dns, store}`, `deliver -> store`, `http -> store`, `cli -> import -> acme`, `cli -> simulation`, all of them
//! `-> {domain, runtime}`. `acme`, `dns` and `store` never import one another. A test holds this.

pub mod acme;
pub mod app;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod dns;
pub mod doctor;
pub mod domain;
pub mod http;
pub mod import;
pub mod issuance;
pub mod runtime;
pub mod scheduler;
pub mod simulation;
pub mod store;
