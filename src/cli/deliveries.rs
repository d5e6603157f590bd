//! `autocertd deliveries`: where certificates go from here, and how that goes.

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};

use crate::app::{App, IfStoreMissing};
use crate::cli::selection::load_deliveries;
use crate::cli::{CommandOutcome, log, owner, runtime};
use crate::config::Config;
use crate::http::control::{DeliveryProgress, DeliveryState};

#[derive(Debug, Args)]
pub(super) struct DeliveriesCommand {
    /// Only those of the auto-certificates of these names, common names or ids
    names: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Config, command: &DeliveriesCommand) -> anyhow::Result<CommandOutcome> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, IfStoreMissing::Fail).await?;
        let rows = load_deliveries(&app.store, &config.instance(), &command.names).await?;
        let now = app.clock.now();
        let deliveries: Vec<DeliveryProgress> = rows.iter().map(|row| DeliveryProgress::from_row(row, now)).collect();
        if command.json {
            crate::cli::output::print_json(&deliveries)?;
        } else {
            println!("{}", table(&deliveries));
        }
        let failed = |delivery: &DeliveryProgress| matches!(delivery.state, DeliveryState::Failed { .. });
        Ok(if deliveries.iter().any(failed) { CommandOutcome::Failed } else { CommandOutcome::Success })
    })
}

fn table(deliveries: &[DeliveryProgress]) -> Table {
    let mut table = empty_table(&["NAME", "DELIVERY", "STATE"]);
    for delivery in deliveries {
        table.add_row([delivery.name.clone(), delivery.delivery.clone(), describe_state(&delivery.state)]);
    }
    table
}

/// A table without lines, fit for the terminal.
pub(super) fn empty_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    table
}

fn describe_state(state: &DeliveryState) -> String {
    match state {
        DeliveryState::NothingToDeliver => "nothing to deliver yet".to_owned(),
        DeliveryState::Delivered => "delivered".to_owned(),
        DeliveryState::Running => "under way".to_owned(),
        DeliveryState::Planned { at, .. } => format!("planned for {at}"),
        DeliveryState::Failed { message, next_try } => format!("failed: {message} (next try at {next_try})"),
    }
}
