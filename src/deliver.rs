//! Delivery: what is issued is brought to where it is used. Each delivery is carried out on its own, tried again on its
//! own, and never causes an order. When it is due is decided elsewhere (`domain::delivery`); here it is done.

pub mod certificate_manager;
pub mod dispatcher;
pub mod files;
pub mod hook;
pub mod kubernetes;
pub mod local;
pub mod payload;
pub mod reload;
mod service;
pub mod targets;
pub mod verify;

use std::fmt::Debug;

use async_trait::async_trait;
use serde_json::Value;

pub use files::{FilesDelivery, PublishOutcome, RollBackOutcome};
pub use payload::{DeliveryPayload, DeliveryRecipient};

use crate::domain::failure::disposition::Failure;
use crate::domain::value::moment::Moment;

/// A place to which certificates are delivered. Each call is safe to repeat: what is there already is not done twice.
#[async_trait]
pub trait Delivery: Debug + Send + Sync {
    /// Brings the certificate there and has it taken up. `receipt` is what the last delivery left to be remembered.
    ///
    /// # Errors
    /// What failed, for people; it is tried again, and what was served before is served on.
    async fn deliver(&self, parcel: &DeliveryPayload, receipt: Option<&Value>) -> Result<DeliveryOutcome, Failure>;

    /// Whether what was delivered is still there and in use.
    ///
    /// # Errors
    /// Where that cannot be told.
    async fn is_in_place(&self, parcel: &DeliveryPayload, receipt: Option<&Value>) -> Result<bool, Failure>;

    /// When something is left to do there although the certificate is in place, as the last delivery remembers it: such
    /// as the removal of what was superseded. Another delivery does it.
    fn remaining_work_due(&self, _receipt: Option<&Value>) -> Option<Moment> {
        None
    }

    /// Prepares the place before there is a certificate, where the settings ask for it.
    ///
    /// # Errors
    /// What failed, for people.
    async fn prepare(&self, _addressee: &DeliveryRecipient) -> Result<(), Failure> {
        Ok(())
    }
}

/// How a delivery ended well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryOutcome {
    /// What the place must remember until the next delivery; holds no secret.
    pub receipt: Option<Value>,
    /// When there is something left to do there, such as the removal of what was superseded.
    pub check_again_at: Option<Moment>,
}
