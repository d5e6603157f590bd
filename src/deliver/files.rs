//! `files`: a folder per certificate with PEM files, published whole. A reader sees the old certificate with its key or
//! the new one with its own, whatever happens in between; the previous version is kept for a roll-back.

mod access;
mod certificate_folder;
mod contents;
mod error;
mod folder;
mod pkcs12;
mod placeholder;

use std::path::PathBuf;

use crate::config::delivery::FilesEntry;
use crate::deliver::files::access::FileAccess;
use crate::deliver::files::certificate_folder::{CertificateFolder, PLACEHOLDER};
use crate::deliver::files::error::FilesError;
use crate::deliver::payload::{DeliveryPayload, DeliveryRecipient};
use crate::domain::failure::disposition::Failure;
use crate::domain::value::moment::Moment;

/// The folders of one delivery.
#[derive(Clone, Debug)]
pub struct FilesDelivery(FilesEntry);

/// What a publication came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// It took the place of another certificate, which is kept for a roll-back.
    Replaced,
    /// It is the first certificate, or was put right; whoever serves it must take it up.
    Changed,
    /// It was live already.
    Unchanged,
}

/// What a roll-back came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollBackOutcome {
    /// The previous certificate is live again.
    Done,
    /// There is none; a placeholder is none.
    NoPrevious,
    /// It expired at that moment, and what is live stays so.
    Expired(Moment),
}

impl FilesDelivery {
    /// As the settings declare them. Owner and group are looked up each time, since they may be made later.
    pub fn new(entry: &FilesEntry) -> Self {
        Self(entry.clone())
    }

    /// The folder of this addressee.
    pub fn folder_for(&self, addressee: &DeliveryRecipient) -> PathBuf {
        self.0.directory.join(&addressee.label)
    }

    /// Makes a certificate live.
    ///
    /// # Errors
    /// What failed and what to do; what was live before stays so.
    pub async fn publish(&self, parcel: &DeliveryPayload) -> Result<PublishOutcome, Failure> {
        let parcel = parcel.clone();
        self.run_blocking(move |entry| {
            let access = FileAccess::from_entry(entry)?;
            let contents = contents::build_contents(entry, &access, &parcel)?;
            let folder = CertificateFolder::open_or_create(&entry.directory, &parcel.recipient.label, &access)?;
            let _lock = folder.lock()?;
            folder.publish(&parcel.certificate.to_string(), &contents, &access)
        })
        .await
    }

    /// Whether what is live is what would be published: the same files with the same contents, modes and owner.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub async fn is_current(&self, parcel: &DeliveryPayload) -> Result<bool, Failure> {
        let parcel = parcel.clone();
        self.run_blocking(move |entry| {
            let access = FileAccess::from_entry(entry)?;
            let contents = contents::build_contents(entry, &access, &parcel)?;
            let folder = CertificateFolder::open(&entry.directory, &parcel.recipient.label)?;
            folder.map_or(Ok(false), |folder| folder.is_live(&contents, &access))
        })
        .await
    }

    /// Makes the certificate that was live before the present one live again, unless it has expired at `now`.
    ///
    /// # Errors
    /// What failed and what to do; what was live before stays so.
    pub async fn roll_back(&self, addressee: &DeliveryRecipient, now: Moment) -> Result<RollBackOutcome, Failure> {
        let label = addressee.label.clone();
        self.run_blocking(move |entry| {
            let Some(folder) = CertificateFolder::open(&entry.directory, &label)? else {
                return Ok(RollBackOutcome::NoPrevious);
            };
            let _lock = folder.lock()?;
            folder.roll_back(now)
        })
        .await
    }

    /// Makes a self-signed pair live where nothing is, with the common name `autocertd placeholder`.
    ///
    /// # Errors
    /// What failed and what to do.
    pub async fn publish_placeholder(&self, addressee: &DeliveryRecipient) -> Result<(), Failure> {
        let addressee = addressee.clone();
        self.run_blocking(move |entry| {
            let access = FileAccess::from_entry(entry)?;
            let contents = contents::build_contents(entry, &access, &placeholder::make_placeholder(&addressee)?)?;
            // A look without the lock first, which also a folder that can only be read allows.
            if let Some(folder) = CertificateFolder::open(&entry.directory, &addressee.label)?
                && folder.needs_no_placeholder(&contents, &access)?
            {
                return Ok(());
            }
            let folder = CertificateFolder::open_or_create(&entry.directory, &addressee.label, &access)?;
            let _lock = folder.lock()?;
            if !folder.needs_no_placeholder(&contents, &access)? {
                folder.publish(PLACEHOLDER, &contents, &access)?;
            }
            Ok(())
        })
        .await
    }

    /// Runs on a thread that may wait for a disk.
    async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&FilesEntry) -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, Failure> {
        let entry = self.0.clone();
        tokio::task::spawn_blocking(move || work(&entry).map_err(|error| error.into_failure(&entry.directory)))
            .await
            .unwrap_or_else(|error| Err(Failure::retry(format!("publishing files was cut off: {error}"))))
    }
}
