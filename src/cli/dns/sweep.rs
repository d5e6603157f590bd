//! `autocertd dns sweep`: removes by hand what the daemon would remove sooner or later.

use clap::Args;
use serde_json::{Value, json};

use crate::app::{App, IfStoreMissing, Integrations};
use crate::cli::{CommandOutcome, log, owner, runtime};
use crate::config::Config;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::text::printable;
use crate::scheduler::{Cleanup, CleanupOutcome, SweepMode};

#[derive(Debug, Args)]
pub(crate) struct SweepCommand {
    /// Only print what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Remove nothing, but forget the records of this adapter, which the settings no longer have, after you removed them by
    /// hand
    #[arg(long, value_name = "ADAPTER", conflicts_with = "dry_run")]
    forget: Option<AdapterName>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Config, arguments: &SweepCommand) -> anyhow::Result<CommandOutcome> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let outside = Integrations::from_config(config)?;
        let app = App::open(config, IfStoreMissing::Fail).await?;
        let swept = sweep(&app, outside, arguments).await;
        app.stop().await;
        let Some(swept) = swept? else { return Ok(CommandOutcome::UsageError) };
        if arguments.json {
            let rows: Vec<Value> = swept.iter().map(to_json).collect();
            crate::cli::output::print_json(&rows)?;
        } else {
            print(&swept);
        }
        let failed = swept.iter().any(|removed| matches!(removed.outcome, CleanupOutcome::Failed(_)));
        Ok(if failed { CommandOutcome::Failed } else { CommandOutcome::Success })
    })
}

/// Nothing where it cannot be meant so.
async fn sweep(app: &App, outside: Integrations, arguments: &SweepCommand) -> anyhow::Result<Option<Vec<Cleanup>>> {
    let scheduler = app.scheduler(outside);
    let sweep = match &arguments.forget {
        Some(adapter) if scheduler.has_adapter(adapter.as_str()) => {
            eprintln!(
                "autocertd: the settings have the DNS adapter {adapter}, which can remove its records; leave out --forget"
            );
            return Ok(None);
        }
        Some(adapter) => SweepMode::Forget(adapter.to_string()),
        None if arguments.dry_run => SweepMode::DryRun,
        None => SweepMode::Remove,
    };
    Ok(Some(scheduler.sweep(&sweep).await?))
}

fn print(swept: &[Cleanup]) {
    for removed in swept {
        println!("{}", printable(&format_line(removed)));
    }
    println!("{}", summary(swept));
}

fn format_line(Cleanup { record, outcome: fate }: &Cleanup) -> String {
    let what = format!("TXT {} {:?} ({})", record.name, record.content, record.adapter);
    match fate {
        CleanupOutcome::Removed | CleanupOutcome::WouldBeRemoved | CleanupOutcome::Forgotten => {
            format!("{}: {what}", outcome_label(fate))
        }
        CleanupOutcome::InUse(why) => format!("{}: {what}: {why}", outcome_label(fate)),
        CleanupOutcome::Failed(why) => format!("{}: {what}: {why}", outcome_label(fate)),
    }
}

fn summary(swept: &[Cleanup]) -> String {
    let counts: Vec<String> = OUTCOME_LABELS
        .iter()
        .map(|each| (each, swept.iter().filter(|removed| outcome_label(&removed.outcome) == *each).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    if counts.is_empty() { "nothing is left over".to_owned() } else { counts.join(", ") }
}

fn outcome_label(fate: &CleanupOutcome) -> &'static str {
    match fate {
        CleanupOutcome::Removed => "removed",
        CleanupOutcome::WouldBeRemoved => "would be removed",
        CleanupOutcome::Forgotten => "forgotten",
        CleanupOutcome::InUse(_) => "in use",
        CleanupOutcome::Failed(_) => "not removed",
    }
}

fn to_json(Cleanup { record, outcome: fate }: &Cleanup) -> Value {
    let (state, message) = match fate {
        CleanupOutcome::Removed => ("removed", None),
        CleanupOutcome::WouldBeRemoved => ("wouldBeRemoved", None),
        CleanupOutcome::Forgotten => ("forgotten", None),
        CleanupOutcome::InUse(why) => ("inUse", Some(*why)),
        CleanupOutcome::Failed(why) => ("notRemoved", Some(why.as_str())),
    };
    json!({
        "name": record.name,
        "content": record.content,
        "adapter": record.adapter,
        "zone": record.zone_id,
        "record": record.record_id,
        "autoCertificate": record.auto_certificate,
        "state": state,
        "message": message,
    })
}

const OUTCOME_LABELS: [&str; 5] = ["removed", "would be removed", "forgotten", "not removed", "in use"];
