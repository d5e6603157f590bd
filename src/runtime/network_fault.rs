//! What failed on the way to another service, told apart as far as a person can do something else about each.

use std::error::Error as StdError;
use std::fmt;

use rustls::{CertificateError, Error as TlsError};

/// What failed on the way to another service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkFault {
    /// The host's name does not resolve.
    Dns,
    /// Nothing listens there, or no route leads there.
    Connect,
    /// A proxy that an environment variable names does not answer, or lets nothing through.
    Proxy {
        /// The variable.
        variable: &'static str,
    },
    /// What answers speaks no TLS.
    NotTls,
    /// The server's certificate leads to no root that is trusted here.
    UnknownIssuer,
    /// The server's certificate is for other names.
    WrongName,
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet.
    NotYetValid,
    /// The server's certificate is revoked.
    Revoked,
    /// The server shows the certificate of a CA as its own.
    CaCertificate,
    /// TLS failed otherwise: no common ground, or a damaged certificate.
    Tls,
    /// No whole answer within the time-out.
    TimedOut,
    /// The connection ended in the middle.
    Broken,
    /// The URL is not one that may be called.
    Forbidden,
}

impl NetworkFault {
    /// Every fault, for the docs and their test.
    pub const ALL: [Self; 14] = [
        Self::Dns,
        Self::Connect,
        Self::Proxy { variable: "HTTPS_PROXY" },
        Self::NotTls,
        Self::UnknownIssuer,
        Self::WrongName,
        Self::Expired,
        Self::NotYetValid,
        Self::Revoked,
        Self::CaCertificate,
        Self::Tls,
        Self::TimedOut,
        Self::Broken,
        Self::Forbidden,
    ];

    /// What failed, by the error of the HTTP client.
    pub fn from_reqwest(error: &reqwest::Error) -> Self {
        let chain = error_chain(error);
        // What a proxy lacks may look like a fault of the service behind it.
        if chain.iter().any(|cause| cause.to_string().starts_with("tunnel error")) {
            return Self::Proxy { variable: proxy_variable() };
        }
        if let Some(tls) = chain.iter().find_map(|cause| find_tls_error(*cause)) {
            return Self::from_tls(tls);
        }
        if error.is_timeout() {
            Self::TimedOut
        } else if error.is_builder() {
            Self::Forbidden
        } else if error.is_connect() && chain.iter().any(|cause| cause.to_string().starts_with("dns error")) {
            Self::Dns
        } else if error.is_connect() {
            Self::Connect
        } else {
            Self::Broken
        }
    }

    fn from_tls(error: &TlsError) -> Self {
        match error {
            TlsError::InvalidMessage(_) => Self::NotTls,
            TlsError::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer => Self::UnknownIssuer,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                CertificateError::Revoked => Self::Revoked,
                // webpki's own, which rustls has no word for.
                CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                    Self::CaCertificate
                }
                _ => Self::Tls,
            },
            _ => Self::Tls,
        }
    }

    /// What a person can do; `roots` says where a private CA's root is added for this service.
    pub fn remedy(self, roots: &str) -> Option<String> {
        Some(match self {
            Self::UnknownIssuer => {
                format!("if the server has a certificate of a private CA, add the CA's root to {roots}")
            }
            Self::CaCertificate => format!(
                "give the server a certificate that a CA has issued for its name, and add that CA's root to {roots}; \
                 a CA certificate is no server certificate"
            ),
            Self::WrongName => {
                "use a name that the server's certificate has, or give the server a certificate for this one".to_owned()
            }
            Self::Expired => {
                "renew the server's certificate; if it is valid, check the clock of this machine".to_owned()
            }
            Self::NotYetValid => {
                "check the clock of this machine, then that of whoever issued the certificate".to_owned()
            }
            Self::Revoked => "give the server another certificate".to_owned(),
            Self::NotTls => "check the port: what answers there speaks no TLS, perhaps plain HTTP".to_owned(),
            Self::Proxy { variable } => {
                format!("check the proxy that the environment variable {variable} names, or list the host in NO_PROXY")
            }
            Self::Dns => "check the host's name, and the resolver of this machine".to_owned(),
            Self::Connect => "check host and port, and whether a firewall is in between".to_owned(),
            Self::Tls | Self::TimedOut | Self::Broken | Self::Forbidden => return None,
        })
    }
}

impl fmt::Display for NetworkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "its name does not resolve",
            Self::Connect => "no connection",
            Self::Proxy { variable } => return write!(f, "the proxy of {variable} gives no connection"),
            Self::NotTls => "it does not speak TLS",
            Self::UnknownIssuer => "its certificate is of an unknown issuer",
            Self::WrongName => "its certificate is for other names",
            Self::Expired => "its certificate has expired",
            Self::NotYetValid => "its certificate is not valid yet",
            Self::Revoked => "its certificate is revoked",
            Self::CaCertificate => "it shows a CA certificate as its own",
            Self::Tls => "TLS failed",
            Self::TimedOut => "no answer in time",
            Self::Broken => "the connection broke off",
            Self::Forbidden => "the URL may not be called",
        })
    }
}

/// The last cause of an error, which is what a person wants to read.
pub fn root_cause(error: &reqwest::Error) -> String {
    error_chain(error).last().map(ToString::to_string).unwrap_or_default()
}

fn error_chain(error: &reqwest::Error) -> Vec<&(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&error| error.source()).collect()
}

/// Connectors wrap rustls' errors into I/O errors, perhaps twice, which do not show them as their source.
fn find_tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return Some(error);
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)?;
    find_tls_error(wrapped)
}

/// The variable that names the proxy for https URLs, in the order in which the HTTP client looks.
fn proxy_variable() -> &'static str {
    let is_set = |name: &&'static str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    PROXY_VARIABLES.into_iter().find(is_set).unwrap_or(PROXY_VARIABLES[0])
}

const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
