//! The Cloud DNS API as one token sees it. It knows no zones and no records.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::dns::IonosSection;
use crate::dns::error::DnsError;
use crate::dns::http::{DnsService, ServiceBehaviour};
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::moment::Moment;
use crate::domain::value::secret_text::InvalidSecret;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::bearer::bearer_header;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;

/// The API as one token sees it.
pub(super) struct IonosClient {
    service: DnsService,
    /// Without one nothing can be asked.
    authorization: Option<HeaderValue>,
}

impl IonosClient {
    pub(super) fn new(
        name: AdapterName,
        section: &IonosSection,
        token: Option<&SecretString>,
        clock: SharedClock,
        randomness: Randomness,
    ) -> Result<Self, DnsError> {
        let authorization = token
            .map(authorization_header)
            .transpose()
            .map_err(|reason| DnsError::Setting { setting: format!("{}.token_file", name.section()), reason })?;
        let service = DnsService::new(name, BEHAVIOUR, (&section.endpoint, section.timeout), clock, randomness)?;
        Ok(Self { service, authorization })
    }

    pub(super) const fn name(&self) -> &AdapterName {
        self.service.name()
    }

    pub(super) fn now(&self) -> Moment {
        self.service.now()
    }

    /// Reads a resource or a page.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, DnsError> {
        let (call, body) = self.call(Method::GET, path, query, None).await?;
        serde_json::from_slice(&body).map_err(|source| DnsError::Unreadable {
            adapter: self.name().clone(),
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

    /// Repeats `attempt` a few times while its fault is a passing one.
    pub(super) async fn with_retries<T, A>(&self, attempt: impl FnMut() -> A) -> Result<T, DnsError>
    where
        A: Future<Output = Result<T, DnsError>>,
    {
        self.service.with_retries(attempt).await
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<(String, Vec<u8>), DnsError> {
        let Some(authorization) = self.authorization.clone() else {
            return Err(DnsError::NoToken { adapter: self.name().clone() });
        };
        let complete = |request: reqwest::RequestBuilder| {
            let request = request.query(query).header(AUTHORIZATION, authorization);
            if let Some(body) = body { request.json(body) } else { request }
        };
        self.service.call(method, path, complete).await
    }
}

fn authorization_header(token: &SecretString) -> Result<HeaderValue, String> {
    bearer_header(token).map_err(|fault| match fault {
        InvalidSecret::Empty => {
            "the token is empty; create one in the Data Center Designer or with ionosctl".to_owned()
        }
        fault => format!("the token {fault}"),
    })
}

const BEHAVIOUR: ServiceBehaviour = ServiceBehaviour {
    read_message: RemoteMessage::from_ionos_error,
    unauthorized_remedy: "give a token that is valid and may manage DNS",
    first_pause: Duration::from_millis(100),
};
