//! Asks a CA for the time, where nothing has told yet whether this machine's clock is right: before records of checks are
//! taken for orphaned.

use std::time::Duration;

use tokio::time::timeout;

use crate::domain::clock_evidence::ClockVerdict;
use crate::domain::value::moment::Moment;
use crate::issuance::Issuance;
use crate::store::{Page, StoreError};

/// What is known of the clock once CAs were asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConfirmedClock {
    /// What was over by this moment may be deleted; nothing where the clock cannot be believed.
    pub(super) deletable_until: Option<Moment>,
    pub(super) confirmed_by: ConfirmedBy,
}

/// By what a clock is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfirmedBy {
    /// By CAs, or by what the clock showed for long.
    Evidence,
    /// There is no CA to ask.
    NobodyToAsk,
}

impl Issuance {
    pub(super) async fn confirm_clock(&self) -> Result<ConfirmedClock, StoreError> {
        let mut confirmed_by = ConfirmedBy::Evidence;
        if self.clock_verdict() == ClockVerdict::Unknown {
            let providers = self.store.providers(Page { offset: 0, limit: MOST_ASKED }).await?.items;
            if providers.is_empty() {
                confirmed_by = ConfirmedBy::NobodyToAsk;
            }
            for provider in providers {
                // The exchange notes the time that the CA tells; one that does not answer tells nothing.
                let _told = timeout(LONGEST_QUESTION, self.acme.check_directory(&provider.server)).await;
                if self.clock_verdict() != ClockVerdict::Unknown {
                    break;
                }
            }
        }
        Ok(ConfirmedClock { deletable_until: self.clock.deletable_until(), confirmed_by })
    }

    fn clock_verdict(&self) -> ClockVerdict {
        let (now, running) = (self.clock.now(), self.clock.uptime());
        self.clock.evidence().verdict(now, running)
    }
}

const MOST_ASKED: u32 = 5;
const LONGEST_QUESTION: Duration = Duration::from_secs(10);
