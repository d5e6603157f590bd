//! One signed request and its signed answer, over a TCP connection of its own: servers may close one after each answer.

use std::io;
use std::time::Duration;

use hickory_net::NetError;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{TSigVerifier, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dns::adapters::AdapterContext;
use crate::dns::error::DnsError;
use crate::domain::value::adapter_name::AdapterName;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;

/// A server as one key sees it.
pub(super) struct Rfc2136Client {
    name: AdapterName,
    /// Host and port.
    server: String,
    signer: TSigner,
    timeout: Duration,
    clock: SharedClock,
    randomness: Randomness,
}

impl Rfc2136Client {
    pub(super) fn new(given: AdapterContext, server: String, signer: TSigner, timeout: Duration) -> Self {
        Self { name: given.name, server, signer, timeout, clock: given.clock, randomness: given.randomness }
    }

    pub(super) const fn name(&self) -> &AdapterName {
        &self.name
    }

    /// An id for a message.
    pub(super) fn fresh_id(&self) -> u16 {
        u16::from_le_bytes(self.randomness.bytes())
    }

    /// Sends `request`, signed; returns the answer whatever its response code is. One that succeeds is signed by the
    /// key; one that fails may be unsigned, as where the server does not know the key.
    pub(super) async fn send_signed(&self, call: &str, mut request: Message) -> Result<Message, DnsError> {
        let silent = |source| DnsError::NoReply {
            adapter: self.name.clone(),
            server: self.server.clone(),
            call: call.to_owned(),
            source: Box::new(source),
        };
        let now = self.unix_time();
        let verifier = request.finalize(&self.signer, now).map_err(|error| silent(error.into()))?;
        let bytes = request.to_vec().map_err(|error| silent(error.into()))?;
        let exchanged = tokio::time::timeout(self.timeout, send_over_tcp(&self.server, &bytes)).await;
        let bytes = exchanged.map_err(|_| silent(NetError::Timeout))?.map_err(|error| silent(error.into()))?;
        let answer = Message::from_vec(&bytes).map_err(|error| silent(NetError::Proto(error.into())))?;
        if answer.id != request.id || answer.message_type != MessageType::Response {
            return Err(silent("what came is no answer to this request".into()));
        }
        let code = answer.response_code;
        tracing::debug!(adapter = %self.name, server = self.server, call, %code, "answered");
        let signature = answer.signature().map(|signature| &signature.data);
        if let Some((error, tsig)) = signature.and_then(|tsig| Some((tsig.error?, tsig))) {
            return Err(self.error_for_tsig(call, error, tsig, now));
        }
        let is_failure = !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        if is_failure || verifier.is_some_and(|verifier| is_signed(&bytes, signature, verifier)) {
            Ok(answer)
        } else {
            Err(self.failed_error(call, format!("an answer, {}, that the key did not sign", code_name(code))))
        }
    }

    /// What the response code of an update means.
    pub(super) fn check_code(&self, call: &str, code: ResponseCode) -> Result<(), DnsError> {
        if code == ResponseCode::NoError { Ok(()) } else { Err(self.error_for_code(call, code)) }
    }

    /// What a response code other than NOERROR means.
    pub(super) fn error_for_code(&self, call: &str, code: ResponseCode) -> DnsError {
        let remedy = match code {
            ResponseCode::Refused => {
                "let update-policy or allow-update of the zone grant this key TXT records of that name"
            }
            // PowerDNS says no more than this where it does not trust a signature.
            ResponseCode::NotAuth => {
                "let server be the zone's primary, the key one that it knows by name, algorithm and secret, and both clocks right"
            }
            ResponseCode::NotZone => "let the setting zone name the zone that holds the record",
            ResponseCode::NotImp => "turn dynamic updates on at the server",
            code => return self.failed_error(call, code_name(code)),
        };
        self.refused_error(call, code_name(code), remedy)
    }

    /// The server does not trust the request (RFC 8945 section 5.2).
    fn error_for_tsig(&self, call: &str, error: TsigError, tsig: &TSIG, now: u64) -> DnsError {
        let (code, remedy) = match error {
            TsigError::BadKey => (
                "BADKEY".to_owned(),
                "let key_name and algorithm be those of a key that the server knows, or add the key there",
            ),
            TsigError::BadSig => ("BADSIG".to_owned(), "let key_file hold the secret that the server has for this key"),
            TsigError::BadTime => (
                format!("BADTIME{}", describe_clock_skew(tsig, now)),
                "the clocks of this host and of the server differ too much: set both by NTP",
            ),
            TsigError::BadTrunc => ("BADTRUNC".to_owned(), "let the server accept full signatures"),
            TsigError::Unknown(code) => (format!("TSIG error {code}"), "look at the server's log"),
        };
        self.refused_error(call, code, remedy)
    }

    fn refused_error(&self, call: &str, code: String, remedy: &'static str) -> DnsError {
        let (adapter, server, call) = (self.name.clone(), self.server.clone(), call.to_owned());
        DnsError::UpdateRefused { adapter, server, call, code, remedy }
    }

    fn failed_error(&self, call: &str, code: String) -> DnsError {
        let (adapter, server, call) = (self.name.clone(), self.server.clone(), call.to_owned());
        DnsError::UpdateFailed { adapter, server, call, code }
    }

    /// In seconds since 1970, never before.
    fn unix_time(&self) -> u64 {
        u64::try_from(self.clock.now().micros() / 1_000_000).unwrap_or_default()
    }
}

/// Each message goes behind its length (RFC 1035 section 4.2.2), in one write (RFC 7766 section 8).
async fn send_over_tcp(server: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(request.len()).map_err(io::Error::other)?;
    let mut connection = TcpStream::connect(server).await?;
    connection.write_all(&[&length.to_be_bytes(), request].concat()).await?;
    let mut answer = vec![0; connection.read_u16().await?.into()];
    connection.read_exact(&mut answer).await?;
    Ok(answer)
}

/// hickory takes the fudge off the time without a look at which is greater.
fn is_signed(answer: &[u8], signature: Option<&TSIG>, mut verifier: TSigVerifier) -> bool {
    signature.is_some_and(|tsig| tsig.time >= u64::from(tsig.fudge)) && verifier.verify(answer).is_ok()
}

/// How far the clocks are apart, in words; nothing where the server does not tell its time.
fn describe_clock_skew(tsig: &TSIG, now: u64) -> String {
    let Ok(time) = <[u8; 6]>::try_from(tsig.other.as_slice()) else { return String::new() };
    let there = time.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let way = if there > now { "ahead of" } else { "behind" };
    format!(" (its clock is {} s {way} ours)", there.abs_diff(now))
}

/// As servers' logs and manuals write it.
fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotAuth => "NOTAUTH".to_owned(),
        ResponseCode::NotZone => "NOTZONE".to_owned(),
        code => format!("response code {}", u16::from(code)),
    }
}
