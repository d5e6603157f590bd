//! HTTP to a DNS service: one call with its time-out, what the answer's status means, and the retries around calls. It
//! knows no zones, no records and no credentials.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, StatusCode};

use crate::config::time_span::TimeSpan;
use crate::dns::error::DnsError;
use crate::domain::failure::retry_after::RetryAfter;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::endpoint::Endpoint;
use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;

/// The API of a DNS service.
pub(super) struct DnsService {
    name: AdapterName,
    behaviour: ServiceBehaviour,
    http: reqwest::Client,
    endpoint: Endpoint,
    clock: SharedClock,
    randomness: Randomness,
}

/// What is peculiar to a kind of service.
#[derive(Clone, Copy)]
pub(super) struct ServiceBehaviour {
    /// Reads the words of an answer that is no success.
    pub(super) read_message: fn(&[u8]) -> RemoteMessage,
    /// What to do where it lets nobody in.
    pub(super) unauthorized_remedy: &'static str,
    /// The pause before a call is made again. Each further pause is twice as long.
    pub(super) first_pause: Duration,
}

impl DnsService {
    pub(super) fn new(
        name: AdapterName,
        manner: ServiceBehaviour,
        (endpoint, timeout): (&str, TimeSpan),
        clock: SharedClock,
        randomness: Randomness,
    ) -> Result<Self, DnsError> {
        let unusable = |reason: String| DnsError::Setting { setting: format!("{}.endpoint", name.section()), reason };
        let endpoint = Endpoint::parse(endpoint).map_err(|fault| unusable(fault.to_string()))?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("autocertd/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout.duration())
            // Credentials go nowhere but to the endpoint, and in the clear through no proxy.
            .redirect(reqwest::redirect::Policy::none());
        let http = if endpoint.is_https() { http } else { http.no_proxy() }
            .build()
            .map_err(|error| unusable(format!("no HTTP client can be made: {error}")))?;
        Ok(Self { name, behaviour: manner, http, endpoint, clock, randomness })
    }

    pub(super) const fn name(&self) -> &AdapterName {
        &self.name
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// One call, completed by `with`: `Ok` for any 2xx, with its name for messages and its body.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<(String, Vec<u8>), DnsError> {
        let call = format!("{method} /{}", path.join("/"));
        let request = with(self.http.request(method, self.endpoint.join(path)));
        let answer = async {
            let mut response = request.send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                // What is cut off cannot be read, which is what the message says then.
                if body.len() + chunk.len() > MAX_BODY_SIZE {
                    break;
                }
                body.extend_from_slice(&chunk);
            }
            Ok((status, headers, body))
        };
        let (status, headers, body) = match answer.await {
            Ok(answer) => answer,
            Err(error) => {
                let source = reqwest::Error::without_url(error);
                tracing::debug!(adapter = %self.name, %call, error = %source, "no answer");
                return Err(DnsError::Unreachable { adapter: self.name.clone(), call, source });
            }
        };
        tracing::debug!(adapter = %self.name, %call, status = status.as_u16(), bytes = body.len(), "answered");
        if status.is_success() { Ok((call, body)) } else { Err(self.error_for_status(call, status, &headers, &body)) }
    }

    /// Repeats `attempt` a few times while its fault is a passing one, after growing pauses or when the service asks
    /// for it. A `Retry-After` beyond [`LONGEST_WAIT`] ends it at once, with that moment in the error.
    pub(super) async fn with_retries<T, A>(&self, attempt: impl FnMut() -> A) -> Result<T, DnsError>
    where
        A: Future<Output = Result<T, DnsError>>,
    {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(self.behaviour.first_pause)
            .with_max_times(MAX_RETRIES)
            .with_jitter()
            .with_jitter_seed(u64::from_le_bytes(self.randomness.bytes()));
        attempt
            .retry(pauses)
            .when(|error| {
                matches!(error, DnsError::Unreachable { .. } | DnsError::Busy { .. } | DnsError::Unreadable { .. })
            })
            .adjust(|error, pause| {
                let asked = error.disposition().not_before().map_or(time::Duration::ZERO, |at| at - self.now());
                let asked = Duration::try_from(asked).unwrap_or_default();
                pause.filter(|_| asked <= MAX_RETRY_WAIT).map(|pause| pause.max(asked))
            })
            .notify(|error, pause| tracing::debug!(adapter = %self.name, %error, ?pause, "trying again"))
            .await
    }

    fn error_for_status(&self, call: String, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> DnsError {
        let (adapter, said) = (self.name.clone(), (self.behaviour.read_message)(body));
        let is_busy =
            status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        let status = status.as_u16();
        match status {
            401 | 403 => {
                DnsError::Unauthorized { adapter, call, status, said, remedy: self.behaviour.unauthorized_remedy }
            }
            _ if is_busy => {
                let asked = RetryAfter::parse(headers.get(RETRY_AFTER).map(HeaderValue::as_bytes), self.now());
                let not_before = asked.within(MAX_REQUESTED_PAUSE, self.now());
                DnsError::Busy { adapter, call, status, said, asked, not_before }
            }
            _ => DnsError::Rejected { adapter, call, status, said },
        }
    }
}

const MAX_RETRIES: usize = 3;
/// Bytes of an answer; a page of 1000 zones has less than half a million.
const MAX_BODY_SIZE: usize = 16 * 1024 * 1024;
/// A longer `Retry-After` is left to the scheduler.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(30);
/// A service that asks for more is tried again after this.
const MAX_REQUESTED_PAUSE: time::Duration = time::Duration::DAY;
