//! The command line: what can be asked for, and what the exit code means.

#[macro_use]
mod output;

mod account;
mod check_config;
mod deliveries;
mod dns;
mod doctor;
mod export;
mod import;
mod keys;
mod limits;
mod log;
mod owner;
mod plan;
mod reload_helper;
mod renew_now;
mod restore;
mod revoke;
mod selection;
mod serve;
mod simulate;
mod token;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::app::UnusableSettings;
use crate::cli::renew_now::RenewOptions;
use crate::cli::selection::UnknownNames;
use crate::cli::serve::{LIVENESS_PATH, READINESS_PATH};
use crate::config::Config;
use crate::domain::value::text::printable;
use crate::http::control::ISSUED_PATH;
use crate::runtime::clock::SystemClock;
use crate::runtime::{descriptors, hardening};

/// A self-hosted Certificate Manager: the REST API of the IONOS Certificate Manager 2.0, and the daemon that obtains
/// and renews its certificates by ACME and DNS-01.
#[derive(Debug, Parser)]
#[command(
    name = "autocertd",
    version,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
struct Cli {
    /// The settings file; without one /etc/autocertd/autocertd.toml where it exists, else the defaults
    #[arg(long, short, global = true, value_name = "FILE", env = "AUTOCERTD_CONFIG")]
    config: Option<PathBuf>,

    /// Renew once and exit: the auto-certificates that are named (by name, common name or id), due or not; without names
    /// everything that is due. Beside a running daemon it asks the daemon and follows it. Exit code 1 where something
    /// failed, or, without names, where any auto-certificate that should be in service is not
    #[arg(long, value_name = "NAME", num_args = 0..)]
    renew_now: Option<Vec<String>>,

    /// With --renew-now: wait until what is valid now is also delivered and verified, as far as this machine and the fleet
    /// are concerned. Without a daemon that is so anyway
    #[arg(long, requires = "renew_now")]
    wait_delivered: bool,

    /// With --renew-now: say what would be done, and rehearse it with the staging provider that the real one's [[provider]]
    /// names; nothing real is touched but challenge records, which go again
    #[arg(long, requires = "renew_now", conflicts_with = "wait_delivered")]
    dry_run: bool,

    /// With --renew-now: print the outcome as JSON on standard output
    #[arg(long, requires = "renew_now")]
    json: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and renew certificates, until SIGTERM
    Serve,
    /// Make, list and revoke API tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Care for the ACME accounts of providers: show them, change their key, deactivate them, carry them in
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Care for what is in the DNS, and for the accounts of DNS services
    #[command(subcommand)]
    Dns(dns::DnsCommand),
    /// Make and rotate the master keys that seal private keys and secrets
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show for each auto-certificate what happens next, when and why, and how much slack that leaves; exit code 1 where a
    /// person must act, a planned renewal would fail, the next try comes after the last safe moment, or the first
    /// certificate could not be obtained yet
    Plan(plan::PlanCommand),
    /// Check, without an order, everything that a certificate takes, and say what to do about what is not as it should be:
    /// settings, files, clock, CA and account, DNS services and their tokens, and for each name aliases, zone, delegation,
    /// CAA, DNSSEC and a canary record that is written, seen and removed. Exit code 1 where a certificate would not be
    /// obtained
    Doctor(doctor::DoctorCommand),
    /// Show where certificates are delivered from here, and how that goes; exit code 1 where a delivery has failed
    Deliveries(deliveries::DeliveriesCommand),
    /// Show what counts against the limits of each provider's CA, and when there is room for more
    Limits(limits::LimitsCommand),
    /// Look what is served where a delivery says `verify`, by a TLS handshake; exit code 1 where that is not what was
    /// delivered
    Verify(verify::VerifyCommand),
    /// Take over what another ACME client keeps: names, certificates, keys and, where it can be used here, its account.
    /// Its files are only read. Shows a plan; --yes carries it out
    Import(import::ImportCommand),
    /// Write everything into a file, its secrets sealed under the master keys; or, with --pem, the certificates with
    /// their keys as plain files
    Export(export::ExportCommand),
    /// Bring back what `export` wrote, into a store that is empty. Shows what would come back; --yes does it
    Restore(restore::RestoreCommand),
    /// Have a certificate revoked by the CA that issued it. Where it is the newest one of its auto-certificate, a new one
    /// with a new key is obtained at once; until that is there the revoked one goes on being served
    Revoke(revoke::RevokeCommand),
    /// Will a fleet survive the limits of a CA, its outages and a mass revocation? Lives through a year in seconds; exit
    /// code 1 where certificates lapse
    Simulate(simulate::SimulateCommand),
    /// Check the settings and print what is in force
    CheckConfig,
    /// Ask the running daemon whether it is well; for container health checks
    Healthcheck {
        /// Whether every auto-certificate is issued and valid, too; for start-up probes, so that what needs the
        /// certificates starts behind them. Without any auto-certificate there is nothing to wait for
        #[arg(long)]
        issued: bool,
        /// Only whether it runs, whatever its database does; for liveness probes, since no restart mends a database
        #[arg(long, conflicts_with = "issued")]
        alive: bool,
    },
    /// Reload the units for which the daemon has asked, as root; autocertd-reload.service runs it. It obeys only deliveries
    /// with `reload.helper = true` in settings files that root alone can change
    ReloadHelper(reload_helper::ReloadHelperCommand),
}

