//! `autocertd deliveries`: where certificates go from here, and how that goes.

use anyhow::Context;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};

use crate::app::{App, Place};
use crate::cli::{Ending, log, owner, runtime};
use crate::config::Config;
use crate::domain::id::AutoCertificateId;
use crate::http::control::{DeliveryProgress, DeliveryState, deliveries_of};
use crate::store::{Page, Store};

#[derive(Debug, Args)]
pub(super) struct DeliveriesCommand {
    /// Only those of the auto-certificates of these names, common names or ids
    names: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Config, command: &DeliveriesCommand) -> anyhow::Result<Ending> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, Place::MustExist).await?;
        let ids = chosen(&app.store, &command.names).await?;
        let deliveries = deliveries_of(&app.store, &config.instance(), &ids, app.clock.now()).await?;
        if command.json {
            println!("{}", serde_json::to_string_pretty(&deliveries)?);
        } else {
            println!("{}", table(&deliveries));
        }
        let failed = |delivery: &DeliveryProgress| matches!(delivery.state, DeliveryState::Failed { .. });
        Ok(if deliveries.iter().any(failed) { Ending::Failed } else { Ending::Well })
    })
}

/// The auto-certificates of these names; without names all of them.
pub(super) async fn chosen(store: &Store, names: &[String]) -> anyhow::Result<Vec<AutoCertificateId>> {
    let mut ids = Vec::new();
    for name in names {
        let matching = store.matching_auto_certificates(name).await?;
        anyhow::ensure!(!matching.is_empty(), "no auto-certificate has the name, common name or id {name:?}");
        ids.extend(matching);
    }
    let mut offset = 0;
    while names.is_empty() {
        let page = store.auto_certificates(Page { offset, limit: AT_ONCE }, None).await?;
        ids.extend(page.items.iter().map(|auto_certificate| auto_certificate.id));
        if !page.more {
            break;
        }
        offset = offset.checked_add(AT_ONCE).context("too many auto-certificates")?;
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn table(deliveries: &[DeliveryProgress]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["NAME", "DELIVERY", "STATE"]);
    for delivery in deliveries {
        table.add_row([delivery.name.clone(), delivery.delivery.clone(), words(&delivery.state)]);
    }
    table
}

fn words(state: &DeliveryState) -> String {
    match state {
        DeliveryState::NothingToDeliver => "nothing to deliver yet".to_owned(),
        DeliveryState::Delivered => "delivered".to_owned(),
        DeliveryState::Running => "under way".to_owned(),
        DeliveryState::Planned { at, .. } => format!("planned for {at}"),
        DeliveryState::Failed { message, next_try } => format!("failed: {message} (next try at {next_try})"),
    }
}

const AT_ONCE: u32 = 500;
