//! One attempt to obtain a certificate: an enum of stages, each with exactly its own data. A transition consumes the
//! stage before it. The store keeps each stage before the remote effect that follows it.

use std::fmt;

use secrecy::SecretString;
use time::Duration;

use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::renewal::renewal_info::CertId;
use crate::domain::value::id::{AttemptId, AutoCertificateId, CertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::domain::value::name::DnsName;
use crate::domain::value::profile::Profile;
use crate::domain::value::server_url::OrderUrl;

/// An attempt that is not over yet.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its identity.
    pub id: AttemptId,
    /// What it is for.
    pub auto_certificate: AutoCertificateId,
    /// Who issues.
    pub provider: ProviderId,
    /// The names of the order, fixed at the start.
    pub names: Vec<DnsName>,
    /// The kind of key, fixed at the start.
    pub key_algorithm: KeyAlgorithm,
    /// The profile of the order, fixed at the start; none where the CA chooses.
    pub profile: Option<Profile>,
    /// The certificate that the order replaces, fixed at the start; none once the CA did not take the order so.
    pub replaces: Option<CertId>,
    /// Why it was started, in words.
    pub reason: String,
    /// When it was started.
    pub started: Moment,
    /// How far it is.
    pub stage: Stage,
}

impl Attempt {
    /// When its order is given up for a new one, if it is not done by then: after a week, which is how long orders live at
    /// most CAs; sooner where the certificate that serves ends soon, so that several orders are tried before; after a day
    /// where none serves.
    pub fn order_deadline(&self, expiry: Option<Moment>) -> Moment {
        let left: Option<Duration> = expiry.map(|end| end - self.started);
        let patience = match left {
            Some(left) if left.is_positive() => (left / 4_i32).clamp(MIN_ORDER_LIFETIME, MAX_ORDER_LIFETIME),
            _ => ORDER_LIFETIME_WITHOUT_CERTIFICATE,
        };
        self.started + patience
    }
}

/// How far an attempt is, and what it holds by then.
#[derive(Clone, Debug)]
pub enum Stage {
    /// The attempt is stored; nothing has left the house.
    Planned(Planned),
    /// The order is made and its URL stored.
    Ordered(Ordered),
    /// Every challenge record is visible on all authoritative servers.
    Presented(Presented),
    /// The CA was asked to look at the records.
    Answered(Answered),
    /// The CA is convinced.
    Ready(Ready),
    /// Key and CSR are stored; the CSR may have been sent.
    Finalizing(Finalizing),
    /// The chain is downloaded and checked.
    Issued(Issued),
    /// The certificate is in the store; the attempt is over.
    Stored(Stored),
}

/// See [`Stage::Planned`].
#[derive(Clone, Copy, Debug)]
pub struct Planned;

/// See [`Stage::Ordered`].
#[derive(Clone, Debug)]
pub struct Ordered {
    /// Where the order lives at the CA.
    pub order: OrderUrl,
}

/// See [`Stage::Presented`].
#[derive(Clone, Debug)]
pub struct Presented {
    /// Where the order lives at the CA.
    pub order: OrderUrl,
}

/// See [`Stage::Answered`].
#[derive(Clone, Debug)]
pub struct Answered {
    /// Where the order lives at the CA.
    pub order: OrderUrl,
}

/// See [`Stage::Ready`].
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where the order lives at the CA.
    pub order: OrderUrl,
}

/// See [`Stage::Finalizing`].
#[derive(Clone, Debug)]
pub struct Finalizing {
    /// Where the order lives at the CA.
    pub order: OrderUrl,
    /// The key and what the CA is sent.
    pub request: SigningRequest,
}

/// See [`Stage::Issued`].
#[derive(Clone, Debug)]
pub struct Issued {
    /// Where the order lives at the CA.
    pub order: OrderUrl,
    /// The key and what the CA was sent.
    pub request: SigningRequest,
    /// The chain: the leaf first, PEM, written anew.
    pub chain: String,
}

/// See [`Stage::Stored`].
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// The certificate that came of it.
    pub certificate: CertificateId,
}

/// A private key with the certificate signing request made from it.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    /// The private key, PKCS#8 PEM.
    pub private_key: SecretString,
    /// The signing request (PKCS#10), DER.
    pub csr: Vec<u8>,
}

impl Planned {
    /// The CA took the order.
    pub const fn ordered(self, order: OrderUrl) -> Stage {
        Stage::Ordered(Ordered { order })
    }
}

impl Ordered {
    /// The records are visible.
    pub fn presented(self) -> Stage {
        Stage::Presented(Presented { order: self.order })
    }

    /// All authorizations were valid already: there is nothing to prove.
    pub fn ready(self) -> Stage {
        Stage::Ready(Ready { order: self.order })
    }
}

impl Presented {
    /// The challenges are answered.
    pub fn answered(self) -> Stage {
        Stage::Answered(Answered { order: self.order })
    }
}

impl Answered {
    /// The CA is convinced.
    pub fn ready(self) -> Stage {
        Stage::Ready(Ready { order: self.order })
    }
}

impl Ready {
    /// Key and CSR are made.
    pub fn finalizing(self, request: SigningRequest) -> Stage {
        Stage::Finalizing(Finalizing { order: self.order, request })
    }
}

