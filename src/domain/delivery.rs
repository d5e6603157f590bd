//! The plan for one delivery of one auto-certificate: what to do now or when to look again, and why. A pure function of
//! how it stands, the deploy window and the moment.

pub mod deploy_window;

use std::fmt;

use time::Duration;

use crate::domain::declared::DeclaredKey;
use crate::domain::delivery::deploy_window::DeployWindow;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::value::id::CertificateId;
use crate::domain::value::moment::Moment;
use crate::domain::value::name::DnsName;

/// How a delivery stands: the facts on which its plan rests.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFacts {
    /// The newest certificate that was issued for the auto-certificate.
    pub newest: Option<DeliverableCertificate>,
    /// The certificate that was delivered last.
    pub delivered: Option<DeliverableCertificate>,
    /// Whether the certificate that was delivered last is revoked.
    pub delivered_revoked: bool,
    /// Whether the delivery's settings changed since.
    pub settings_changed: bool,
    /// What went wrong since the last success.
    pub failure_streak: Option<FailureStreak>,
    /// Whether the auto-certificate was deleted. What was delivered stays where it is.
    pub deleted: bool,
}

impl DeliveryFacts {
    /// What went wrong with what is to be delivered now. What went wrong before the newest certificate was there puts
    /// nothing off.
    pub fn current_failure_streak(&self) -> Option<&FailureStreak> {
        self.failure_streak.as_ref().filter(|trouble| self.newest.is_none_or(|newest| newest.created <= trouble.at))
    }
}

/// The facts of a certificate that a delivery's plan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverableCertificate {
    /// Its identity.
    pub id: CertificateId,
    /// When it was stored.
    pub created: Moment,
    /// The end of its validity.
    pub not_after: Moment,
}

/// What is to be done, why, and when to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryPlan {
    /// What to do now.
    pub action: DeliveryAction,
    /// Why; reads in words.
    pub reason: DeliveryReason,
    /// When to look again: now where there is something to do, and after a look whether all is in place at this moment.
    pub next_check: Moment,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryAction {
    /// Nothing.
    Idle,
    /// Prepare the place for the first certificate.
    Prepare,
    /// Look whether what was delivered is still there, and bring it back where it is not.
    Check,
    /// Deliver this certificate.
    Deliver(CertificateId),
}

/// Why the plan is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryReason {
    /// There is no certificate that is valid.
    NothingToDeliver,
    /// Nothing was delivered yet.
    NothingDelivered,
    /// There is a newer certificate than the one that was delivered.
    Newer,
    /// The delivery's settings changed.
    SettingsChanged,
    /// The last try failed.
    Failed,
    /// The deploy window is not open yet.
    WindowClosed,
    /// The certificate in use is about to expire, window or not.
    ExpiryNear,
    /// The certificate in use is revoked, window or not.
    Revoked,
    /// The newest certificate was delivered.
    UpToDate,
    /// The last failure's pause is not over.
    BackOff,
    /// The auto-certificate was deleted.
    Deleted,
}

impl fmt::Display for DeliveryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingToDeliver => "there is no valid certificate to deliver yet",
            Self::NothingDelivered => "nothing was delivered yet",
            Self::Newer => "there is a newer certificate",
            Self::SettingsChanged => "the delivery's settings changed, or a person may have mended what failed",
            Self::Failed => "the last try failed",
            Self::WindowClosed => "the deploy window is not open yet",
            Self::ExpiryNear => "the certificate in use is about to expire, so the deploy window is not waited for",
            Self::Revoked => "the certificate in use is revoked, so the deploy window is not waited for",
            Self::UpToDate => "the newest certificate was delivered",
            Self::BackOff => "the next try after a failure is planned",
            Self::Deleted => "the auto-certificate was deleted",
        })
    }
}

/// Decides what is to be done about one delivery. Trouble that seems to lie in the future was written by a clock that was
/// ahead, and puts nothing off.
pub fn plan_delivery(standing: &DeliveryFacts, window: Option<&DeployWindow>, now: Moment) -> DeliveryPlan {
    let plan = plan_without_back_off(standing, window, now);
    match standing.current_failure_streak().filter(|trouble| trouble.at <= now && trouble.next_try > now) {
        Some(trouble) if plan.action != DeliveryAction::Idle => idle_plan(trouble.next_try, DeliveryReason::BackOff),
        _ => plan,
    }
}

