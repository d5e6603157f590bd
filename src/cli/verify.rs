//! `autocertd verify`: what is served, right now, where deliveries say `verify`.

use clap::Args;
use comfy_table::Table;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::app::{App, IfStoreMissing, UnusableSettings};
use crate::cli::deliveries::empty_table;
use crate::cli::selection::load_deliveries;
use crate::cli::{CommandOutcome, log, owner, runtime};
use crate::config::Config;
use crate::config::delivery::DeliveryEntry;
use crate::deliver::DeliveryRecipient;
use crate::deliver::verify::TlsVerification;
use crate::domain::certificate::fingerprint::Fingerprint;
use crate::domain::delivery::{DeliverableCertificate, DeliveryReason, plan_delivery};
use crate::domain::value::id::AutoCertificateId;
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
struct VerifiedDelivery {
    id: AutoCertificateId,
    name: String,
    delivery: String,
    address: String,
    #[serde(flatten)]
    state: ServedState,
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum ServedState {
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
    verify: &'a TlsVerification,
    row: DeliveryRow,
}

pub(super) fn run(config: &Config, command: &VerifyCommand) -> anyhow::Result<CommandOutcome> {
    let places = load_verify_targets(config)?;
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, IfStoreMissing::Fail).await?;
        let rows = load_deliveries(&app.store, &config.instance(), &command.names).await?;
        let spots = rows.into_iter().filter_map(|row| {
            let (entry, address, verify) = places.iter().find(|(entry, ..)| entry.key == row.target)?;
            Some(VerifiedEndpoint { entry, address, verify, row })
        });
        let looks = stream::iter(spots).map(|spot| check_endpoint(&app, spot)).buffered(MAX_CONCURRENT_CHECKS);
        let verdicts: Vec<VerifiedDelivery> = looks.try_collect().await?;
        if command.json {
            crate::cli::output::print_json(&verdicts)?;
        } else if verdicts.is_empty() {
            println!("no delivery from here has `verify`, and so nothing was looked at");
        } else {
            println!("{}", table(&verdicts));
        }
        let well = verdicts.iter().all(|verdict| verdict.state.is_ok());
        Ok(if well { CommandOutcome::Success } else { CommandOutcome::Failed })
    })
}

/// The deliveries that say where they are served.
fn load_verify_targets(config: &Config) -> Result<Vec<(&DeliveryEntry, &str, TlsVerification)>, UnusableSettings> {
    let declared = config.deliveries.iter().filter_map(|entry| Some((entry, entry.verify.as_ref()?)));
    declared
        .map(|(entry, verify)| {
            let usable = TlsVerification::new(verify).map_err(UnusableSettings::from_error)?;
            Ok((entry, verify.address.as_str(), usable))
        })
        .collect()
}

async fn check_endpoint(app: &App, spot: VerifiedEndpoint<'_>) -> anyhow::Result<VerifiedDelivery> {
    let state = check_served(app, &spot).await?;
    let VerifiedEndpoint { address, row, .. } = spot;
    let (name, delivery) = (row.name.to_string(), row.target.to_string());
    Ok(VerifiedDelivery { id: row.auto_certificate, name, delivery, address: address.to_owned(), state })
}

async fn check_served(app: &App, spot: &VerifiedEndpoint<'_>) -> anyhow::Result<ServedState> {
    let VerifiedEndpoint { entry, verify, row, .. } = spot;
    let (standing, now) = (&row.standing, app.clock.now());
    let newest = standing.newest.filter(|newest| now < newest.not_after);
    if newest.or(standing.delivered).is_none() {
        return Ok(ServedState::NothingToServe);
    }
    let served = match verify.probe_once(&DeliveryRecipient::from(row)).await {
        Ok(served) => served,
        Err(failure) => return Ok(ServedState::Unseen { message: failure.message.to_string() }),
    };
    if stored_fingerprint(&app.store, newest).await? == Some(served.fingerprint) {
        return Ok(ServedState::Newest);
    }
    if stored_fingerprint(&app.store, standing.delivered).await? != Some(served.fingerprint) {
        return Ok(ServedState::Another { served: served.to_string() });
    }
    let plan = plan_delivery(standing, entry.activate.as_ref(), now);
    Ok(match (standing.current_failure_streak(), plan.reason) {
        (Some(trouble), _) => ServedState::Older { message: format!("the delivery failed: {}", trouble.last.message) },
        (None, DeliveryReason::WindowClosed) => ServedState::Waiting { until: plan.next_check.to_string() },
        (None, reason) => ServedState::Older { message: reason.to_string() },
    })
}

/// That of a certificate which is stored still.
async fn stored_fingerprint(
    store: &Store,
    certificate: Option<DeliverableCertificate>,
) -> anyhow::Result<Option<Fingerprint>> {
    let Some(DeliverableCertificate { id, .. }) = certificate else { return Ok(None) };
    let stored = store.certificate(id).await?;
    Ok(stored.map(|stored| Fingerprint::from_pem(&stored.certificate)).transpose()?)
}

impl ServedState {
    const fn is_ok(&self) -> bool {
        matches!(self, Self::NothingToServe | Self::Newest | Self::Waiting { .. })
    }

    fn describe(&self) -> String {
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

fn table(verdicts: &[VerifiedDelivery]) -> Table {
    let mut table = empty_table(&["NAME", "DELIVERY", "ADDRESS", "STATE"]);
    for VerifiedDelivery { name, delivery, address, state, .. } in verdicts {
        table.add_row([name.clone(), delivery.clone(), address.clone(), state.describe()]);
    }
    table
}

/// A place that does not answer takes its whole time-out.
const MAX_CONCURRENT_CHECKS: usize = 16;
