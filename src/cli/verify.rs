//! `autocertd verify`: what is served, right now, where deliveries say `verify`.

use clap::Args;
use comfy_table::Table;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::app::{App, MissingStore, UnusableSettings};
use crate::cli::deliveries::empty_table;
use crate::cli::named::deliveries;
use crate::cli::{Ending, log, owner, runtime};
use crate::config::Config;
use crate::config::delivery::DeliveryEntry;
use crate::deliver::DeliveryRecipient;
use crate::deliver::verify::Verify;
use crate::domain::delivery::{DeliverableCertificate, DeliveryReason, plan_delivery};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::id::AutoCertificateId;
use crate::store::{DeliveryRow, Store};

#[derive(Debug, Args)]
pub(super) struct VerifyCommand {
    /// Only the auto-certificates of these names, common names or ids
    names: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is served at one place for one auto-certificate.
#[derive(Debug, Serialize)]
struct Verdict {
    id: AutoCertificateId,
    name: String,
    delivery: String,
    address: String,
    #[serde(flatten)]
    state: State,
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum State {
    /// There is no valid certificate that could be served.
    NothingToServe,
    /// The newest certificate.
    Newest,
    /// The one that was delivered last, as it should be until the deploy window opens.
    Waiting {
        /// When that is, RFC 3339.
        until: String,
    },
    /// The one that was delivered last, although a newer one should be there.
    Older {
        /// Why it is not, for people.
        message: String,
    },
    /// Another certificate.
    Another {
        /// Which, for people.
        served: String,
    },
    /// None that could be seen.
    Unseen {
        /// Why, for people.
        message: String,
    },
}

/// Where one auto-certificate should be served.
struct VerifiedEndpoint<'a> {
    entry: &'a DeliveryEntry,
    address: &'a str,
    verify: &'a Verify,
    row: DeliveryRow,
}

pub(super) fn run(config: &Config, command: &VerifyCommand) -> anyhow::Result<Ending> {
    let places = places(config)?;
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, MissingStore::MustExist).await?;
        let rows = deliveries(&app.store, &config.instance(), &command.names).await?;
        let spots = rows.into_iter().filter_map(|row| {
            let (entry, address, verify) = places.iter().find(|(entry, ..)| entry.key == row.target)?;
            Some(VerifiedEndpoint { entry, address, verify, row })
        });
        let looks = stream::iter(spots).map(|spot| look(&app, spot)).buffered(AT_ONCE);
        let verdicts: Vec<Verdict> = looks.try_collect().await?;
        if command.json {
            crate::cli::output::print_json(&verdicts)?;
        } else if verdicts.is_empty() {
            println!("no delivery from here has `verify`, and so nothing was looked at");
        } else {
            println!("{}", table(&verdicts));
        }
        let well = verdicts.iter().all(|verdict| verdict.state.is_well());
        Ok(if well { Ending::Well } else { Ending::Failed })
    })
}

/// The deliveries that say where they are served.
fn places(config: &Config) -> Result<Vec<(&DeliveryEntry, &str, Verify)>, UnusableSettings> {
    let declared = config.deliveries.iter().filter_map(|entry| Some((entry, entry.verify.as_ref()?)));
    declared
        .map(|(entry, verify)| {
            let usable = Verify::new(verify).map_err(UnusableSettings::of)?;
            Ok((entry, verify.address.as_str(), usable))
        })
        .collect()
}

async fn look(app: &App, spot: VerifiedEndpoint<'_>) -> anyhow::Result<Verdict> {
    let state = state(app, &spot).await?;
    let VerifiedEndpoint { address, row, .. } = spot;
    let (name, delivery) = (row.name.to_string(), row.target.to_string());
    Ok(Verdict { id: row.auto_certificate, name, delivery, address: address.to_owned(), state })
}

async fn state(app: &App, spot: &VerifiedEndpoint<'_>) -> anyhow::Result<State> {
    let VerifiedEndpoint { entry, verify, row, .. } = spot;
    let (standing, now) = (&row.standing, app.clock.now());
    let newest = standing.newest.filter(|newest| now < newest.not_after);
    if newest.or(standing.delivered).is_none() {
        return Ok(State::NothingToServe);
    }
    let served = match verify.served(&DeliveryRecipient::from(row)).await {
        Ok(served) => served,
        Err(failure) => return Ok(State::Unseen { message: failure.message.to_string() }),
    };
    if fingerprint(&app.store, newest).await? == Some(served.fingerprint) {
        return Ok(State::Newest);
    }
    if fingerprint(&app.store, standing.delivered).await? != Some(served.fingerprint) {
        return Ok(State::Another { served: served.to_string() });
    }
    let plan = plan_delivery(standing, entry.activate.as_ref(), now);
    Ok(match (standing.hindrance(), plan.reason) {
        (Some(trouble), _) => State::Older { message: format!("the delivery failed: {}", trouble.last.message) },
        (None, DeliveryReason::Window) => State::Waiting { until: plan.next_look.to_string() },
        (None, reason) => State::Older { message: reason.to_string() },
    })
}

/// That of a certificate which is stored still.
async fn fingerprint(store: &Store, certificate: Option<DeliverableCertificate>) -> anyhow::Result<Option<Fingerprint>> {
    let Some(DeliverableCertificate { id, .. }) = certificate else { return Ok(None) };
    let stored = store.certificate(id).await?;
    Ok(stored.map(|stored| Fingerprint::of_pem(&stored.certificate)).transpose()?)
}

impl State {
    const fn is_well(&self) -> bool {
        matches!(self, Self::NothingToServe | Self::Newest | Self::Waiting { .. })
    }

    fn words(&self) -> String {
        match self {
            Self::NothingToServe => "there is no valid certificate to serve yet".to_owned(),
            Self::Newest => "serves the newest".to_owned(),
            Self::Waiting { until } => format!("serves the one before; the newest waits for its window at {until}"),
            Self::Older { message } => format!("serves an older one: {message}"),
            Self::Another { served } => format!("serves another: {served}"),
            Self::Unseen { message } => format!("not seen: {message}"),
        }
    }
}

fn table(verdicts: &[Verdict]) -> Table {
    let mut table = empty_table(&["NAME", "DELIVERY", "ADDRESS", "STATE"]);
    for Verdict { name, delivery, address, state, .. } in verdicts {
        table.add_row([name.clone(), delivery.clone(), address.clone(), state.words()]);
    }
    table
}

/// A place that does not answer takes its whole time-out.
const AT_ONCE: usize = 16;