/// How a command ended, for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommandOutcome {
    /// All went well, or there was nothing to do: 0.
    Success,
    /// Something failed: 1.
    Failed,
    /// The usage or the settings were wrong, and nothing was changed: 2.
    UsageError,
    /// All went well, but a delivery waits for its deploy window: 3.
    DeliveryWaiting,
}

/// Runs the command line and says how it ended.
pub fn main() -> ExitCode {
    if let Err(error) = hardening::make_undumpable() {
        eprintln!("autocertd: the process cannot be closed to others of its user: {error}");
        return CommandOutcome::Failed.into();
    }
    descriptors::raise_limit();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) if !usage.use_stderr() => usage.exit(),
        Err(usage) => {
            // It repeats the arguments, which a script may have from others.
            eprint!("{}", usage.render());
            return CommandOutcome::UsageError.into();
        }
    };
    if let Err(error) = SystemClock.check() {
        eprintln!("autocertd: {error}");
        return CommandOutcome::Failed.into();
    }
    let loaded = match &cli.command {
        // The one runs as root, and reads by itself what of the settings nobody else can have written; the other needs none.
        Some(Command::ReloadHelper(_) | Command::Simulate(_)) => Ok(Config::default()),
        _ => Config::load(cli.config.as_deref()),
    };
    let config = match loaded {
        Ok(config) => config,
        Err(error) => {
            eprintln!("autocertd: {:#}", anyhow::Error::new(error));
            return CommandOutcome::UsageError.into();
        }
    };
    match run(cli, &config) {
        Ok(ending) => ending.into(),
        Err(error) => {
            // Some of the words are an export's or a server's.
            eprintln!("autocertd: {}", printable(&format!("{error:#}")));
            let misused = error.is::<UnusableSettings>() || error.is::<UnknownNames>();
            if misused { CommandOutcome::UsageError } else { CommandOutcome::Failed }.into()
        }
    }
}

fn run(cli: Cli, config: &Config) -> anyhow::Result<CommandOutcome> {
    match (cli.renew_now, cli.command) {
        (Some(names), None) => {
            let (json, wait_delivered, dry_run) = (cli.json, cli.wait_delivered, cli.dry_run);
            renew_now::run(config, &RenewOptions { names, json, wait_delivered, dry_run })
        }
        (Some(_), Some(_)) => {
            eprintln!("autocertd: --renew-now stands alone; give it no command");
            Ok(CommandOutcome::UsageError)
        }
        (None, Some(Command::Serve)) => serve::run(config),
        (None, Some(Command::Token(command))) => token::run(config, command),
        (None, Some(Command::Account(command))) => account::run(config, &command),
        (None, Some(Command::Dns(command))) => dns::run(config, &command),
        (None, Some(Command::Keys(command))) => keys::run(config, &command),
        (None, Some(Command::Plan(command))) => plan::run(config, &command),
        (None, Some(Command::Doctor(command))) => doctor::run(config, &command),
        (None, Some(Command::Deliveries(command))) => deliveries::run(config, &command),
        (None, Some(Command::Limits(command))) => limits::run(config, &command),
        (None, Some(Command::Verify(command))) => verify::run(config, &command),
        (None, Some(Command::Import(arguments))) => import::run(config, &arguments),
        (None, Some(Command::Export(arguments))) => export::run(config, &arguments),
        (None, Some(Command::Restore(arguments))) => restore::run(config, &arguments),
        (None, Some(Command::Revoke(arguments))) => revoke::run(config, &arguments),
        (None, Some(Command::Simulate(arguments))) => simulate::run(&arguments),
        (None, Some(Command::CheckConfig)) => check_config::run(config),
        (None, Some(Command::Healthcheck { issued, alive })) => serve::healthcheck(
            config,
            if issued {
                ISSUED_PATH
            } else if alive {
                LIVENESS_PATH
            } else {
                READINESS_PATH
            },
        ),
        (None, Some(Command::ReloadHelper(arguments))) => reload_helper::run(cli.config.as_deref(), arguments),
        (None, None) => Ok(CommandOutcome::UsageError),
    }
}

impl From<CommandOutcome> for ExitCode {
    fn from(ending: CommandOutcome) -> Self {
        match ending {
            CommandOutcome::Success => Self::SUCCESS,
            CommandOutcome::Failed => Self::FAILURE,
            CommandOutcome::UsageError => Self::from(2),
            CommandOutcome::DeliveryWaiting => Self::from(3),
        }
    }
}

/// The runtime of a command. At its end, threads that hang in a system call are not waited for.
struct CommandRuntime(Option<Runtime>);

impl CommandRuntime {
    fn block_on<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        self.0.as_ref().context("the runtime has ended")?.block_on(work)
    }
}

impl Drop for CommandRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
        }
    }
}

/// Two workers suffice, what takes long runs on blocking threads.
fn runtime() -> std::io::Result<CommandRuntime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(CommandRuntime(Some(runtime)))
}

const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  autocertd serve --config /etc/autocertd/autocertd.toml   run the API and the renewals
  autocertd token create terraform                         make a token; it is shown once
  autocertd doctor www.example.com                         check all that a certificate for this name takes
  autocertd --renew-now                                    renew whatever is due, then exit
  autocertd --renew-now www.example.com --json             renew this one now, due or not

Exit codes: 0 all well or nothing due, 1 something failed or is not in service, 2 bad usage or settings, 3 renewed, but a
delivery waits for its deploy window.
The log goes to standard error; AUTOCERTD_LOG=debug shows more of it.";
