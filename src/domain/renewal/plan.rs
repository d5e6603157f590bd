//! The plan for one auto-certificate: what to do now or when to look again, and why (decisions 2 and 3 of the renewal
//! design). A pure function of how it stands and the moment.

use std::fmt;

use time::Duration;

use crate::domain::certificate::NewestCertificate;
use crate::domain::failure::deferral::{Deferral, DeferralCause};
use crate::domain::renewal::attempt::StageKind;
use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::renewal::renewal_info::{RenewalInfo, RenewalSuggestion, RenewalWindow};
use crate::domain::value::moment::Moment;

/// What is to be done, why, and when to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalPlan {
    /// What to do now.
    pub action: RenewalAction,
    /// Why; reads in words. While the CA is asked, it is why nothing else is done yet.
    pub reason: RenewalReason,
    /// When what the reason tells of happens: now, or later where there is nothing to do yet.
    pub at: Moment,
    /// When to look again: now where there is something to do, and never later than `at`.
    pub next_check: Moment,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalAction {
    /// Nothing.
    Idle,
    /// Start a new attempt.
    Start,
    /// Go on with the open attempt from where it is.
    Resume(StageKind),
    /// Ask the CA when it would like the newest certificate to be renewed.
    AskRenewalInfo,
    /// Remove TXT records that nobody needs any more.
    CleanUp,
    /// It was deleted and its TXT records are gone: remove the last trace.
    Purge,
}

/// Why the plan is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalReason {
    /// A person asked for it.
    Requested,
    /// Names, key, provider or the profile of its own were changed.
    IntentChanged,
    /// The newest certificate is revoked, or is to be.
    Revoked,
    /// There is no certificate.
    NoCertificate,
    /// The newest certificate has expired.
    Expired,
    /// The moment is reached that was picked in the window that the CA suggests.
    Window(RenewalWindow),
    /// The window that the CA suggests is over: it wants the certificate replaced now.
    WindowOver(RenewalWindow),
    /// The lifetime fraction is reached.
    LifetimeFraction,
    /// So little of the lifetime is left that it is due whatever the CA suggests.
    Backstop,
    /// The renewal is ahead, at a moment in the window that the CA suggests.
    WindowAhead(RenewalWindow),
    /// The renewal is ahead, by its lifetime.
    RenewalAhead,
    /// An attempt is open.
    AttemptOpen,
    /// The last failure's pause is not over.
    BackOff,
    /// The provider is down; one probe at a time is sent.
    ProviderDown,
    /// The order would break a limit of the CA.
    RateLimited,
    /// An order succeeded less than an hour ago.
    IssuedRecently,
    /// TXT records are left over.
    RecordsLeft,
    /// It was deleted.
    Deleted,
}

/// The reason, with its moment where that is ahead.
impl fmt::Display for RenewalPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead = self.action == RenewalAction::Idle || self.at > self.next_check;
        if ahead { write!(f, "{} at {}", self.reason, self.at) } else { self.reason.fmt(f) }
    }
}

impl fmt::Display for RenewalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Window(window) => {
                return write!(f, "the renewal is due in the window that the CA suggests ({window})");
            }
            Self::WindowOver(window) => {
                return write!(f, "the CA wants the certificate replaced now (its window was {window})");
            }
            Self::WindowAhead(window) => {
                return write!(f, "in the window that the CA suggests ({window}) the renewal is planned");
            }
            Self::Requested => "a renewal was requested",
            Self::IntentChanged => "names, key, profile or provider were changed in the settings",
            Self::Revoked => "the newest certificate is revoked",
            Self::NoCertificate => "there is no certificate yet",
            Self::Expired => "the newest certificate has expired",
            Self::LifetimeFraction => "the renewal is due by its lifetime",
            Self::Backstop => "little of the lifetime is left",
            Self::RenewalAhead => "by its lifetime the renewal is planned",
            Self::AttemptOpen => "an attempt is open",
            Self::BackOff => "the next try after a failure is planned",
            Self::ProviderDown => "the provider is down; it is probed, and this one is next tried",
            Self::RateLimited => "the order waits for the limits of the CA; it is next tried",
            Self::IssuedRecently => "an order succeeded less than an hour ago; the next look is planned",
            Self::RecordsLeft => "challenge records of an ended attempt are being removed",
            Self::Deleted => "it was deleted",
        })
    }
}

