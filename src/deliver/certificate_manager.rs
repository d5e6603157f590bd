//! Upload to another Certificate Manager 2.0, IONOS's own for one. Certificates there never change: each renewal becomes
//! one more, and the one before it is removed after a grace period, in which load balancers move to the new id.

mod receipt;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use self::receipt::{CurrentCertificate, SupersededCertificate, UploadReceipt};
use self::wire::{Page, UploadedCertificate, upload_body};
use crate::config::delivery::CertificateManagerEntry;
use crate::deliver::service::{AuthorizationAdvice, DeliveryService, ServiceCall, ServiceError, TokenFile};
use crate::deliver::{Delivery, DeliveryOutcome, DeliveryPayload};
use crate::domain::failure::disposition::Failure;
use crate::domain::value::endpoint::{Endpoint, InvalidEndpoint};
use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::clock::SharedClock;

/// A Certificate Manager to which certificates are uploaded.
#[derive(Debug)]
pub struct CertificateManagerDelivery {
    service: DeliveryService,
    grace_period: time::Duration,
    /// How long an upload may take to become available before it is looked at again later.
    upload_timeout: Duration,
}

/// Why the settings of a Certificate Manager cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableCertificateManager {
    /// Its address.
    #[error("certificate_manager.endpoint cannot be used")]
    Endpoint(#[source] InvalidEndpoint),
    /// No client can be made.
    #[error(
        "certificate_manager: TLS cannot be set up; install the system's CA certificates (package ca-certificates)"
    )]
    Client(#[source] reqwest::Error),
}

impl CertificateManagerDelivery {
    /// A delivery to the Certificate Manager of these settings. The token is read when it is needed.
    ///
    /// # Errors
    /// Where the address cannot be used.
    pub fn new(entry: &CertificateManagerEntry, clock: SharedClock) -> Result<Self, UnusableCertificateManager> {
        let endpoint = Endpoint::parse(&entry.endpoint).map_err(UnusableCertificateManager::Endpoint)?;
        let http = DeliveryService::client_builder(&endpoint, entry.timeout)
            .build()
            .map_err(UnusableCertificateManager::Client)?;
        let token = TokenFile { key: "certificate_manager.token_file", path: entry.token_file.clone() };
        let advice = AuthorizationAdvice {
            unauthenticated: format!("write a token that is valid into {}", token.path.display()),
            forbidden: format!(
                "give the user of the token in {} the right to manage certificates",
                token.path.display()
            ),
        };
        let service = DeliveryService {
            name: NAME,
            http,
            endpoint,
            token,
            advice,
            read_message: RemoteMessage::from_ionos_error,
            clock,
        };
        let grace = time::Duration::try_from(entry.grace.duration()).unwrap_or(time::Duration::MAX);
        Ok(Self { service, grace_period: grace, upload_timeout: entry.timeout.duration() })
    }

    /// The certificate there that is this one: the one of the last delivery, else one that an upload left whose end we
    /// did not see, else a new one.
    async fn ensure_uploaded(
        &self,
        parcel: &DeliveryPayload,
        receipt: &UploadReceipt,
    ) -> Result<CurrentCertificate, Failure> {
        if let Some(known) = &receipt.present
            && let Some(found) = self.get(&known.id).await?.filter(|found| found.matches_pem(&parcel.leaf_pem))
        {
            return Ok(CurrentCertificate { id: self.await_available(found).await?.id, ours: known.ours });
        }
        if let Some(found) = self.find_equal(parcel, receipt).await? {
            // A person, another delivery or another installation may have uploaded the same certificate, under our name,
            // too; such a one is used, and never removed.
            let ours = receipt.was_uploaded(&found.id);
            return Ok(CurrentCertificate { id: self.await_available(found).await?.id, ours });
        }
        let name = parcel.recipient.name.with_issue_time(parcel.leaf.not_before);
        let uploaded = self.upload(parcel, name.as_str()).await?;
        tracing::info!(certificate = uploaded.id, name = name.as_str(), "uploaded to the Certificate Manager");
        Ok(CurrentCertificate { id: self.await_available(uploaded).await?.id, ours: true })
    }

