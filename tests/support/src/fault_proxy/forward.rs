//! What happens to one request: recorded, broken where the hook says so, else forwarded and its answer relayed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;

use super::body::{AnswerBody, ConnectionCut};
use super::request::RequestInfo;
use super::{Action, Callback, FaultProxyOptions, ResponseAlteration, Shared};
use crate::timed;

pub(super) struct Forwarder {
    http: reqwest::Client,
    upstream: String,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Forwarder {
    pub(super) fn new(options: &FaultProxyOptions, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let roots = options.upstream_root_pem.iter().map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()));
        // Over HTTP/2 the upstream would be named instead of what the Host header says.
        let http = timed::http()
            .http1_only()
            .tls_certs_only(roots.collect::<Result<Vec<_>, _>>().context("the upstream's root")?)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let scheme = if options.tls { "https" } else { "http" };
        Ok(Self { http, upstream: options.upstream.trim_end_matches('/').to_owned(), scheme, shared })
    }

    pub(super) async fn handle(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, ConnectionCut> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| ConnectionCut)?.to_bytes();
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let (request, action) = self.shared.record(RequestInfo::new(parts.method, path, body));
        match action {
            Action::Pass => {}
            Action::Stall(span) => tokio::time::sleep(span).await,
            Action::Cut => return Err(ConnectionCut),
            Action::KillBefore(callback) => return Err(run(callback).await),
            Action::KillAfter(callback) => {
                self.answer(&request, parts.headers).await?;
                return Err(run(callback).await);
            }
            Action::Respond(status, headers, body) => {
                let status = StatusCode::from_u16(status).map_err(|_| ConnectionCut)?;
                return Ok(Answer { status, headers, body }.relayed());
            }
            Action::Truncate => return Ok(self.answer(&request, parts.headers).await?.truncated()),
            Action::Alter(alter) => return Ok(self.answer(&request, parts.headers).await?.altered(alter).relayed()),
        }
        Ok(self.answer(&request, parts.headers).await?.relayed())
    }

    async fn answer(&self, request: &RequestInfo, headers: HeaderMap) -> Result<Answer, ConnectionCut> {
        if request.kind == "certificate" {
            // Pebble notes which order a certificate came from only after it gives it out, and fails an order that
            // replaces it before that.
            tokio::time::sleep(RECORD_DELAY).await;
        }
        match redundant_name(request) {
            Some(name) => Ok(redundant(&name)),
            None => self.forward(request, headers).await.map_err(|_| ConnectionCut),
        }
    }

    async fn forward(&self, request: &RequestInfo, mut headers: HeaderMap) -> Result<Answer, reqwest::Error> {
        for own in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            headers.remove(own);
        }
        headers.insert("x-forwarded-proto", HeaderValue::from_static(self.scheme));
        debug_assert!(headers.contains_key(HOST), "HTTP/1.1 always has it");
        let url = format!("{}{}", self.upstream, request.path);
        let answer =
            self.http.request(request.method.clone(), url).headers(headers).body(request.body.clone()).send().await?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        for own in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            headers.remove(own);
        }
        Ok(Answer { status, headers, body: answer.bytes().await? })
    }
}

impl Answer {
    fn relayed(self) -> Response<AnswerBody> {
        let length = self.body.len();
        let body = AnswerBody::whole(self.body);
        response(self.status, self.headers, length, body)
    }

    fn altered(self, alter: ResponseAlteration) -> Self {
        let mut answer = Response::new(self.body);
        (*answer.status_mut(), *answer.headers_mut()) = (self.status, self.headers);
        alter(&mut answer);
        let (parts, body) = answer.into_parts();
        Self { status: parts.status, headers: parts.headers, body }
    }

    fn truncated(self) -> Response<AnswerBody> {
        response(self.status, self.headers, self.body.len(), AnswerBody::half(&self.body))
    }
}

fn response(status: StatusCode, mut headers: HeaderMap, length: usize, body: AnswerBody) -> Response<AnswerBody> {
    if status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

async fn run(callback: Callback) -> ConnectionCut {
    // A callback that panics fails its own test by what it did not do.
    let _ = tokio::task::spawn_blocking(callback).await;
    ConnectionCut
}

/// A name of a new order that a wildcard of the same order covers.
fn redundant_name(request: &RequestInfo) -> Option<String> {
    if request.kind != "new-order" {
        return None;
    }
    let names = request.ordered_names();
    let covered = |name: &&String| {
        name.split_once('.').is_some_and(|(label, parent)| label != "*" && names.contains(&format!("*.{parent}")))
    };
    names.iter().find(covered).cloned()
}

/// Boulder's words; Pebble itself takes such orders.
fn redundant(name: &str) -> Answer {
    let detail = format!(
        "Error creating new order :: Domain name {name:?} is redundant with a wildcard domain in the same request. \
         Remove one or the other from the certificate request."
    );
    let body = json!({"type": "urn:ietf:params:acme:error:malformed", "detail": detail, "status": 400});
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))]);
    Answer { status: StatusCode::BAD_REQUEST, headers, body: body.to_string().into() }
}

const RECORD_DELAY: Duration = Duration::from_millis(150);