/// Decides what is to be done about one auto-certificate. What seems to have happened in the future was written by a
/// clock that was ahead, and puts nothing off.
pub fn plan_renewal(standing: &AutoCertificateFacts, now: Moment) -> RenewalPlan {
    let plan = with_renewal_info_polls(plan_attempt(standing, now), standing, now);
    match standing.clean_up_at {
        Some(at) if plan.action == RenewalAction::Idle && at <= now => {
            act_now(RenewalAction::CleanUp, RenewalReason::RecordsLeft, now)
        }
        Some(at) if plan.action == RenewalAction::Idle && at < plan.next_check => {
            RenewalPlan { next_check: at, ..plan }
        }
        Some(_) if plan.action == RenewalAction::Purge => {
            wait_for_clean_up(standing.clean_up_at, RenewalReason::Deleted, now)
        }
        _ => plan,
    }
}

/// When the certificate is to be renewed and why, failures and holds aside: at the moment that was picked in the window
/// which the CA suggests, else by its lifetime, and never later than the backstop.
pub fn renewal_moment(newest: &NewestCertificate, info: Option<&RenewalInfo>, now: Moment) -> (Moment, RenewalReason) {
    let (moment, reason) = match info.and_then(|info| info.suggestion.as_ref()) {
        Some(RenewalSuggestion { window, moment, .. }) if *moment > now => {
            (*moment, RenewalReason::WindowAhead(*window))
        }
        Some(RenewalSuggestion { window, moment, .. }) if window.end() > now => {
            (*moment, RenewalReason::Window(*window))
        }
        Some(RenewalSuggestion { window, moment, .. }) => (*moment, RenewalReason::WindowOver(*window)),
        None => match lifetime_moment(newest) {
            moment if moment > now => (moment, RenewalReason::RenewalAhead),
            moment => (moment, RenewalReason::LifetimeFraction),
        },
    };
    let backstop = backstop(newest);
    if moment <= backstop { (moment, reason) } else { (backstop, RenewalReason::Backstop) }
}

/// The moment from which it is renewed whatever the CA suggests: a twentieth of the lifetime is left. It is also the last
/// one that leaves room for many tries.
pub fn backstop(newest: &NewestCertificate) -> Moment {
    newest.not_after - newest.lifetime() * BACKSTOP_FRACTION
}

/// By the lifetime alone: two thirds of it, half of one under ten days, less a stable share of up to 2 % that spreads a
/// fleet.
fn lifetime_moment(newest: &NewestCertificate) -> Moment {
    let lifetime = newest.lifetime();
    let fraction = if lifetime < SHORT_LIFETIME { 1.0 / 2.0 } else { 2.0 / 3.0 };
    newest.not_before + lifetime * (fraction - JITTER_FRACTION * stable_fraction(newest))
}

/// What is to be done about the certificate itself, questions and clean-up aside.
pub(in crate::domain) fn plan_attempt(standing: &AutoCertificateFacts, now: Moment) -> RenewalPlan {
    if standing.deleted {
        return act_now(RenewalAction::Purge, RenewalReason::Deleted, now);
    }
    let action = standing.open_attempt.map_or(RenewalAction::Start, RenewalAction::Resume);
    let (due, reason) =
        if standing.renewal_requested { (now, RenewalReason::Requested) } else { due_moment(standing, now) };
    let trouble = standing.failure_streak.as_ref().filter(|trouble| trouble.at <= now && !standing.renewal_requested);
    let next_try = trouble.map(|trouble| (trouble.next_try, RenewalReason::BackOff));
    let obstacles = next_try.into_iter().chain(standing.deferral.as_ref().map(deferral_obstacle));
    match obstacles.max_by_key(|(until, _)| *until) {
        Some((until, obstacle)) if until > now && until >= due => idle_plan(until, obstacle),
        _ if due > now => idle_plan(due, reason),
        _ => act_now(action, reason, now),
    }
}

