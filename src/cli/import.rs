//! `autocertd import`: what another tool did until now, autocertd does from now on. Its files are only read; a plan comes
//! first, and only `--yes` carries it out, one lineage after the other.

mod report;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use zeroize::Zeroizing;

use crate::app::{App, MissingStore};
use crate::cli::import::report::Report;
use crate::cli::owner::{self, Output};
use crate::cli::{Ending, log, runtime};
use crate::config::Config;
use crate::domain::email::Email;
use crate::domain::resource::Actor;
use crate::domain::server_url::{PlainHttp, ServerUrl};
use crate::import::{self, Leftover, Lineage, Overrides, Tool, Tree, TreeAccount, PlannedImport};
use crate::store::{RegisteredAccount, TakeoverOutcome, Takeover};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Whose files they are
    tool: ToolName,
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
enum ToolName {
    Certbot,
    Lego,
    #[value(name = "acme.sh")]
    AcmeSh,
    Dehydrated,
    Pem,
}

impl From<ToolName> for Tool {
    fn from(name: ToolName) -> Self {
        match name {
            ToolName::Certbot => Self::Certbot,
            ToolName::Lego => Self::Lego,
            ToolName::AcmeSh => Self::AcmeSh,
            ToolName::Dehydrated => Self::Dehydrated,
            ToolName::Pem => Self::Pem,
        }
    }
}

/// Root reads the tree, which may be for its eyes only, and hands it to the owner of the store.
pub(super) fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<Ending> {
    let Some(overrides) = overrides(config, arguments) else { return Ok(Ending::Misused) };
    let tree = if owner::was_handed_over() {
        serde_json::from_reader(std::io::stdin().lock()).context("what was handed over cannot be read")?
    } else {
        match Tree::read(arguments.tool.into(), &arguments.path) {
            Ok(tree) => tree,
            Err(error) => {
                eprintln!("autocertd: {:#}", anyhow::Error::new(error));
                return Ok(Ending::Misused);
            }
        }
    };
    if !owner::was_handed_over() {
        let handed = Zeroizing::new(serde_json::to_vec(&tree)?);
        if let Some(done) = owner::hand_over(&config.state_directory(), &handed, Output::Shown)? {
            return Ok(done.ending);
        }
    }
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, MissingStore::MustExist).await?;
        let lineages = import::lineages(arguments.tool.into(), &tree, &overrides, app.clock.now());
        let leftovers = import::leftovers(arguments.tool.into(), &tree);
        if lineages.is_empty() {
            for leftover in report::described(&leftovers) {
                eprintln!("{leftover}");
            }
            let (path, tool) = (arguments.path.display(), Tool::from(arguments.tool));
            eprintln!("autocertd: {path} holds no certificate of {}; give {}", tool.as_str(), tool.looks_like());
            return Ok(Ending::Misused);
        }
        import(config, &app, arguments, lineages, leftovers).await
    })
}

async fn import(
    config: &Config,
    app: &App,
    arguments: &Arguments,
    lineages: Vec<Lineage>,
    leftovers: Vec<Leftover>,
) -> anyhow::Result<Ending> {
    let (actor, limit) = (actor(), config.limits.auto_certificates);
    let takeovers: Vec<Option<Takeover>> =
        lineages.iter().map(|lineage| lineage.wish.as_ref().ok().map(|wish| takeover(wish))).collect();
    let wanted: Vec<&Takeover> = takeovers.iter().flatten().collect();
    let mut rehearsed = app.store.rehearse_takeovers(&wanted, &actor, limit).await?.into_iter();
    let planned: Vec<Option<TakeoverOutcome>> =
        takeovers.iter().map(|takeover| takeover.as_ref().and_then(|_| rehearsed.next())).collect();
    let mut report = Report::new(arguments.tool.into(), &lineages, leftovers, &planned, limit);
    if !arguments.json {
        report.print_plan();
    }
    if arguments.yes {
        for (number, takeover) in takeovers.iter().enumerate() {
            if let Some(takeover) = takeover {
                let taken = app.store.take_over(takeover, &actor, limit).await?;
                report.taken(number, &taken);
            }
        }
    }
    report.finish(arguments.yes, arguments.json)?;
    Ok(if arguments.yes && report.has_refused() { Ending::Failed } else { Ending::Well })
}

fn takeover(wish: &PlannedImport) -> Takeover {
    let account = match &wish.account {
        TreeAccount::Usable(credentials) => Some(RegisteredAccount {
            url: credentials.account_url().to_owned(),
            credentials: credentials.sealable().clone(),
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
fn overrides(config: &Config, arguments: &Arguments) -> Option<Overrides> {
    let plain_http = if config.acme.allow_http { PlainHttp::Allowed } else { PlainHttp::Refused };
    match arguments.server.as_deref().map(|text| ServerUrl::parse(text, plain_http)).transpose() {
        Ok(server) => Some(Overrides { server, email: arguments.email.clone(), plain_http }),
        Err(error) => {
            eprintln!("autocertd: --server: {error}");
            None
        }
    }
}

/// Who made what was taken over.
fn actor() -> Actor {
    Actor { name: "autocertd import".to_owned(), id: uuid::Uuid::nil() }
}
