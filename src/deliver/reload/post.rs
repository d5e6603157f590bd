//! An empty `POST` to a service that is reloaded so.

use reqwest::header::CONTENT_LENGTH;
use reqwest::redirect::Policy;
use url::Url;

use crate::config::time_span::TimeSpan;
use crate::deliver::reload::InvalidReload;
use crate::domain::failure::disposition::Failure;
use crate::domain::value::text::RemoteMessage;
use crate::domain::value::url_text::parse_url;

/// A request on its way. It goes straight to the address: through no proxy, and along no redirect.
#[derive(Debug)]
pub(super) struct ReloadPost {
    http: reqwest::Client,
    url: Url,
    timeout: TimeSpan,
}

impl ReloadPost {
    pub(super) fn new(url: &str, timeout: TimeSpan) -> Result<Self, InvalidReload> {
        let parsed = parse_url(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let http = reqwest::Client::builder()
            .user_agent(concat!("autocertd/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout.duration())
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .map_err(InvalidReload::Client)?;
        Ok(Self { http, url: parsed.ok_or(InvalidReload::Url)?, timeout })
    }

    pub(super) async fn run(&self) -> Result<(), Failure> {
        let place = self.shown_address();
        // RFC 9110 section 8.6: some refuse a POST that does not tell its length.
        let request = self.http.post(self.url.clone()).header(CONTENT_LENGTH, 0);
        let mut answer = request.send().await.map_err(|error| {
            let timed_out = error.is_timeout();
            let cause = root_cause(&error.without_url());
            if timed_out {
                Failure::retry(format!("POST {place} got no answer within {}", self.timeout))
            } else {
                Failure::retry(format!("POST {place} got no answer: {cause}; is the service running there?"))
            }
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let said = match answer.chunk().await {
            Ok(Some(chunk)) => RemoteMessage::last_lines(&chunk[..chunk.len().min(MAX_EXCERPT)]),
            _ => RemoteMessage::default(),
        };
        let advice = if status.is_redirection() { "; name the final address, redirects are not followed" } else { "" };
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        Err(Failure::retry(format!("POST {place} was answered with status {}{advice}{said}", status.as_u16())))
    }

    /// The address without user, password and query, which may be secret.
    fn shown_address(&self) -> String {
        let url = &self.url;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
    }
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.last().map(ToString::to_string).unwrap_or_default()
}

/// Bytes of an answer that may end in a message.
const MAX_EXCERPT: usize = 1_024;
