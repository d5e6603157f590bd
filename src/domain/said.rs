//! What a service said in words with an answer that was no success.

use std::fmt;

use serde::Deserialize;

/// Words of a service, fit for a message; prints nothing where it said nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(String);

impl Said {
    /// The words of an answer, cut to a length that messages can bear, without control characters.
    pub fn new(words: &str) -> Self {
        Self(words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect())
    }

    /// The messages of an IONOS API's error body; nothing where it is something else, such as a gateway's page.
    pub fn of_ionos(body: &[u8]) -> Self {
        let Ok(IonosBody { messages }) = serde_json::from_slice(body) else { return Self::default() };
        let words: Vec<String> = messages
            .into_iter()
            .map(|said| [said.error_code, said.message].into_iter().flatten().collect::<Vec<_>>().join(": "))
            .collect();
        Self::new(&words.join("; "))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

#[derive(Deserialize)]
struct IonosBody {
    messages: Vec<IonosMessage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IonosMessage {
    error_code: Option<String>,
    message: Option<String>,
}

/// In characters.
const LONGEST: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_becomes_words_and_a_gateways_page_none() {
        let body = br#"{"httpStatus": 400, "messages": [{"errorCode": "paas-1", "message": "bad\nname"}, {}]}"#;
        assert_eq!(Said::of_ionos(body).to_string(), " (paas-1: bad name; )");
        assert_eq!(Said::of_ionos(b"<html>").to_string(), "");
        let long = serde_json::json!({"messages": [{"message": "x".repeat(5_000)}]}).to_string();
        assert!(Said::of_ionos(long.as_bytes()).to_string().len() < 320);
    }
}
