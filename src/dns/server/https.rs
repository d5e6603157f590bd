//! Questions over HTTPS (RFC 8484), by POST. Certificates are checked against what the system trusts.

use std::error::Error;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use hickory_proto::op::Message;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::domain::value::endpoint::Endpoint;

/// A server that takes questions at a URL.
#[derive(Debug)]
pub(super) struct DohClient {
    endpoint: Endpoint,
    /// Made when it is first used: that reads the certificates which the system trusts.
    client: OnceLock<reqwest::Client>,
}

impl DohClient {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        Self { endpoint: endpoint.clone(), client: OnceLock::new() }
    }

    /// Asks within `patience`; what is wrong comes in words.
    pub(super) async fn query(&self, mut message: Message, patience: Duration) -> Result<Message, String> {
        // So that caches on the way see equal questions as equal (RFC 8484 section 4.1).
        message.metadata.id = 0;
        let question = message.to_vec().map_err(|error| error.to_string())?;
        let request = self.client().map_err(error_chain)?.post(self.endpoint.url().clone()).timeout(patience);
        let request = request.header(CONTENT_TYPE, MEDIA_TYPE).header(ACCEPT, MEDIA_TYPE).body(question);
        let mut response = request.send().await.map_err(error_chain)?;
        if !response.status().is_success() {
            return Err(format!("the status is {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(error_chain)? {
            if body.len() + chunk.len() > MAX_MESSAGE_SIZE {
                return Err("the answer is longer than DNS messages are".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        Message::from_vec(&body).map_err(|error| format!("the answer is no DNS message: {error}"))
    }

    fn client(&self) -> Result<reqwest::Client, reqwest::Error> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("autocertd/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none());
        let made = if self.endpoint.is_https() { builder } else { builder.no_proxy() }.build()?;
        Ok(self.client.get_or_init(|| made).clone())
    }
}

impl fmt::Display for DohClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

/// The whole chain, without the URL, which the message names already.
fn error_chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let chain = std::iter::successors(Some(&error as &dyn Error), |&error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

const MEDIA_TYPE: &str = "application/dns-message";
/// RFC 1035 section 4.2.2.
const MAX_MESSAGE_SIZE: usize = 65_535;
