//! `verify`: one TLS handshake after another until the delivered certificate is served, or the time is up. Whether anybody
//! would trust the certificate is not asked; that its key is held is.

mod tls_probe;

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::delivery::VerifyEntry;
use crate::config::time_span::TimeSpan;
use crate::deliver::payload::{DeliveryPayload, DeliveryRecipient};
use crate::deliver::verify::tls_probe::TlsProbe;
use crate::domain::certificate::fingerprint::Fingerprint;
use crate::domain::certificate::leaf::Leaf;
use crate::domain::failure::disposition::Failure;
use crate::domain::value::text::quoted;

/// Where a certificate should be served.
#[derive(Clone, Debug)]
pub struct TlsVerification {
    address: String,
    server_name: Option<ServerName<'static>>,
    timeout: TimeSpan,
}

/// Why a place cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVerify {
    /// The address is none.
    #[error("verify.address: {0:?} is no host with a port; write 127.0.0.1:443, [::1]:443 or www.example.com:443")]
    Address(String),
    /// The name is none.
    #[error("verify.server_name: {0:?} is no DNS name")]
    ServerName(String),
}

/// A certificate that is served.
#[derive(Clone, Debug)]
pub struct ServedCertificate {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// What it says, where it can be read.
    leaf: Option<Leaf>,
}

impl TlsVerification {
    /// The place that the settings name.
    ///
    /// # Errors
    /// Where the address or the name cannot be one.
    pub fn new(entry: &VerifyEntry) -> Result<Self, InvalidVerify> {
        let (host, port) = entry.address.rsplit_once(':').unwrap_or_default();
        let bare = host.strip_prefix('[').map_or(Some(host), |host| host.strip_suffix(']')).unwrap_or_default();
        let is_v6 = bare.parse::<std::net::Ipv6Addr>().is_ok();
        let is_host = if is_v6 { host != bare } else { host == bare && ServerName::try_from(host).is_ok() };
        if !is_host || !port.parse().is_ok_and(|port: u16| port != 0) {
            return Err(InvalidVerify::Address(entry.address.clone()));
        }
        let name = |text: &String| parse_server_name(text).ok_or_else(|| InvalidVerify::ServerName(text.clone()));
        let server_name = entry.server_name.as_ref().map(name).transpose()?;
        Ok(Self { address: entry.address.clone(), server_name, timeout: entry.timeout })
    }

    /// Looks once, for at most the time-out, at what is served for this addressee.
    ///
    /// # Errors
    /// Where nothing is served, or not by TLS.
    pub async fn probe_once(&self, addressee: &DeliveryRecipient) -> Result<ServedCertificate, Failure> {
        let name = self.server_name_for(addressee)?;
        let look = self.probe(&name, self.timeout.duration()).await;
        look.map_err(|unseen| Failure::retry(format!("{} {unseen}", self.describe_endpoint(&name))))
    }

    /// Looks until the parcel's certificate is served: reloads take their time.
    ///
    /// # Errors
    /// What is served instead when the time is up.
    pub async fn run(&self, parcel: &DeliveryPayload) -> Result<(), Failure> {
        let wanted = Fingerprint::from_pem(&parcel.leaf_pem)
            .map_err(|error| Failure::retry(format!("the delivered certificate cannot be read: {error}")))?;
        let name = self.server_name_for(&parcel.recipient)?;
        let until = Instant::now() + self.timeout.duration();
        let mut pause = FIRST_PAUSE;
        loop {
            let patience = until.saturating_duration_since(Instant::now()).min(PROBE_TIMEOUT);
            let fault = match self.probe(&name, patience).await {
                Ok(served) if served.fingerprint == wanted => return Ok(()),
                Ok(served) => format!(
                    "still serves another certificate {} after the reload: {served}; the delivered one has the \
                     fingerprint {wanted}. Does the service read the delivered files, and did it take them up?",
                    self.timeout
                ),
                Err(unseen) => unseen.to_string(),
            };
            tracing::debug!(address = self.address, fault, "the delivered certificate is not served yet");
            if Instant::now() + pause >= until {
                return Err(Failure::retry(format!("{} {fault}", self.describe_endpoint(&name))));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// The name that is asked for: a service of a wildcard serves any label in place of the star.
    fn server_name_for(&self, addressee: &DeliveryRecipient) -> Result<ServerName<'static>, Failure> {
        if let Some(name) = &self.server_name {
            return Ok(name.clone());
        }
        let first = addressee.names.first().map(ToString::to_string).unwrap_or_default();
        let asked = first.strip_prefix("*.").map(|base| format!("{ANY_LABEL}.{base}")).unwrap_or(first);
        parse_server_name(&asked).ok_or_else(|| {
            Failure::operator(format!("{asked:?} cannot be asked for in a TLS handshake; set verify.server_name"))
        })
    }

    fn describe_endpoint(&self, name: &ServerName<'_>) -> String {
        format!("{}, asked for {},", self.address, name.to_str())
    }

    async fn probe(&self, name: &ServerName<'static>, patience: Duration) -> Result<ServedCertificate, ProbeError> {
        let witness = TlsProbe::new().map_err(|error| ProbeError::Other(error.to_string()))?;
        let handshake = async {
            let stream = TcpStream::connect(&self.address).await.map_err(ProbeError::from_connect_error)?;
            // A server that wants to see a certificate of ours has shown its own before it ends the handshake.
            let ended = witness.connector().connect(name.clone(), stream).await;
            match (witness.certificate(), ended) {
                (Some(der), _) => Ok(der),
                (None, Err(error)) => Err(ProbeError::from_handshake_error(&error)),
                (None, Ok(_)) => Err(ProbeError::Other("showed no certificate".to_owned())),
            }
        };
        let der = tokio::time::timeout(patience, handshake).await.map_err(|_| ProbeError::TimedOut)??;
        Ok(ServedCertificate { fingerprint: Fingerprint::from_der(&der), leaf: Leaf::from_der(&der).ok() })
    }
}

impl fmt::Display for ServedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = self.fingerprint;
        match &self.leaf {
            Some(leaf) => {
                let first = quoted(leaf.subject_alternative_names.first().unwrap_or(&leaf.common_name));
                write!(
                    f,
                    "that of {first}, serial number {:.80}, valid until {}, fingerprint {fingerprint}",
                    leaf.serial_number, leaf.not_after
                )
            }
            None => write!(f, "one that cannot be read, fingerprint {fingerprint}"),
        }
    }
}

