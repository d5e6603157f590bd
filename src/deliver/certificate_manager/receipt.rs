//! What is remembered between deliveries: which certificate there is in use, and which are to be removed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::value::moment::Moment;

/// What the last deliveries left there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct UploadReceipt {
    pub(super) present: Option<CurrentCertificate>,
    /// What autocertd uploaded before, the oldest first.
    pub(super) superseded: Vec<SupersededCertificate>,
}

/// The certificate in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CurrentCertificate {
    pub(super) id: String,
    /// Whether autocertd uploaded it: nothing else is ever removed.
    pub(super) ours: bool,
}

/// A certificate that is no longer in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SupersededCertificate {
    pub(super) id: String,
    /// The moment of supersession, in microseconds since 1970-01-01T00:00:00Z.
    pub(super) since: i64,
    /// Whether it was told that it cannot be removed.
    #[serde(default)]
    pub(super) reported: bool,
}

impl UploadReceipt {
    /// A receipt that cannot be read counts as none: what is there is found again, and nothing is removed.
    pub(super) fn parse(receipt: Option<&Value>) -> Self {
        let read = receipt.map(Self::deserialize).transpose();
        read.inspect_err(|error| tracing::warn!(%error, "the receipt of the Certificate Manager cannot be read"))
            .ok()
            .flatten()
            .unwrap_or_default()
    }

    pub(super) fn to_json(&self) -> Value {
        serde_json::json!(self)
    }

    /// Whether autocertd uploaded the certificate of this id.
    pub(super) fn was_uploaded(&self, id: &str) -> bool {
        self.present.as_ref().is_some_and(|present| present.ours && present.id == id)
            || self.superseded.iter().any(|old| old.id == id)
    }

    /// From `now` on this one is in use. One that was superseded may come back, where a newer one was deleted.
    pub(super) fn set_current(&mut self, present: CurrentCertificate, now: Moment) {
        self.superseded.retain(|old| old.id != present.id);
        if let Some(before) = self.present.take().filter(|before| before.ours && before.id != present.id) {
            self.superseded.push(SupersededCertificate { id: before.id, since: now.micros(), reported: false });
        }
        self.present = Some(present);
    }
}

impl SupersededCertificate {
    pub(super) const fn superseded_at(&self) -> Moment {
        Moment::from_micros(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_micros(1_700_000_000_000_000);

    fn present(id: &str, ours: bool) -> CurrentCertificate {
        CurrentCertificate { id: id.to_owned(), ours }
    }

    fn superseded(receipt: &UploadReceipt) -> Vec<&str> {
        receipt.superseded.iter().map(|old| old.id.as_str()).collect()
    }

    #[test]
    fn only_what_autocertd_uploaded_is_ever_superseded() {
        let mut receipt = UploadReceipt::default();
        for (id, ours) in [("a", true), ("a", true), ("b", false), ("c", true)] {
            receipt.set_current(present(id, ours), NOW);
        }
        assert_eq!((superseded(&receipt), receipt.present.clone()), (vec!["a"], Some(present("c", true))));
        assert_eq!(UploadReceipt::parse(Some(&receipt.to_json())), receipt);
    }

    #[test]
    fn one_that_comes_back_is_not_removed() {
        let mut receipt = UploadReceipt::default();
        for id in ["a", "b", "a"] {
            receipt.set_current(present(id, true), NOW);
        }
        assert_eq!(superseded(&receipt), ["b"]);
    }

    #[test]
    fn a_damaged_receipt_removes_nothing() {
        for damaged in [serde_json::json!("x"), serde_json::json!({"superseded": [{"id": 7}]})] {
            assert_eq!(UploadReceipt::parse(Some(&damaged)), UploadReceipt::default());
        }
    }
}