    /// Looks at all certificates of the same common name, page by page; of equal ones at that of the receipt first. Where
    /// the certificate has no common name, as CAs issue them by now, there is nothing to filter by.
    async fn find_equal(
        &self,
        parcel: &DeliveryPayload,
        receipt: &UploadReceipt,
    ) -> Result<Option<UploadedCertificate>, ServiceError> {
        let (mut equal, mut offset): (Option<UploadedCertificate>, usize) = (None, 0);
        loop {
            let mut query = vec![("offset", offset.to_string()), ("limit", PAGE_SIZE.to_string())];
            if !parcel.leaf.common_name.is_empty() {
                query.push(("filter.commonName", parcel.leaf.common_name.clone()));
            }
            let call = ServiceCall { method: Method::GET, path: &[CERTIFICATES], query: &query, body: None };
            let page: Page = self.service.call_json(call).await?;
            let returned = page.items.len();
            for found in page.items.into_iter().filter(|found| found.matches_pem(&parcel.leaf_pem)) {
                if receipt.was_uploaded(&found.id) {
                    return Ok(Some(found));
                }
                equal.get_or_insert(found);
            }
            offset += returned;
            // A server that ignores the offset must not keep us here for ever.
            if returned < page.limit.unwrap_or(PAGE_SIZE).min(PAGE_SIZE) || offset > MAX_SEARCHED || returned == 0 {
                return Ok(equal);
            }
        }
    }

    async fn upload(&self, parcel: &DeliveryPayload, name: &str) -> Result<UploadedCertificate, ServiceError> {
        let body = upload_body(parcel, name);
        let call = ServiceCall {
            method: Method::POST,
            path: &[CERTIFICATES],
            query: &[],
            body: Some(("application/json", &body)),
        };
        self.service.call_json(call).await
    }

