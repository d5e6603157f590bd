//! Asking a CA when it would like a certificate to be renewed: ACME Renewal Information, RFC 9773 section 4. The question
//! is a plain GET and needs no account. What the answer means is decided in `domain::renewal_info`.

use bytes::Bytes;
use http::Uri;
use serde::Deserialize;
use serde_json::Value;

use crate::acme::client::AcmeClient;
use crate::acme::directory;
use crate::acme::error::AcmeError;
use crate::acme::problem::AcmeStep;
use crate::acme::transport::CaConnection;
use crate::domain::renewal::renewal_info::{CertId, RenewalInfoAnswer, RenewalWindow};
use crate::domain::value::moment::Moment;
use crate::domain::value::server_url::ServerUrl;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::network_fault::NetworkFault;

impl AcmeClient {
    /// Asks the CA at `server` about a certificate. There is always an answer, be it that nobody was reached.
    pub async fn renewal_info(&self, server: &ServerUrl, certificate: &CertId) -> RenewalInfoAnswer {
        let exchange = match self.connection(server) {
            Ok(exchange) => exchange,
            Err(error) => return RenewalInfoAnswer::Useless(error.to_string()),
        };
        fetch_answer(&exchange, certificate).await.unwrap_or_else(|error| answer_from_error(&error))
    }
}

async fn fetch_answer(exchange: &CaConnection, certificate: &CertId) -> Result<RenewalInfoAnswer, AcmeError> {
    let failed = |error| AcmeError::from_transport(AcmeStep::RenewalInfo, error);
    let document = exchange.load_directory().await.map_err(failed)?;
    let Some(place) = directory::parse_renewal_info_url(&document) else { return Ok(RenewalInfoAnswer::NotOffered) };
    let Ok(url) = format!("{}/{certificate}", place.trim_end_matches('/')).parse::<Uri>() else {
        return Ok(RenewalInfoAnswer::Useless(format!(
            "the CA's directory lists no usable URL for renewalInfo: {place:?}"
        )));
    };
    let answer = exchange.get(&url).await.map_err(failed)?;
    Ok(parse_answer(answer.body(), exchange))
}

/// Troubles that pass are asked about again soon, all others take longer (section 4.3.2).
fn answer_from_error(error: &AcmeError) -> RenewalInfoAnswer {
    let passes = match error {
        AcmeError::Unreachable(unreachable) => unreachable.fault != NetworkFault::Forbidden,
        AcmeError::Refused { step: AcmeStep::Directory, .. }
        | AcmeError::Unreadable { step: AcmeStep::Directory, .. } => true,
        AcmeError::Refused { refusal, .. } => matches!(refusal.status, 408 | 429 | 500..),
        _ => false,
    };
    let words = RemoteMessage::from(error.to_string()).to_string();
    if passes {
        RenewalInfoAnswer::Unreachable(words, error.disposition().not_before())
    } else {
        RenewalInfoAnswer::Useless(words)
    }
}

fn parse_answer(body: &Bytes, exchange: &CaConnection) -> RenewalInfoAnswer {
    let info: Info = match serde_json::from_slice(body) {
        Ok(info) => info,
        Err(error) => {
            return RenewalInfoAnswer::Useless(format!("the CA's renewal information cannot be read: {error}"));
        }
    };
    let SuggestedWindow { start, end } = info.suggested_window;
    let Some((opens, closes)) = parse_moment(&start).zip(parse_moment(&end)) else {
        let (start, end) = (RemoteMessage::new(&start), RemoteMessage::new(&end));
        return RenewalInfoAnswer::Useless(format!("the CA suggests a window that is none, {start} to {end}"));
    };
    match RenewalWindow::new(opens, closes) {
        Some(window) => RenewalInfoAnswer::Window {
            window,
            explanation_url: info.explanation_url.as_str().and_then(normalize_explanation_url),
            retry_after: exchange.retry_after(),
        },
        None => RenewalInfoAnswer::Useless(format!(
            "the CA suggests a window that ends before it starts, {opens} to {closes}"
        )),
    }
}

/// A date of RFC 3339, or what CAs write for one: fractions of any length, offsets without a colon or left out (UTC is
/// meant then), a blank between date and time, small letters.
fn parse_moment(text: &str) -> Option<Moment> {
    let text = text.trim().to_ascii_uppercase().replace(',', ".");
    let (seconds, behind) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = behind.chars().take_while(char::is_ascii_digit).take(MAX_FRACTION_DIGITS).collect::<String>();
    let offset = behind.trim_start_matches(|c: char| c.is_ascii_digit());
    let whole =
        if fraction.is_empty() { format!("{seconds}{offset}") } else { format!("{seconds}.{fraction}{offset}") };
    let read: jiff::Timestamp = whole.parse().or_else(|_| format!("{whole}Z").parse()).ok()?;
    Some(Moment::from_micros(read.as_microsecond()))
}

/// The URL as it is shown on terminals and in pages. It is written anew, so that nothing is left of control characters,
/// invisible ones and letters that look like others.
fn normalize_explanation_url(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let plain = url.username().is_empty() && url.password().is_none();
    Some(url.to_string()).filter(|text| plain && text.len() <= MAX_URL_LENGTH)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    suggested_window: SuggestedWindow,
    #[serde(default, rename = "explanationURL")]
    explanation_url: Value,
}

#[derive(Deserialize)]
struct SuggestedWindow {
    start: String,
    end: String,
}

/// Digits of a fraction of a second.
const MAX_FRACTION_DIGITS: usize = 6;

/// In bytes.
const MAX_URL_LENGTH: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_cas_write_them() {
        let expected = Moment::from_micros(1_700_000_000_000_000);
        for text in [
            "2023-11-14T22:13:20Z",
            "2023-11-14t22:13:20z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20.000000000000Z",
            "2023-11-14T22:13:20,0Z",
            "2023-11-14T23:13:20+01:00",
            "2023-11-14T23:13:20.0+0100",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13:20",
            " 2023-11-14T22:13:20-00:00\n",
        ] {
            assert_eq!(parse_moment(text), Some(expected), "{text:?}");
        }
        for text in ["", "soon", "1700000000", "2023-11-14", "2023-13-14T22:13:20Z", "9999999-11-14T22:13:20Z"] {
            assert_eq!(parse_moment(text), None, "{text:?}");
        }
    }

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
            assert_eq!(normalize_explanation_url(sent).as_deref(), shown, "{sent:?}");
        }
        assert_eq!(normalize_explanation_url(&format!("https://ca.example/{}", "x".repeat(500))), None);
    }
}