/// Why no certificate was seen, in words that go on after the place.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("refuses the connection; is the service running, and is verify.address right?")]
    Refused,
    #[error("cannot be reached: {0}; check verify.address")]
    Unreachable(std::io::Error),
    #[error("does not answer in time; is the service well, and does it speak TLS there?")]
    TimedOut,
    #[error("ends the connection before it shows a certificate; does the service have one for this name?")]
    Closed,
    #[error("speaks no TLS; is the port of verify.address right?")]
    NoTls,
    #[error("{0}")]
    Other(String),
}

impl ProbeError {
    fn from_connect_error(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::Unreachable(error),
        }
    }

    fn from_handshake_error(error: &std::io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(rustls::Error::InvalidMessage(_)), _) => Self::NoTls,
            (Some(rustls::Error::AlertReceived(alert)), _) => Self::Other(format!(
                "refuses the TLS handshake with the alert {alert:?}; does the service know this name?"
            )),
            (None, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Self::Closed,
            _ => Self::Other(format!("completes no TLS handshake: {error}")),
        }
    }
}

fn parse_server_name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.to_owned()).ok()
}

/// Asked for in place of a wildcard's star.
const ANY_LABEL: &str = "autocertd-verify";

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// A server that is just being reloaded may leave a connection hanging for ever.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: &str, server_name: Option<&str>) -> VerifyEntry {
        VerifyEntry {
            address: address.to_owned(),
            server_name: server_name.map(str::to_owned),
            timeout: TimeSpan::seconds(1),
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for address in ["127.0.0.1:443", "[::1]:8443", "www.example.com:443", "nginx:443"] {
            assert!(TlsVerification::new(&entry(address, None)).is_ok(), "{address} was refused");
        }
        for address in ["", ":443", "127.0.0.1", "::1:443", "[127.0.0.1]:443", "[::1:443", "a b:443", "a:0", "a:99999"]
        {
            assert_eq!(
                TlsVerification::new(&entry(address, None)).unwrap_err(),
                InvalidVerify::Address(address.to_owned())
            );
        }
        assert!(TlsVerification::new(&entry("a:443", Some("*.example.com"))).is_err());
    }

    #[test]
    fn a_wildcard_is_asked_for_by_one_of_its_names() {
        let addressee = |name: &str| DeliveryRecipient {
            id: uuid::Uuid::nil().into(),
            name: "x".parse().unwrap(),
            key: None,
            label: "x".to_owned(),
            names: vec![name.parse().unwrap()],
        };
        let verify = TlsVerification::new(&entry("a:443", None)).unwrap();
        assert_eq!(
            verify.server_name_for(&addressee("*.example.com")).unwrap().to_str(),
            "autocertd-verify.example.com"
        );
        assert_eq!(verify.server_name_for(&addressee("www.example.com")).unwrap().to_str(), "www.example.com");
        let verify = TlsVerification::new(&entry("a:443", Some("inner.example"))).unwrap();
        assert_eq!(verify.server_name_for(&addressee("www.example.com")).unwrap().to_str(), "inner.example");
    }
}