    /// The certificate of this id, if there is one.
    async fn get(&self, id: &str) -> Result<Option<UploadedCertificate>, ServiceError> {
        let call = ServiceCall { method: Method::GET, path: &[CERTIFICATES, id], query: &[], body: None };
        match self.service.call_json(call).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.rejected_status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until what is there can be used.
    async fn await_available(&self, mut found: UploadedCertificate) -> Result<UploadedCertificate, Failure> {
        let begun = Instant::now();
        while !found.is_available() {
            let UploadedCertificate { id, metadata, .. } = &found;
            if metadata.state.as_deref() == Some("FAILED") {
                let said = RemoteMessage::new(metadata.message.as_deref().unwrap_or_default());
                return Err(Failure::operator(format!(
                    "{NAME}: certificate {id} failed there{}; delete it there, and it is uploaded again",
                    said.in_parentheses()
                )));
            }
            if begun.elapsed() >= self.upload_timeout {
                return Err(Failure::retry(format!("{NAME}: certificate {id} is not available there yet")));
            }
            tokio::time::sleep(POLL_PAUSE).await;
            found = match self.get(id).await? {
                Some(found) => found,
                None => return Err(Failure::retry(format!("{NAME}: certificate {id} was removed there meanwhile"))),
            };
        }
        Ok(found)
    }

    /// Removes what was superseded longer ago than the grace period, and says when there is more to remove. It never
    /// fails: the certificate in use is there.
    async fn remove_superseded(&self, receipt: &mut UploadReceipt) -> Option<Moment> {
        let (now, deletable_until) = (self.service.clock.now(), self.service.clock.deletable_until());
        let (mut kept, mut next_looks, mut troubled) = (Vec::new(), Vec::new(), None);
        for mut old in std::mem::take(&mut receipt.superseded) {
            // What lies ahead was written by a clock that did.
            old.since = old.since.min(now.micros());
            let due = old.superseded_at() + self.grace_period;
            if deletable_until.is_none_or(|until| until < due) || troubled.is_some() {
                // A clock that is not believed yet may be later.
                let next_look = if due > now { due } else { now + PAUSE_AFTER_FAILURE };
                next_looks.push(troubled.unwrap_or(next_look));
                kept.push(old);
                continue;
            }
            match self.remove(&old.id).await {
                Ok(()) => tracing::info!(certificate = old.id, "removed a superseded certificate from its place"),
                Err(error) => {
                    if error.rejected_status().is_some() {
                        next_looks.push(now + PAUSE_AFTER_REFUSAL);
                    } else {
                        let asked = error.disposition().not_before();
                        troubled = Some(asked.unwrap_or(now + PAUSE_AFTER_FAILURE).max(now));
                        next_looks.extend(troubled);
                    }
                    kept.push(warn_once(old, receipt.present.as_ref(), &error));
                }
            }
        }
        receipt.superseded = kept;
        next_looks.into_iter().min()
    }

    async fn remove(&self, id: &str) -> Result<(), ServiceError> {
        let call = ServiceCall { method: Method::DELETE, path: &[CERTIFICATES, id], query: &[], body: None };
        match self.service.send(call).await {
            Err(error) if error.rejected_status() != Some(404) => Err(error),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Delivery for CertificateManagerDelivery {
    async fn deliver(&self, parcel: &DeliveryPayload, receipt: Option<&Value>) -> Result<DeliveryOutcome, Failure> {
        let mut receipt = UploadReceipt::parse(receipt);
        let present = self.ensure_uploaded(parcel, &receipt).await?;
        receipt.set_current(present, self.service.clock.now());
        let look_again = self.remove_superseded(&mut receipt).await;
        Ok(DeliveryOutcome { receipt: Some(receipt.to_json()), check_again_at: look_again })
    }

    async fn is_in_place(&self, parcel: &DeliveryPayload, receipt: Option<&Value>) -> Result<bool, Failure> {
        let Some(present) = UploadReceipt::parse(receipt).present else { return Ok(false) };
        let found = self.get(&present.id).await?;
        Ok(found.is_some_and(|found| found.is_available() && found.matches_pem(&parcel.leaf_pem)))
    }

    fn remaining_work_due(&self, receipt: Option<&Value>) -> Option<Moment> {
        let now = self.service.clock.now();
        // What lies ahead was written by a clock that did, and is mended by the next delivery.
        let due = |at: Moment| if at > now { now } else { at + self.grace_period };
        UploadReceipt::parse(receipt).superseded.iter().map(|old| due(old.superseded_at())).min()
    }
}

/// Tells of a removal that failed: once, because it is tried again and again.
fn warn_once(
    old: SupersededCertificate,
    present: Option<&CurrentCertificate>,
    error: &ServiceError,
) -> SupersededCertificate {
    if !old.reported {
        tracing::warn!(
            certificate = old.id,
            present = present.map(|present| present.id.as_str()),
            error = error as &dyn std::error::Error,
            "a superseded certificate cannot be removed from its place and is tried again; where a load balancer uses it, \
             let that use the present one"
        );
    }
    SupersededCertificate { reported: true, ..old }
}

const NAME: &str = "certificate_manager";
const CERTIFICATES: &str = "certificates";
/// Certificates per page, each with its chain.
const PAGE_SIZE: usize = 100;
/// No more certificates are looked through than this.
const MAX_SEARCHED: usize = 100_000;
/// Between two looks at an upload that is not available yet.
const POLL_PAUSE: Duration = Duration::from_millis(500);
/// Until the next try to remove what is in use.
const PAUSE_AFTER_REFUSAL: time::Duration = time::Duration::DAY;
/// Until the next try to remove anything, where the service named no moment.
const PAUSE_AFTER_FAILURE: time::Duration = time::Duration::HOUR;
