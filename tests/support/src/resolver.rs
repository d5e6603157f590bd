//! A recursive resolver that remembers: what an upstream server says, also that there is nothing (RFC 2308), it goes on
//! saying until its time is over. It answers over UDP, and over HTTP at `/dns-query` (RFC 8484). Dropping it ends it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::RData;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

/// A running resolver.
pub struct CachingResolver {
    state: Arc<ResolverState>,
    dns: SocketAddr,
    http: SocketAddr,
    _serving: JoinSet<()>,
}

struct ResolverState {
    upstream: SocketAddr,
    cache: Mutex<HashMap<Query, (Instant, Message)>>,
    queries: Mutex<Vec<Query>>,
    dnssec_verdicts: Mutex<HashMap<String, bool>>,
}

impl CachingResolver {
    /// Starts one on free loopback ports that asks only `upstream`.
    ///
    /// # Errors
    /// Where no port can be bound.
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let memory = Arc::new(ResolverState {
            upstream,
            cache: Mutex::default(),
            queries: Mutex::default(),
            dnssec_verdicts: Mutex::default(),
        });
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding a resolver")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding a resolver")?;
        let (dns, http) = (socket.local_addr()?, listener.local_addr()?);
        let mut serving = JoinSet::new();
        serving.spawn(serve(socket, Arc::clone(&memory)));
        let by_http = Arc::clone(&memory);
        let router = Router::new().route("/dns-query", post(move |body| answer_http(by_http, body)));
        serving.spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Ok(Self { state: memory, dns, http, _serving: serving })
    }

    /// Its address on UDP.
    pub const fn addr(&self) -> SocketAddr {
        self.dns
    }

    /// Where it takes questions over HTTP.
    pub fn url(&self) -> String {
        format!("http://{}/dns-query", self.http)
    }

    /// Lets it find by DNSSEC that what it hears of a name, in absolute form, is genuine or forged.
    pub fn set_dnssec_verdict(&self, name: &str, genuine: bool) {
        self.state.dnssec_verdicts.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), genuine);
    }

    /// How often it was asked for a name, in absolute form.
    pub fn query_count(&self, name: &str) -> usize {
        let asked = self.state.queries.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|query| query.name.to_ascii().eq_ignore_ascii_case(name)).count()
    }
}

async fn serve(socket: UdpSocket, memory: Arc<ResolverState>) {
    let socket = Arc::new(socket);
    let mut packet = vec![0; MAX_PACKET_SIZE];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut packet).await else { continue };
        let (question, socket, memory) = (packet[..length].to_vec(), Arc::clone(&socket), Arc::clone(&memory));
        tokio::spawn(async move {
            if let Some(answer) = memory.answer(&question).await {
                // An asker that has gone misses nothing.
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
}

async fn answer_http(memory: Arc<ResolverState>, question: Bytes) -> axum::response::Response {
    match memory.answer(&question).await {
        Some(answer) => ([(CONTENT_TYPE, "application/dns-message")], answer).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

impl ResolverState {
    /// The answer to a packet; `None` where that is no question or upstream says nothing.
    async fn answer(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let asked = Message::from_vec(packet).ok()?;
        let query = asked.queries.first()?.clone();
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).push(query.clone());
        let mut answer = match self.cached(&query) {
            Some(answer) => answer,
            None => self.fetch(&query, packet).await?,
        };
        answer.metadata.id = asked.metadata.id;
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.authoritative = false;
        answer.metadata.recursion_available = true;
        let judged =
            self.dnssec_verdicts.lock().unwrap_or_else(PoisonError::into_inner).get(&query.name.to_ascii()).copied();
        answer.metadata.authentic_data = judged == Some(true);
        if judged == Some(false) && !asked.metadata.checking_disabled {
            answer = answer.truncate();
            answer.metadata.truncation = false;
            answer.metadata.response_code = ResponseCode::ServFail;
        }
        answer.to_vec().ok()
    }

    /// What it has heard before, with the time that is left for it.
    fn cached(&self, query: &Query) -> Option<Message> {
        let kept = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let (heard, answer) = kept.get(query)?;
        let age = heard.elapsed();
        let left = cache_lifetime(answer).checked_sub(age).filter(|left| !left.is_zero())?;
        let mut answer = answer.clone();
        let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        for record in answer.answers.iter_mut().chain(&mut answer.authorities) {
            record.ttl = seconds;
        }
        Some(answer)
    }

    async fn fetch(&self, query: &Query, packet: &[u8]) -> Option<Message> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
        socket.connect(self.upstream).await.ok()?;
        socket.send(packet).await.ok()?;
        let mut answer = vec![0; MAX_PACKET_SIZE];
        let length = socket.recv(&mut answer).await.ok()?;
        let answer = Message::from_vec(&answer[..length]).ok()?;
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(query.clone(), (Instant::now(), answer.clone()));
        Some(answer)
    }
}

/// How long an answer may be remembered.
fn cache_lifetime(answer: &Message) -> Duration {
    let denial = answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let seconds = answer.answers.iter().map(|record| record.ttl).min().or(denial);
    Duration::from_secs(seconds.unwrap_or(0).into())
}

const MAX_PACKET_SIZE: usize = 4_096;