impl Finalizing {
    /// The chain is downloaded and found right.
    pub fn issued(self, chain: String) -> Stage {
        Stage::Issued(Issued { order: self.order, request: self.request, chain })
    }
}

impl Issued {
    /// The certificate is stored.
    pub fn stored(self, certificate: CertificateId) -> Stage {
        Stage::Stored(Stored { certificate })
    }
}

impl Stage {
    /// The stage without its data.
    pub const fn kind(&self) -> StageKind {
        match self {
            Self::Planned(_) => StageKind::Planned,
            Self::Ordered(_) => StageKind::Ordered,
            Self::Presented(_) => StageKind::Presented,
            Self::Answered(_) => StageKind::Answered,
            Self::Ready(_) => StageKind::Ready,
            Self::Finalizing(_) => StageKind::Finalizing,
            Self::Issued(_) => StageKind::Issued,
            Self::Stored(_) => StageKind::Stored,
        }
    }
}

/// A stage without its data, in the order of an attempt's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageKind {
    /// See [`Stage::Planned`].
    Planned,
    /// See [`Stage::Ordered`].
    Ordered,
    /// See [`Stage::Presented`].
    Presented,
    /// See [`Stage::Answered`].
    Answered,
    /// See [`Stage::Ready`].
    Ready,
    /// See [`Stage::Finalizing`].
    Finalizing,
    /// See [`Stage::Issued`].
    Issued,
    /// See [`Stage::Stored`].
    Stored,
}

impl StageKind {
    /// Every stage in the order of an attempt's life.
    pub const ALL: [Self; 8] = [
        Self::Planned,
        Self::Ordered,
        Self::Presented,
        Self::Answered,
        Self::Ready,
        Self::Finalizing,
        Self::Issued,
        Self::Stored,
    ];

    /// The name in the store, in logs and in progress reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Ordered => "ordered",
            Self::Presented => "presented",
            Self::Answered => "answered",
            Self::Ready => "ready",
            Self::Finalizing => "finalizing",
            Self::Issued => "issued",
            Self::Stored => "stored",
        }
    }

    /// Reads the name in the store.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether the step from here on is work of the CA that it cannot do while it is down: to take an order, or to issue.
    pub const fn needs_working_ca(self) -> bool {
        matches!(self, Self::Planned | Self::Finalizing)
    }

    /// What happens from here on, for people who watch.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Planned => "making the order",
            Self::Ordered => "publishing the challenge records and waiting until every name server shows them",
            Self::Presented => "asking the CA to look at the records",
            Self::Answered => "waiting for the CA to be convinced",
            Self::Ready => "making the key and the signing request",
            Self::Finalizing => "waiting for the CA to issue",
            Self::Issued => "storing the certificate",
            Self::Stored => "done",
        }
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const MIN_ORDER_LIFETIME: Duration = Duration::hours(1);
const MAX_ORDER_LIFETIME: Duration = Duration::days(7);
const ORDER_LIFETIME_WITHOUT_CERTIFICATE: Duration = Duration::days(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_order_is_waited_for_for_ever() {
        let started = Moment::from_micros(1_700_000_000_000_000);
        let attempt = Attempt {
            id: AttemptId::from(uuid::Uuid::nil()),
            auto_certificate: AutoCertificateId::from(uuid::Uuid::nil()),
            provider: ProviderId::from(uuid::Uuid::nil()),
            names: Vec::new(),
            key_algorithm: KeyAlgorithm::Secp256r1,
            profile: None,
            replaces: None,
            reason: String::new(),
            started,
            stage: Stage::Planned(Planned),
        };
        for (left, patience) in [
            (None, Duration::DAY),
            (Some(-Duration::DAY), Duration::DAY),
            (Some(Duration::days(60)), Duration::days(7)),
            (Some(Duration::hours(80)), Duration::hours(20)),
            (Some(Duration::hours(2)), Duration::HOUR),
        ] {
            assert_eq!(attempt.order_deadline(left.map(|left| started + left)) - started, patience, "{left:?}");
        }
    }

    #[test]
    fn an_attempt_walks_its_stages_in_order() {
        let request = SigningRequest { private_key: SecretString::from("key"), csr: vec![1] };
        let mut walked = vec![StageKind::Planned];
        let mut stage = Planned.ordered(OrderUrl::from("https://ca.example/order/1".to_owned()));
        loop {
            walked.push(stage.kind());
            stage = match stage {
                Stage::Planned(_) => unreachable!("nothing leads back to the start"),
                Stage::Ordered(stage) => stage.presented(),
                Stage::Presented(stage) => stage.answered(),
                Stage::Answered(stage) => stage.ready(),
                Stage::Ready(stage) => stage.finalizing(request.clone()),
                Stage::Finalizing(stage) => stage.issued("chain".to_owned()),
                Stage::Issued(stage) => stage.stored(CertificateId::from(uuid::Uuid::nil())),
                Stage::Stored(_) => break,
            };
        }
        assert_eq!(walked, StageKind::ALL);
        assert!(walked.is_sorted());
    }

    #[test]
    fn names_of_stages_read_back() {
        for kind in StageKind::ALL {
            assert_eq!(StageKind::from_name(kind.as_str()), Some(kind));
        }
    }
}