fn deferral_obstacle(hold: &Deferral) -> (Moment, RenewalReason) {
    let reason = match hold.cause {
        DeferralCause::ProviderDown => RenewalReason::ProviderDown,
        DeferralCause::RateLimit { .. } => RenewalReason::RateLimited,
    };
    (hold.until, reason)
}

/// Before anything is begun about a certificate that serves, and while nothing is, the CA may have something to say.
fn with_renewal_info_polls(plan: RenewalPlan, standing: &AutoCertificateFacts, now: Moment) -> RenewalPlan {
    let serving = standing.newest.is_some_and(|newest| newest.not_after > now && !newest.revoked);
    let may_wait = plan.action == RenewalAction::Idle
        || matches!(plan.reason, RenewalReason::LifetimeFraction | RenewalReason::Window(_));
    // A CA that takes long to answer must not keep records from being removed.
    let clean_up_due = plan.action == RenewalAction::Idle && standing.clean_up_at.is_some_and(|at| at <= now);
    if !serving || !may_wait || clean_up_due || standing.open_attempt.is_some() || standing.intent_changed {
        return plan;
    }
    // An info of a clock that was ahead counts as none.
    let known = standing.renewal_info.as_ref().filter(|info| info.ask_at <= now + MAX_RENEWAL_INFO_PAUSE);
    match known.map_or(now, |info| info.ask_at) {
        ask_at if ask_at <= now => RenewalPlan { action: RenewalAction::AskRenewalInfo, next_check: now, ..plan },
        ask_at if ask_at < plan.next_check => RenewalPlan { next_check: ask_at, ..plan },
        _ => plan,
    }
}

/// When something is to be done, and why, failures aside.
fn due_moment(standing: &AutoCertificateFacts, now: Moment) -> (Moment, RenewalReason) {
    if standing.open_attempt.is_some() {
        return (now, RenewalReason::AttemptOpen);
    }
    // Decision 3: another wish is no repetition, so that the hour between successes does not count.
    if standing.intent_changed {
        return (now, RenewalReason::IntentChanged);
    }
    if standing.newest.is_some_and(|newest| newest.revoked) {
        return (now, RenewalReason::Revoked);
    }
    let (due, reason) = match &standing.newest {
        None => (now, RenewalReason::NoCertificate),
        Some(newest) if newest.not_after <= now => (now, RenewalReason::Expired),
        Some(newest) => renewal_moment(newest, standing.renewal_info.as_ref(), now),
    };
    match standing.last_issued.filter(|issued| *issued <= now).map(|issued| issued + MIN_TIME_BETWEEN_CERTIFICATES) {
        Some(earliest) if earliest > due.max(now) => (earliest, RenewalReason::IssuedRecently),
        _ => (due, reason),
    }
}

const fn act_now(action: RenewalAction, reason: RenewalReason, now: Moment) -> RenewalPlan {
    RenewalPlan { action, reason, at: now, next_check: now }
}

const fn idle_plan(until: Moment, reason: RenewalReason) -> RenewalPlan {
    RenewalPlan { action: RenewalAction::Idle, reason, at: until, next_check: until }
}

/// Waits for the clean-up, or does it where its moment has come.
fn wait_for_clean_up(clean_up_at: Option<Moment>, reason: RenewalReason, now: Moment) -> RenewalPlan {
    match clean_up_at {
        Some(at) if at > now => idle_plan(at, reason),
        _ => act_now(RenewalAction::CleanUp, reason, now),
    }
}

/// A stable number in `0.0 .. 1.0` out of the certificate's random id.
fn stable_fraction(newest: &NewestCertificate) -> f64 {
    let bits = u32::from_le_bytes(newest.id.uuid().as_bytes()[..4].try_into().unwrap_or_default());
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

const SHORT_LIFETIME: Duration = Duration::days(10);
const JITTER_FRACTION: f64 = 0.02;
const BACKSTOP_FRACTION: f64 = 1.0 / 20.0;
/// No CA is left unasked for longer, RFC 9773 section 4.3.
const MAX_RENEWAL_INFO_PAUSE: Duration = Duration::hours(25);
/// Decision 2: never two successful orders within an hour, unless a person forces it.
const MIN_TIME_BETWEEN_CERTIFICATES: Duration = Duration::hours(1);

#[cfg(test)]
mod random_walks;
#[cfg(test)]
mod tests;
