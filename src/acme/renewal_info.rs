//! Asking a CA when it would like a certificate to be renewed: ACME Renewal Information, RFC 9773 section 4. The question
//! is a plain GET and needs no account. What the answer means is decided in `domain::renewal_info`.

use bytes::Bytes;
use http::Uri;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::acme::client::AcmeClient;
use crate::acme::directory;
use crate::acme::error::AcmeError;
use crate::acme::problem::Step;
use crate::acme::transport::Exchange;
use crate::domain::disposition::Disposition;
use crate::domain::renewal_info::{Answer, CertId, Window};
use crate::domain::server_url::ServerUrl;

impl AcmeClient {
    /// Asks the CA at `server` about a certificate. There is always an answer, be it that nobody was reached.
    pub async fn renewal_info(&self, server: &ServerUrl, certificate: &CertId) -> Answer {
        let exchange = match self.exchange(server) {
            Ok(exchange) => exchange,
            Err(error) => return Answer::Useless(error.to_string()),
        };
        match ask(&exchange, certificate).await {
            Ok(answer) => answer,
            Err(error) => match error.disposition() {
                Disposition::ProviderDown { not_before } | Disposition::Retry { not_before } => {
                    Answer::Unreachable(error.to_string(), not_before)
                }
                Disposition::Operator | Disposition::Restart => Answer::Useless(error.to_string()),
            },
        }
    }
}

async fn ask(exchange: &Exchange, certificate: &CertId) -> Result<Answer, AcmeError> {
    let failed = |error| AcmeError::from_exchange(Step::RenewalInfo, error);
    let document = exchange.directory().await.map_err(failed)?;
    let Some(place) = directory::renewal_info(&document) else { return Ok(Answer::NotOffered) };
    let Ok(url) = format!("{}/{certificate}", place.trim_end_matches('/')).parse::<Uri>() else {
        return Ok(Answer::Useless(format!("the CA's directory lists no usable URL for renewalInfo: {place}")));
    };
    let answer = exchange.get(&url).await.map_err(failed)?;
    Ok(read(answer.body(), exchange))
}

fn read(body: &Bytes, exchange: &Exchange) -> Answer {
    let info: Info = match serde_json::from_slice(body) {
        Ok(info) => info,
        Err(error) => return Answer::Useless(format!("the CA's renewal information cannot be read: {error}")),
    };
    let SuggestedWindow { start, end } = info.suggested_window;
    match Window::new(start.into(), end.into()) {
        Some(window) => Answer::Window {
            window,
            explanation_url: info.explanation_url.filter(|url| is_for_people(url)),
            retry_after: exchange.retry_after(),
        },
        None => Answer::Useless(format!("the CA suggests a window that ends before it starts, {start} to {end}")),
    }
}

/// It is shown on terminals and in pages.
fn is_for_people(url: &str) -> bool {
    url.len() <= LONGEST_URL && url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    suggested_window: SuggestedWindow,
    #[serde(rename = "explanationURL")]
    explanation_url: Option<String>,
}

#[derive(Deserialize)]
struct SuggestedWindow {
    #[serde(with = "time::serde::rfc3339")]
    start: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    end: OffsetDateTime,
}

/// In bytes.
const LONGEST_URL: usize = 500;
