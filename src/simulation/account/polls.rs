//! The polls of an account: what the CA says by ARI about each certificate. A million certificates ask four times a day;
//! those polls that would only bring what is known are counted and not carried out.

use time::Duration;

use crate::domain::moment::Moment;
use crate::domain::renewal_info::{RenewalInfoAnswer, RenewalInfo};
use crate::simulation::account::Account;
use crate::simulation::account::certificate::Step;
use crate::simulation::ca::Ca;
use crate::simulation::scenario::{Control, MassRevocation, midnight};

impl Account<'_> {
    /// The windows move; each one learns of it by its next poll.
    pub(super) fn announce_revocation(&mut self, revocation: MassRevocation) {
        let now = midnight(revocation.day);
        for index in self.indices() {
            self.catch_up_on_polls(index, now);
        }
        self.ca.announce_revocation(now, revocation.notice);
        if self.scenario.is(Control::Midnight) {
            return;
        }
        for index in self.indices() {
            let certificate = self.certificate(index);
            certificate.news = true;
            let poll = certificate.standing.renewal_info.as_ref().map(|info| info.ask_at);
            let poll = poll.filter(|poll| certificate.step == Step::Waiting && *poll < certificate.next);
            if let Some(poll) = poll {
                self.wait(index, poll);
            }
        }
    }

    /// Counts the polls that would have brought what was known.
    pub(super) fn catch_up_on_polls(&mut self, index: u32, now: Moment) {
        let certificate = &mut self.certificates[index as usize];
        let known = certificate.standing.renewal_info.as_ref().filter(|info| info.suggestion.is_some());
        let Some(info) = known.filter(|info| info.ask_at <= now && !certificate.news) else { return };
        let more = (now - info.ask_at).whole_seconds() / POLL_EVERY.whole_seconds();
        let last = info.ask_at + POLL_EVERY * i32::try_from(more).unwrap_or(i32::MAX);
        self.tally.polls += 1 + more.unsigned_abs();
        certificate.standing.renewal_info =
            Some(RenewalInfo::after(Some(info), answer(&self.ca, index, last), last, 0.0));
    }

    /// Asks the CA, if it is there.
    pub(super) fn ask(&mut self, index: u32, now: Moment) {
        self.tally.polls += 1;
        let draw = self.randomness.fraction();
        let answer = if self.scenario.is_down(now) {
            RenewalInfoAnswer::Unreachable("HTTP 503".to_owned(), None)
        } else {
            self.certificates[index as usize].news = false;
            answer(&self.ca, index, now)
        };
        let standing = &mut self.certificates[index as usize].standing;
        standing.renewal_info = Some(RenewalInfo::after(standing.renewal_info.as_ref(), answer, now, draw));
    }
}

/// What the CA says about the renewal of a certificate.
pub(super) fn answer(ca: &Ca, index: u32, now: Moment) -> RenewalInfoAnswer {
    RenewalInfoAnswer::Window { window: ca.newest(index).window, explanation_url: None, retry_after: Some(now + POLL_EVERY) }
}

/// What Let's Encrypt asks for.
pub(super) const POLL_EVERY: Duration = Duration::hours(6);
