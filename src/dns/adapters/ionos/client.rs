//! HTTP to the Cloud DNS API: one call with its time-out, the reading of its answer, and the retries around calls.
//! It knows no zones and no records.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::dns::IonosSection;
use crate::dns::error::DnsError;
use crate::domain::adapter_name::AdapterName;
use crate::domain::endpoint::Endpoint;
use crate::domain::moment::Moment;
use crate::domain::retry_after::retry_after;
use crate::domain::said::Said;
use crate::runtime::bearer::{InvalidToken, bearer};
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;

/// The API as one token sees it.
pub(super) struct Client {
    name: AdapterName,
    http: reqwest::Client,
    endpoint: Endpoint,
    /// Without one nothing can be asked.
    authorization: Option<HeaderValue>,
    clock: SharedClock,
    randomness: Randomness,
}

impl Client {
    pub(super) fn new(
        name: AdapterName,
        section: &IonosSection,
        token: Option<&SecretString>,
        clock: SharedClock,
        randomness: Randomness,
    ) -> Result<Self, DnsError> {
        let setting =
            |key: &str, reason: String| DnsError::Setting { setting: format!("{}.{key}", name.section()), reason };
        let endpoint = Endpoint::parse(&section.endpoint).map_err(|fault| setting("endpoint", fault.to_string()))?;
        let authorization = token.map(authorization).transpose().map_err(|reason| setting("token_file", reason))?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("autocertd/", env!("CARGO_PKG_VERSION")))
            .timeout(section.timeout.duration())
            // The token goes nowhere but to the endpoint, and in the clear through no proxy.
            .redirect(reqwest::redirect::Policy::none());
        let http = if endpoint.is_https() { http } else { http.no_proxy() }
            .build()
            .map_err(|error| setting("endpoint", format!("no HTTP client can be made: {error}")))?;
        Ok(Self { name, http, endpoint, authorization, clock, randomness })
    }

    pub(super) const fn name(&self) -> &AdapterName {
        &self.name
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Reads a resource or a page.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, DnsError> {
        let (call, body) = self.call(Method::GET, path, query, None).await?;
        serde_json::from_slice(&body).map_err(|source| DnsError::Unreadable {
            adapter: self.name.clone(),
            call,
            source,
        })
    }

    /// Creates a resource; `None` where it was accepted with an answer that does not describe it.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> Result<Option<T>, DnsError> {
        let (_, body) = self.call(Method::POST, path, &[], Some(body)).await?;
        Ok(serde_json::from_slice(&body).ok())
    }

    /// Removes a resource; one that is not there counts as removed.
    pub(super) async fn delete(&self, path: &[&str]) -> Result<(), DnsError> {
        match self.call(Method::DELETE, path, &[], None).await {
            Ok(_) | Err(DnsError::Rejected { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Repeats `attempt` a few times while its fault is a passing one, after growing pauses or when the service asks
    /// for it. A `Retry-After` beyond [`LONGEST_WAIT`] ends it at once, with that moment in the error.
    pub(super) async fn retried<T, A>(&self, attempt: impl FnMut() -> A) -> Result<T, DnsError>
    where
        A: Future<Output = Result<T, DnsError>>,
    {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_times(RETRIES)
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
                pause.filter(|_| asked <= LONGEST_WAIT).map(|pause| pause.max(asked))
            })
            .notify(|error, pause| tracing::debug!(adapter = %self.name, %error, ?pause, "trying again"))
            .await
    }

    /// One call: `Ok` for any 2xx, with its name for messages and its body.
    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<(String, Vec<u8>), DnsError> {
        let call = format!("{method} /{}", path.join("/"));
        let Some(authorization) = self.authorization.clone() else {
            return Err(DnsError::NoToken { adapter: self.name.clone() });
        };
        let mut request =
            self.http.request(method, self.endpoint.join(path)).query(query).header(AUTHORIZATION, authorization);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = async {
            let response = request.send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok((status, headers, response.bytes().await?))
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
        if status.is_success() {
            return Ok((call, body.into()));
        }
        let said = Said::of_ionos(&body);
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                DnsError::Unauthorized { adapter: self.name.clone(), call, status: status.as_u16(), said }
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => self.busy(call, status, said, &headers),
            status if status.is_server_error() => self.busy(call, status, said, &headers),
            status => DnsError::Rejected { adapter: self.name.clone(), call, status: status.as_u16(), said },
        })
    }

    fn busy(&self, call: String, status: StatusCode, said: Said, headers: &HeaderMap) -> DnsError {
        let not_before = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, self.now()));
        DnsError::Busy { adapter: self.name.clone(), call, status: status.as_u16(), said, not_before }
    }
}

fn authorization(token: &SecretString) -> Result<HeaderValue, String> {
    bearer(token).map_err(|fault| match fault {
        InvalidToken::Empty => "the token is empty; create one in the Data Center Designer or with ionosctl".to_owned(),
        InvalidToken::Malformed => format!("the token cannot be used: {fault}"),
    })
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const RETRIES: usize = 3;
/// A longer `Retry-After` is left to the scheduler.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
