//! `autocertd import`: what another tool did until now, autocertd does from now on. Its files are only read; a plan comes
//! first, and only `--yes` carries it out, one lineage after the other.

mod report;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use zeroize::Zeroizing;

use crate::app::{App, IfStoreMissing};
use crate::cli::import::report::ImportReport;
use crate::cli::owner::{self, StdoutMode};
use crate::cli::{CommandOutcome, log, runtime};
use crate::config::Config;
use crate::domain::value::email::Email;
use crate::domain::value::resource::Actor;
use crate::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use crate::import::{self, FileTree, ImportOverrides, Leftover, Lineage, PlannedImport, SourceTool, TreeAccount};
use crate::store::{RegisteredAccount, Takeover, TakeoverOutcome};

#[derive(Debug, Args)]
pub(super) struct ImportCommand {
    /// Whose files they are
    tool: ToolArgument,
    /// The tool's folder, such as /etc/letsencrypt; with pem also one file
    path: PathBuf,
    /// The ACME directory of all that is found; lego does not keep it for CAs that are not well known, pem never
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The contact of the ACME accounts; certbot does not keep it
    #[arg(long, value_name = "ADDRESS")]
    email: Option<Email>,
    /// Carry the plan out
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ToolArgument {
    Certbot,
    Lego,
    #[value(name = "acme.sh")]
    AcmeSh,
    Dehydrated,
    Pem,
}

impl From<ToolArgument> for SourceTool {
    fn from(name: ToolArgument) -> Self {
        match name {
            ToolArgument::Certbot => Self::Certbot,
            ToolArgument::Lego => Self::Lego,
            ToolArgument::AcmeSh => Self::AcmeSh,
            ToolArgument::Dehydrated => Self::Dehydrated,
            ToolArgument::Pem => Self::Pem,
        }
    }
}

/// Root reads the tree, which may be for its eyes only, and hands it to the owner of the store.
pub(super) fn run(config: &Config, arguments: &ImportCommand) -> anyhow::Result<CommandOutcome> {
    let Some(overrides) = parse_overrides(config, arguments) else { return Ok(CommandOutcome::UsageError) };
    let tree = if owner::is_owner_process() {
        serde_json::from_reader(std::io::stdin().lock()).context("what was handed over cannot be read")?
    } else {
        match FileTree::read(arguments.tool.into(), &arguments.path) {
            Ok(tree) => tree,
            Err(error) => {
                eprintln!("autocertd: {:#}", anyhow::Error::new(error));
                return Ok(CommandOutcome::UsageError);
            }
        }
    };
    if !owner::is_owner_process() {
        let handed = Zeroizing::new(serde_json::to_vec(&tree)?);
        if let Some(done) = owner::run_as_owner(&config.state_directory(), &handed, StdoutMode::Inherit)? {
            return Ok(done.outcome);
        }
    }
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, IfStoreMissing::Fail).await?;
        let lineages = import::find_lineages(arguments.tool.into(), &tree, &overrides, app.clock.now());
        let leftovers = import::find_leftovers(arguments.tool.into(), &tree);
        if lineages.is_empty() {
            for leftover in report::describe_leftovers(&leftovers) {
                eprintln!("{leftover}");
            }
            let (path, tool) = (arguments.path.display(), SourceTool::from(arguments.tool));
            eprintln!("autocertd: {path} holds no certificate of {}; give {}", tool.as_str(), tool.expected_layout());
            return Ok(CommandOutcome::UsageError);
        }
        import(config, &app, arguments, lineages, leftovers).await
    })
}

async fn import(
    config: &Config,
    app: &App,
    arguments: &ImportCommand,
    lineages: Vec<Lineage>,
    leftovers: Vec<Leftover>,
) -> anyhow::Result<CommandOutcome> {
    let (actor, limit) = (import_actor(), config.limits.auto_certificates);
    let takeovers: Vec<Option<Takeover>> =
        lineages.iter().map(|lineage| lineage.wish.as_ref().ok().map(|wish| to_takeover(wish))).collect();
    let wanted: Vec<&Takeover> = takeovers.iter().flatten().collect();
    let mut rehearsed = app.store.dry_run_takeovers(&wanted, &actor, limit).await?.into_iter();
    let planned: Vec<Option<TakeoverOutcome>> =
        takeovers.iter().map(|takeover| takeover.as_ref().and_then(|_| rehearsed.next())).collect();
    let mut report = ImportReport::new(arguments.tool.into(), &lineages, leftovers, &planned, limit);
    if !arguments.json {
        report.print_plan();
    }
    if arguments.yes {
        for (number, takeover) in takeovers.iter().enumerate() {
            if let Some(takeover) = takeover {
                let taken = app.store.take_over(takeover, &actor, limit).await?;
                report.record_takeover(number, &taken);
            }
        }
    }
    report.finish(arguments.yes, arguments.json)?;
    Ok(if arguments.yes && report.has_refused() { CommandOutcome::Failed } else { CommandOutcome::Success })
}

fn to_takeover(wish: &PlannedImport) -> Takeover {
    let account = match &wish.account {
        TreeAccount::Usable(credentials) => Some(RegisteredAccount {
            url: credentials.account_url().to_owned(),
            credentials: credentials.as_json().clone(),
        }),
        TreeAccount::Foreign { .. } | TreeAccount::Unknown => None,
    };
    Takeover {
        name: wish.name.clone(),
        common_name: wish.common_name.clone(),
        subject_alternative_names: wish.subject_alternative_names.clone(),
        key_algorithm: wish.key_algorithm,
        server: wish.server.clone(),
        email: wish.email.clone(),
        account,
        certificate: (!wish.is_expired()).then(|| wish.certificate.clone()),
    }
}

/// Says what is wrong with them, where something is.
fn parse_overrides(config: &Config, arguments: &ImportCommand) -> Option<ImportOverrides> {
    let plain_http = if config.acme.allow_http { PlainHttpPolicy::Allowed } else { PlainHttpPolicy::Refused };
    match arguments.server.as_deref().map(|text| ServerUrl::parse(text, plain_http)).transpose() {
        Ok(server) => Some(ImportOverrides { server, email: arguments.email.clone(), plain_http }),
        Err(error) => {
            eprintln!("autocertd: --server: {error}");
            None
        }
    }
}

/// Who made what was taken over.
fn import_actor() -> Actor {
    Actor { name: "autocertd import".to_owned(), id: uuid::Uuid::nil() }
}