fn plan_without_back_off(standing: &DeliveryFacts, window: Option<&DeployWindow>, now: Moment) -> DeliveryPlan {
    if standing.deleted {
        return idle_plan(now + MAX_IDLE, DeliveryReason::Deleted);
    }
    let Some(newest) = standing.newest.filter(|newest| now < newest.not_after) else {
        let prepare = standing.delivered.is_none();
        let action = if prepare { DeliveryAction::Prepare } else { DeliveryAction::Idle };
        let next_look = if prepare { now } else { now + MAX_IDLE };
        return DeliveryPlan { action, reason: DeliveryReason::NothingToDeliver, next_check: next_look };
    };
    let deliver = |reason| DeliveryPlan { action: DeliveryAction::Deliver(newest.id), reason, next_check: now };
    match standing.delivered {
        None => deliver(DeliveryReason::NothingDelivered),
        Some(delivered) if newest.created > delivered.created && standing.delivered_revoked => {
            deliver(DeliveryReason::Revoked)
        }
        Some(delivered) if newest.created > delivered.created => match activation_time(delivered, window, now) {
            // Where the newest one failed in its window, what is there may be half of it; that is left alone.
            (at, _) if at > now && standing.current_failure_streak().is_some() => {
                idle_plan(at, DeliveryReason::WindowClosed)
            }
            (at, _) if at > now => check_plan(at, DeliveryReason::WindowClosed),
            (_, reason) => deliver(reason),
        },
        Some(_) if standing.settings_changed => deliver(DeliveryReason::SettingsChanged),
        // A look would find the files of a try whose hook failed.
        Some(delivered) if newest.id == delivered.id && standing.current_failure_streak().is_some() => {
            deliver(DeliveryReason::Failed)
        }
        Some(_) => check_plan(now + MAX_IDLE, DeliveryReason::UpToDate),
    }
}

/// The name of a certificate's folder: the key that the settings give it, else its common name with `_` for a wildcard's
/// star. Fit for a file.
pub fn label(key: Option<&DeclaredKey>, common_name: &DnsName) -> String {
    key.map_or_else(|| common_name.to_string().replace('*', "_"), ToString::to_string)
}

/// When a newer certificate may take the place of the delivered one, and why then.
fn activation_time(
    delivered: DeliverableCertificate,
    window: Option<&DeployWindow>,
    now: Moment,
) -> (Moment, DeliveryReason) {
    let opens = window.map_or(now, |window| window.next_open_at(now));
    let latest = delivered.not_after - (delivered.not_after - delivered.created) / MIN_LIFETIME_SHARE;
    if opens > latest { (latest.max(now), DeliveryReason::ExpiryNear) } else { (opens, DeliveryReason::Newer) }
}

const fn check_plan(then_at: Moment, reason: DeliveryReason) -> DeliveryPlan {
    DeliveryPlan { action: DeliveryAction::Check, reason, next_check: then_at }
}

const fn idle_plan(until: Moment, reason: DeliveryReason) -> DeliveryPlan {
    DeliveryPlan { action: DeliveryAction::Idle, reason, next_check: until }
}

