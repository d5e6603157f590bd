//! Why a Secret was not written, and what that means.

use std::path::PathBuf;

use crate::deliver::service::ServiceError;
use crate::domain::failure::disposition::{Disposition, Failure};

/// Why a Secret was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum KubernetesError {
    #[error(
        "kubernetes: cannot read {}; let the pod mount its service account's token, or set kubernetes.service_account", .path.display()
    )]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("kubernetes: {} holds no PEM certificate; without it the API server cannot be trusted", .0.display())]
    NoRoot(PathBuf),
    #[error("kubernetes: no HTTP client can be made")]
    Client(#[source] reqwest::Error),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(
        "kubernetes: there is no namespace {0}, or what answers is no Kubernetes API; create it, or correct kubernetes.namespace and kubernetes.server"
    )]
    NoNamespace(String),
    #[error(
        "kubernetes: Secret {0} is there already and not autocertd's; delete it, or give it over by `kubectl label secret` with app.kubernetes.io/managed-by=autocertd, or choose another name by kubernetes.secret"
    )]
    Foreign(String),
    #[error(
        "kubernetes: Secret {secret} holds the certificate {label:?}, and two would overwrite each other; write {{name}} into kubernetes.secret or narrow match; where {label:?} is gone, delete the Secret"
    )]
    HoldsOtherLabel { secret: String, label: String },
    #[error("kubernetes: Secret {secret} is of type {kind:?}, which can never change; delete it, and it is made anew")]
    OtherType { secret: String, kind: String },
    #[error("kubernetes: Secret {0} is marked immutable; delete it, and it is made anew")]
    Immutable(String),
    #[error("kubernetes: Secret {0} was changed by someone else at the same moment; it is looked at again")]
    Conflict(String),
}

impl KubernetesError {
    const fn disposition(&self) -> Disposition {
        match self {
            Self::Service(error) => error.disposition(),
            Self::Unreadable { .. } | Self::NoRoot(_) | Self::Client(_) | Self::Conflict(_) => Disposition::RETRY,
            Self::NoNamespace(_)
            | Self::Foreign(_)
            | Self::HoldsOtherLabel { .. }
            | Self::OtherType { .. }
            | Self::Immutable(_) => Disposition::Operator,
        }
    }
}

impl From<KubernetesError> for Failure {
    fn from(error: KubernetesError) -> Self {
        Self::from_error(&error, error.disposition())
    }
}
