//! HTTP to the Cloud DNS API: one call with its time-out, the reading of its answer, and the retries around calls.
//! It knows no zones and no records.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use url::Url;

use super::NAME;
use super::wire::ErrorBody;
use crate::config::dns::IonosSection;
use crate::dns::error::{DnsError, Said};
use crate::domain::moment::Moment;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;

/// The API as one token sees it.
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: Url,
    /// Without one nothing can be asked.
    authorization: Option<HeaderValue>,
    clock: SharedClock,
    randomness: Randomness,
}

impl Client {
    pub(super) fn new(
        section: &IonosSection,
        token: Option<&SecretString>,
        clock: SharedClock,
        randomness: Randomness,
    ) -> Result<Self, DnsError> {
        let endpoint = endpoint(&section.endpoint)?;
        let authorization = token.map(authorization).transpose()?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("autocertd/", env!("CARGO_PKG_VERSION")))
            .timeout(section.timeout.duration())
            // The token goes nowhere but to the endpoint.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| setting("dns.ionos.endpoint", format!("no HTTP client can be made: {error}")))?;
        Ok(Self { http, endpoint, authorization, clock, randomness })
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
        serde_json::from_slice(&body).map_err(|source| DnsError::Unreadable { adapter: NAME, call, source })
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
            .notify(|error, pause| tracing::debug!(adapter = NAME, %error, ?pause, "trying again"))
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
            return Err(DnsError::NoToken { adapter: NAME });
        };
        let mut request = self.http.request(method, self.url(path)).query(query).header(AUTHORIZATION, authorization);
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
                tracing::debug!(adapter = NAME, %call, error = %source, "no answer");
                return Err(DnsError::Unreachable { adapter: NAME, call, source });
            }
        };
        tracing::debug!(adapter = NAME, %call, status = status.as_u16(), bytes = body.len(), "answered");
        if status.is_success() {
            return Ok((call, body.into()));
        }
        let said = ErrorBody::said(&body);
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                DnsError::Unauthorized { adapter: NAME, call, status: status.as_u16(), said }
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => self.busy(call, status, said, &headers),
            status if status.is_server_error() => self.busy(call, status, said, &headers),
            status => DnsError::Rejected { adapter: NAME, call, status: status.as_u16(), said },
        })
    }

    fn busy(&self, call: String, status: StatusCode, said: Said, headers: &HeaderMap) -> DnsError {
        let not_before = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, self.now()));
        DnsError::Busy { adapter: NAME, call, status: status.as_u16(), said, not_before }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

/// `https`, or `http` on this machine alone, so that no token crosses a network in the clear.
fn endpoint(text: &str) -> Result<Url, DnsError> {
    let refused = || setting("dns.ionos.endpoint", format!("{text:?} is not an https URL"));
    let url = Url::parse(text).map_err(|_| refused())?;
    let local = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        _ => Err(refused()),
    }
}

fn authorization(token: &SecretString) -> Result<HeaderValue, DnsError> {
    let refused = |reason: &str| setting("the token of dns.ionos", reason.to_owned());
    let token = token.expose_secret().trim();
    if token.is_empty() {
        return Err(refused("it is empty; create one in the Data Center Designer or with ionosctl"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| refused("it has characters that no token has; give the token alone"))?;
    value.set_sensitive(true);
    Ok(value)
}

const fn setting(setting: &'static str, reason: String) -> DnsError {
    DnsError::Setting { setting, reason }
}

/// RFC 9110 section 10.2.3: seconds, or a date in the form that section 5.6.7 prefers.
fn retry_after(value: &str, now: Moment) -> Option<Moment> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(now + time::Duration::seconds(seconds.into()));
    }
    PrimitiveDateTime::parse(value, HTTP_DATE).ok().map(|date| date.assume_utc().into())
}

const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const RETRIES: usize = 3;
/// A longer `Retry-After` is left to the scheduler.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_reads_seconds_and_dates() {
        let now = Moment::from_micros(1_700_000_000_000_000);
        assert_eq!(retry_after("20", now), Some(now + time::Duration::seconds(20)));
        assert_eq!(retry_after("Tue, 14 Nov 2023 22:13:25 GMT", now), Some(now + time::Duration::seconds(5)));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn a_token_crosses_no_network_in_the_clear() {
        assert!(endpoint("https://dns.de-fra.ionos.com").is_ok());
        assert!(endpoint("http://127.0.0.1:8080").is_ok());
        for text in ["http://dns.example.com", "http://127.0.0.1.example.com", "ftp://127.0.0.1", "dns.example.com"] {
            assert!(endpoint(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_token_never_prints() {
        let value = authorization(&SecretString::from("abc.def\n")).unwrap();
        assert_eq!(value.as_bytes(), b"Bearer abc.def");
        assert!(!format!("{value:?}").contains("abc"));
        let error = authorization(&SecretString::from("ab\ncd")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("ab\n"));
    }
}