/// What is in place is looked at once a day.
pub const MAX_IDLE: Duration = Duration::DAY;
/// A window is not waited for once less than this share of a certificate's time in use is left.
const MIN_LIFETIME_SHARE: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::disposition::Failure;

    /// 2027-01-15 08:00 UTC, a Friday.
    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn certificate(number: u128, age: Duration, lifetime: Duration) -> DeliverableCertificate {
        let created = NOW - age;
        DeliverableCertificate { id: uuid::Uuid::from_u128(number).into(), created, not_after: created + lifetime }
    }

    fn renewed(left: Duration) -> DeliveryFacts {
        let life = Duration::days(90);
        DeliveryFacts {
            newest: Some(certificate(2, Duration::ZERO, life)),
            delivered: Some(certificate(1, life - left, life)),
            ..DeliveryFacts::default()
        }
    }

    fn plan(standing: &DeliveryFacts, window: Option<&str>) -> DeliveryPlan {
        let window = window.map(|text| text.parse::<DeployWindow>().unwrap());
        plan_delivery(standing, window.as_ref(), NOW)
    }

    #[test]
    fn a_first_certificate_waits_for_no_window() {
        let standing = DeliveryFacts { delivered: None, ..renewed(Duration::days(30)) };
        let planned = plan(&standing, Some("Sat 02:00-03:00"));
        let expected = DeliveryAction::Deliver(uuid::Uuid::from_u128(2).into());
        assert_eq!((planned.action, planned.reason), (expected, DeliveryReason::NothingDelivered));
    }

    #[test]
    fn a_renewed_one_waits_for_its_window_unless_expiry_is_near() {
        let saturday = NOW + Duration::hours(18);
        let waiting = plan(&renewed(Duration::days(30)), Some("Sat 02:00-03:00"));
        assert_eq!(waiting, check_plan(saturday, DeliveryReason::WindowClosed));
        assert_eq!(plan(&renewed(Duration::days(30)), None).reason, DeliveryReason::Newer);
        let urgent = plan(&renewed(Duration::days(8)), Some("Sat 02:00-03:00"));
        assert_eq!((urgent.next_check, urgent.reason), (NOW, DeliveryReason::ExpiryNear));
    }

    #[test]
    fn what_is_in_place_is_looked_at_and_other_settings_deliver_again() {
        let newest = renewed(Duration::days(30)).newest;
        let standing = DeliveryFacts { newest, delivered: newest, ..DeliveryFacts::default() };
        assert_eq!(plan(&standing, None).action, DeliveryAction::Check);
        let changed = DeliveryFacts { settings_changed: true, ..standing };
        assert_eq!(plan(&changed, None).reason, DeliveryReason::SettingsChanged);
    }

    #[test]
    fn an_older_certificate_never_takes_the_place_of_a_newer_one() {
        let DeliveryFacts { newest, delivered, .. } = renewed(Duration::days(30));
        let standing = DeliveryFacts { newest: delivered, delivered: newest, ..DeliveryFacts::default() };
        assert_eq!(plan(&standing, None).action, DeliveryAction::Check);
    }

    #[test]
    fn without_a_valid_certificate_the_place_is_prepared_once_and_left_alone_later() {
        assert_eq!(plan(&DeliveryFacts::default(), None).action, DeliveryAction::Prepare);
        let expired = Some(certificate(1, Duration::days(90), Duration::days(89)));
        let standing = DeliveryFacts { newest: expired, delivered: expired, ..DeliveryFacts::default() };
        assert_eq!(plan(&standing, None).action, DeliveryAction::Idle);
    }

    #[test]
    fn a_folder_is_called_by_key_or_common_name() {
        let name: DnsName = "*.Example.com".parse().unwrap();
        assert_eq!(label(None, &name), "_.example.com");
        assert_eq!(label(Some(&"www".parse().unwrap()), &name), "www");
    }

    #[test]
    fn a_revoked_one_is_replaced_whatever_the_window() {
        let closed: DeployWindow = "Mon 03:00-04:00".parse().unwrap();
        let waiting = renewed(Duration::days(40));
        assert_eq!(plan_delivery(&waiting, Some(&closed), NOW).reason, DeliveryReason::WindowClosed);
        let revoked = DeliveryFacts { delivered_revoked: true, ..waiting };
        let plan = plan_delivery(&revoked, Some(&closed), NOW);
        assert_eq!(
            (plan.action, plan.reason),
            (DeliveryAction::Deliver(revoked.newest.unwrap().id), DeliveryReason::Revoked)
        );
    }

    #[test]
    fn a_failure_waits_and_a_clock_that_was_ahead_puts_nothing_off() {
        let trouble = FailureStreak::after(None, Failure::retry("x"), NOW, None, 0.5);
        let standing = DeliveryFacts { failure_streak: Some(trouble.clone()), ..renewed(Duration::days(30)) };
        assert_eq!(plan(&standing, None), idle_plan(trouble.next_try, DeliveryReason::BackOff));
        let over = plan_delivery(&standing, Some(&"Sat 02:00-03:00".parse().unwrap()), trouble.next_try);
        assert_eq!((over.action, over.reason), (DeliveryAction::Idle, DeliveryReason::WindowClosed));
        let before = FailureStreak { at: NOW - Duration::SECOND, ..trouble.clone() };
        let newer = DeliveryFacts { failure_streak: Some(before), ..standing.clone() };
        assert_eq!(plan(&newer, None).reason, DeliveryReason::Newer, "a new certificate is not put off");
        let ahead = FailureStreak { at: NOW + Duration::DAY, next_try: NOW + Duration::days(2), ..trouble };
        let standing = DeliveryFacts { failure_streak: Some(ahead), ..standing };
        assert_eq!(plan(&standing, None).reason, DeliveryReason::Newer);
    }
}
