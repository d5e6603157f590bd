//! `autocertd dns`: what is done in the DNS by hand.

mod register;

use clap::Subcommand;

use crate::cli::Ending;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum DnsCommand {
    /// Make the account that an acme-dns server wants for the challenges of a name, and print the CNAME record that leads
    /// there. One that exists is shown, not made again
    Register(register::Arguments),
}

pub(super) fn run(config: &Config, command: &DnsCommand) -> anyhow::Result<Ending> {
    match command {
        DnsCommand::Register(arguments) => register::run(config, arguments),
    }
}
