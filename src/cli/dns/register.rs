//! `autocertd dns register`: an account at an acme-dns server for the challenges of one name.

use clap::Args;

use crate::app::{ChallengeRegistration, Integrations};
use crate::cli::{CommandOutcome, log, owner, runtime};
use crate::config::Config;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::name::DnsName;

#[derive(Args, Debug)]
pub(in crate::cli) struct RegisterCommand {
    /// The name that a certificate is to be for, such as www.example.com; it serves *.www.example.com too
    name: String,
    /// The adapter, NAME of [dns.adapter.NAME]; may be left out where only one is of the type acme-dns
    #[arg(long, value_name = "NAME")]
    adapter: Option<AdapterName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Config, arguments: &RegisterCommand) -> anyhow::Result<CommandOutcome> {
    let name: DnsName = match arguments.name.parse() {
        Ok(name) => name,
        Err(error) => {
            eprintln!("autocertd: {error}");
            return Ok(CommandOutcome::UsageError);
        }
    };
    let Some(adapter) = select_adapter(config, arguments) else { return Ok(CommandOutcome::UsageError) };
    // Who renews must be able to read the file of accounts.
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    let outside = Integrations::from_config(config)?;
    let registered = runtime()?.block_on(outside.register(adapter, &name))?;
    if arguments.json {
        print_json(adapter, &registered)?;
    } else {
        print(adapter, &registered);
    }
    Ok(CommandOutcome::Success)
}

/// The one adapter that is meant; says so where there is none, or several.
fn select_adapter<'a>(config: &'a Config, arguments: &'a RegisterCommand) -> Option<&'a AdapterName> {
    let adapters = &config.dns.adapters;
    if let Some(name) = &arguments.adapter {
        let known = adapters.contains_key(name);
        if !known {
            eprintln!("autocertd: the settings have no [dns.adapter.{name}]");
        }
        return known.then_some(name);
    }
    let mut of_kind = adapters.iter().filter(|(_, entry)| entry.kind == "acme-dns").map(|(name, _)| name);
    let (first, others) = (of_kind.next(), of_kind.map(ToString::to_string).collect::<Vec<_>>());
    match first {
        Some(only) if others.is_empty() => return Some(only),
        Some(first) => {
            let others = others.join(", ");
            eprintln!(
                "autocertd: several adapters are of the type acme-dns, choose one by --adapter: {first}, {others}"
            );
        }
        None => eprintln!("autocertd: no [dns.adapter.NAME] of the settings is of the type acme-dns"),
    }
    None
}

fn print(adapter: &AdapterName, registered: &ChallengeRegistration) {
    let ChallengeRegistration { challenge, target, is_new, leads_there, is_routed } = registered;
    let state = match leads_there {
        Some(true) => "it is there",
        Some(false) => "it is not there yet; make it in the zone of that name",
        None => "whether it is there cannot be seen from here",
    };
    println!("{challenge}. CNAME {target}.");
    eprintln!("{adapter} {} an account for it; {state}", if *is_new { "has made" } else { "had" });
    if !is_routed {
        let zone = target.split_once('.').map_or("", |(_, zone)| zone);
        eprintln!(
            "no route leads there; add to the settings:\n\n[[dns.zone]]\nsuffix = \"{zone}\"\nadapter = \"{adapter}\""
        );
    }
}

fn print_json(adapter: &AdapterName, registered: &ChallengeRegistration) -> anyhow::Result<()> {
    let ChallengeRegistration { challenge, target, is_new, leads_there, is_routed } = registered;
    let shown = serde_json::json!({
        "adapter": adapter,
        "name": challenge,
        "target": target,
        "isNew": is_new,
        "leadsThere": leads_there,
        "isRouted": is_routed,
    });
    crate::cli::output::print_json(&shown)?;
    Ok(())
}
