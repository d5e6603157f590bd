//! The polls of an account: what the CA says by ARI about each certificate. A million certificates ask four times a day;
//! those polls that would only bring what is known are counted and not carried out.

use crate::domain::renewal::renewal_info::{RenewalInfo, RenewalInfoAnswer};
use crate::domain::value::moment::Moment;
use crate::simulation::account::SimulatedAccount;
use crate::simulation::account::certificate::CertificateStep;
use crate::simulation::ca::POLL_INTERVAL;
use crate::simulation::scenario::{Control, MassRevocation, midnight_of_day};

impl SimulatedAccount<'_> {
    /// The windows move; each one learns of it by its next poll.
    pub(super) fn announce_revocation(&mut self, revocation: MassRevocation) {
        let now = midnight_of_day(revocation.day);
        for index in self.indices() {
            self.catch_up_on_polls(index, now);
        }
        self.ca.announce_revocation(now, revocation.notice);
        if self.scenario.has_control(Control::Midnight) {
            return;
        }
        for index in self.indices() {
            let certificate = self.certificate(index);
            certificate.has_unread_window = true;
            let poll = certificate.facts.renewal_info.as_ref().map(|info| info.ask_at);
            let poll = poll.filter(|poll| certificate.step == CertificateStep::Waiting && *poll < certificate.next);
            if let Some(poll) = poll {
                self.schedule(index, poll);
            }
        }
    }

    /// Counts the polls that would have brought what was known.
    pub(super) fn catch_up_on_polls(&mut self, index: u32, now: Moment) {
        let certificate = &mut self.certificates[index as usize];
        let known = certificate.facts.renewal_info.as_ref().filter(|info| info.suggestion.is_some());
        let Some(info) = known.filter(|info| info.ask_at <= now && !certificate.has_unread_window) else { return };
        let more = (now - info.ask_at).whole_seconds() / POLL_INTERVAL.whole_seconds();
        let last = info.ask_at + POLL_INTERVAL * i32::try_from(more).unwrap_or(i32::MAX);
        self.tally.polls += 1 + more.unsigned_abs();
        certificate.facts.renewal_info =
            Some(RenewalInfo::after(Some(info), self.ca.renewal_info(index, last), last, 0.0));
    }

    /// Asks the CA, if it is there.
    pub(super) fn poll_renewal_info(&mut self, index: u32, now: Moment) {
        self.tally.polls += 1;
        let draw = self.randomness.fraction();
        let answer = if self.scenario.is_down(now) {
            RenewalInfoAnswer::Unreachable("HTTP 503".to_owned(), None)
        } else {
            self.certificates[index as usize].has_unread_window = false;
            self.ca.renewal_info(index, now)
        };
        let standing = &mut self.certificates[index as usize].facts;
        standing.renewal_info = Some(RenewalInfo::after(standing.renewal_info.as_ref(), answer, now, draw));
    }
}
