//! `autocertd dns`: what is done in the DNS by hand.

mod register;
mod sweep;

use clap::Subcommand;

use crate::cli::CommandOutcome;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum DnsCommand {
    /// Make the account that an acme-dns server wants for the challenges of a name, and print the CNAME record that leads
    /// there. One that exists is shown, not made again
    Register(register::RegisterCommand),
    /// Remove the challenge records that no open order needs, now, and print what was removed, what could not be and why,
    /// and what is in use. Nothing is touched but what autocertd made and noted; exit code 1 where something could not
    /// be removed
    Sweep(sweep::SweepCommand),
}

pub(super) fn run(config: &Config, command: &DnsCommand) -> anyhow::Result<CommandOutcome> {
    match command {
        DnsCommand::Register(arguments) => register::run(config, arguments),
        DnsCommand::Sweep(arguments) => sweep::run(config, arguments),
    }
}
