//! Asking a CA when it would like a certificate to be renewed: ACME Renewal Information, RFC 9773 section 4. The question
//! is a plain GET and needs no account. What the answer means is decided in `domain::renewal_info`.

use bytes::Bytes;
use http::Uri;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::acme::client::AcmeClient;
use crate::acme::directory;
use crate::acme::error::{AcmeError, Trouble};
use crate::acme::problem::Step;
use crate::acme::transport::Exchange;
use crate::domain::renewal_info::{Answer, CertId, Window};
use crate::domain::server_url::ServerUrl;
use crate::domain::text::RemoteMessage;

impl AcmeClient {
    /// Asks the CA at `server` about a certificate. There is always an answer, be it that nobody was reached.
    pub async fn renewal_info(&self, server: &ServerUrl, certificate: &CertId) -> Answer {
        let exchange = match self.exchange(server) {
            Ok(exchange) => exchange,
            Err(error) => return Answer::Useless(error.to_string()),
        };
        ask(&exchange, certificate).await.unwrap_or_else(|error| answer_of(&error))
    }
}

async fn ask(exchange: &Exchange, certificate: &CertId) -> Result<Answer, AcmeError> {
    let failed = |error| AcmeError::from_exchange(Step::RenewalInfo, error);
    let document = exchange.directory().await.map_err(failed)?;
    let Some(place) = directory::renewal_info(&document) else { return Ok(Answer::NotOffered) };
    let Ok(url) = format!("{}/{certificate}", place.trim_end_matches('/')).parse::<Uri>() else {
        return Ok(Answer::Useless(format!("the CA's directory lists no usable URL for renewalInfo: {place:?}")));
    };
    let answer = exchange.get(&url).await.map_err(failed)?;
    Ok(read(answer.body(), exchange))
}

/// Troubles that pass are asked about again soon, all others take longer (section 4.3.2).
fn answer_of(error: &AcmeError) -> Answer {
    let passes = match error {
        AcmeError::Unreachable(unreachable) => unreachable.trouble != Trouble::Forbidden,
        AcmeError::Refused { step: Step::Directory, .. } | AcmeError::Unreadable { step: Step::Directory, .. } => true,
        AcmeError::Refused { refusal, .. } => matches!(refusal.status, 408 | 429 | 500..),
        _ => false,
    };
    let words = RemoteMessage::from(error.to_string()).to_string();
    if passes { Answer::Unreachable(words, error.disposition().not_before()) } else { Answer::Useless(words) }
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
            explanation_url: info.explanation_url.as_deref().and_then(for_people),
            retry_after: exchange.retry_after(),
        },
        None => Answer::Useless(format!("the CA suggests a window that ends before it starts, {start} to {end}")),
    }
}

/// The URL as it is shown on terminals and in pages. It is written anew, so that nothing is left of control characters,
/// invisible ones and letters that look like others.
fn for_people(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let plain = url.username().is_empty() && url.password().is_none();
    Some(url.to_string()).filter(|text| plain && text.len() <= LONGEST_URL)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_is_a_plain_url_whatever_the_ca_sends() {
        for (sent, shown) in [
            ("https://ca.example/why?id=1#now", Some("https://ca.example/why?id=1#now")),
            ("https://ca.example/\u{1b}[31m\u{202e}\n", Some("https://ca.example/%1B[31m%E2%80%AE")),
            ("  https://ca.example/a b\u{0}\"<\u{200b}", Some("https://ca.example/a%20b%00%22%3C%E2%80%8B")),
            ("https://b\u{fc}cher.example", Some("https://xn--bcher-kva.example/")),
            ("https://ca.example@evil.example/", None),
            ("javascript:alert(1)", None),
            ("file:///etc/passwd", None),
            ("/why", None),
            ("", None),
        ] {
            assert_eq!(for_people(sent).as_deref(), shown, "{sent:?}");
        }
        assert_eq!(for_people(&format!("https://ca.example/{}", "x".repeat(500))), None);
    }
}
