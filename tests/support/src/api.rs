//! A client of the API as a user would write one: JSON over HTTP, a bearer token, and patience.

use std::time::{Duration, Instant};

use anyhow::bail;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::timed;

/// A client of the Certificate Manager API.
#[derive(Clone, Debug)]
pub struct ApiClient {
    client: reqwest::Client,
    /// The address of the API, without a slash at its end.
    pub base: String,
    /// The bearer token.
    pub token: String,
}

impl ApiClient {
    /// A client for the API at `base`.
    ///
    /// # Errors
    /// Where the HTTP client cannot be built.
    pub fn new(base: String, token: String) -> anyhow::Result<Self> {
        let client = timed::http().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { client, base, token })
    }

    /// Sends a request; an empty body reads as null.
    ///
    /// # Errors
    /// Where there is no answer, or it is no JSON.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        Ok((status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? }))
    }

    /// Reads a resource that must be there.
    ///
    /// # Errors
    /// Where it is not.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.expect(StatusCode::OK, Method::GET, path, None).await
    }

    /// Creates a resource from its properties.
    ///
    /// # Errors
    /// Where it is refused.
    pub async fn create(&self, path: &str, properties: Value) -> anyhow::Result<Value> {
        let body = serde_json::json!({ "properties": properties });
        self.expect(StatusCode::CREATED, Method::POST, path, Some(body)).await
    }

    /// Deletes a resource.
    ///
    /// # Errors
    /// Where that is refused.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.expect(StatusCode::ACCEPTED, Method::DELETE, path, None).await.map(drop)
    }

    /// Looks at a resource until `done` says so.
    ///
    /// # Errors
    /// Where it takes more than 60 s; the error holds the last look.
    pub async fn wait_until(&self, path: &str, done: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let begun = Instant::now();
        loop {
            let seen = self.get(path).await?;
            if done(&seen) {
                return Ok(seen);
            }
            if begun.elapsed() > WAIT_TIMEOUT {
                bail!("{path} does not come to what is awaited: {seen:#}");
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until a resource is AVAILABLE.
    ///
    /// # Errors
    /// As [`ApiClient::wait_until`].
    pub async fn wait_until_available(&self, path: &str) -> anyhow::Result<Value> {
        self.wait_until(path, |seen| seen["metadata"]["state"] == "AVAILABLE").await
    }

    async fn expect(
        &self,
        wanted: StatusCode,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let (status, answer) = self.send(method.clone(), path, body).await?;
        if status == wanted { Ok(answer) } else { bail!("{method} {path} answers {status}: {answer:#}") }
    }
}

const WAIT_TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
