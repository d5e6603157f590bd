//! A delivery on this very machine: files, then the hook, the reload, and a look at what is served.

use std::fmt;

use async_trait::async_trait;
use serde_json::Value;

use crate::deliver::files::{FilesDelivery, PublishOutcome, RollBackOutcome};
use crate::deliver::hook::{Hook, HookEnvironment, HookEvent};
use crate::deliver::reload::{Reload, ReloadReached};
use crate::deliver::verify::TlsVerification;
use crate::deliver::{Delivery, DeliveryOutcome, DeliveryPayload, DeliveryRecipient};
use crate::domain::certificate::fingerprint::Fingerprint;
use crate::domain::declared::DeclaredKey;
use crate::domain::failure::disposition::Failure;
use crate::runtime::clock::SharedClock;

/// What is done on this machine, in the order of the fields.
pub struct LocalDelivery {
    /// The key of the delivery.
    pub key: DeclaredKey,
    /// What is published.
    pub files: Option<FilesDelivery>,
    /// What is run.
    pub hook: Option<Hook>,
    /// Who is told.
    pub reload: Option<Reload>,
    /// Where it should be served.
    pub verify: Option<TlsVerification>,
    /// Whether the previous files go back where it is not served.
    pub rollback: bool,
    /// Whether there are files before there is a certificate.
    pub placeholder: bool,
    /// Tells what has expired, which never goes back.
    pub clock: SharedClock,
}

#[async_trait]
impl Delivery for LocalDelivery {
    async fn deliver(&self, parcel: &DeliveryPayload, _: Option<&Value>) -> Result<DeliveryOutcome, Failure> {
        let mut replaced = false;
        if let Some(files) = &self.files {
            let published = files.publish(parcel).await?;
            tracing::debug!(?published, "files published");
            replaced = published == PublishOutcome::Replaced;
        }
        // Who does not run serves nothing that could be looked at.
        if self.notify_service(HookEvent::Deployed, parcel).await? == ReloadReached::NotRunning {
            return Ok(DeliveryOutcome::default());
        }
        match self.verify(parcel).await {
            Ok(()) => Ok(DeliveryOutcome::default()),
            // What was live before this try has served: where it is not seen now, an older one is no remedy.
            Err(failure) if self.rollback && replaced => Err(self.roll_back(parcel, failure).await),
            Err(failure) => Err(failure),
        }
    }

    async fn is_in_place(&self, parcel: &DeliveryPayload, _: Option<&Value>) -> Result<bool, Failure> {
        if let Some(files) = &self.files
            && !files.is_current(parcel).await?
        {
            return Ok(false);
        }
        let Some(verify) = &self.verify else { return Ok(true) };
        // What cannot be seen just now is no reason to deliver anew; what serves something else is.
        let served = verify.probe_once(&parcel.recipient).await?;
        Ok(Fingerprint::from_pem(&parcel.leaf_pem).is_ok_and(|wanted| wanted == served.fingerprint))
    }

    async fn prepare(&self, addressee: &DeliveryRecipient) -> Result<(), Failure> {
        match &self.files {
            Some(files) if self.placeholder => files.publish_placeholder(addressee).await,
            _ => Ok(()),
        }
    }
}

impl LocalDelivery {
    /// Has what is live now taken up.
    async fn notify_service(&self, event: HookEvent, parcel: &DeliveryPayload) -> Result<ReloadReached, Failure> {
        if let Some(hook) = &self.hook {
            let directory = self.files.as_ref().map(|files| files.folder_for(&parcel.recipient));
            hook.run(HookEnvironment::from_payload(event, &self.key, parcel, directory.as_deref())?).await?;
        }
        match &self.reload {
            Some(reload) => reload.run().await,
            None => Ok(ReloadReached::Service),
        }
    }

    async fn verify(&self, parcel: &DeliveryPayload) -> Result<(), Failure> {
        match &self.verify {
            Some(verify) => verify.run(parcel).await,
            None => Ok(()),
        }
    }

    /// Puts the previous version back into service; gives the failure with what became of that.
    async fn roll_back(&self, parcel: &DeliveryPayload, failure: Failure) -> Failure {
        let Some(files) = &self.files else { return failure };
        let ended = match files.roll_back(&parcel.recipient, self.clock.now()).await {
            Ok(RollBackOutcome::Done) => match self.notify_service(HookEvent::RolledBack, parcel).await {
                Ok(_) => "the previous version went back".to_owned(),
                Err(error) => format!("the previous files went back, but were not taken up: {error}"),
            },
            Ok(RollBackOutcome::NoPrevious) => "there is no previous version to go back to".to_owned(),
            Ok(RollBackOutcome::Expired(at)) => format!("the previous version expired at {at}, so the new one stays"),
            Err(error) => format!("the previous version could not go back: {error}"),
        };
        Failure { message: format!("{}; {ended}", failure.message).into(), ..failure }
    }
}

impl fmt::Debug for LocalDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDelivery").field("key", &self.key).finish_non_exhaustive()
    }
}
