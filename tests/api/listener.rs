//! Clients that misbehave: they connect and say nothing, send half of a request, do not read what they asked for, or come
//! in masses. None of them keeps others from being served, and each is closed in time.

use std::sync::Arc;
use std::time::Duration;

use autocertd::http::request_layers::with_request_layers;
use autocertd::http::{ConnectionLimits, serve};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fixture::{Fixture, TestResponse};

/// As short as a busy machine bears.
fn short_limits() -> ConnectionLimits {
    ConnectionLimits {
        head_timeout: Duration::from_millis(600),
        body: Duration::from_millis(1_200),
        stall_timeout: Duration::from_millis(600),
        idle_timeout: Duration::from_millis(1_200),
        queue_timeout: WAIT_TIMEOUT,
        stop_grace: Duration::from_secs(1),
        ..ConnectionLimits::default()
    }
}

#[tokio::test]
async fn whoever_sends_nothing_half_a_head_or_an_http2_preface_alone_is_closed() {
    let server = ServerFixture::start(short_limits()).await;
    for opening in [&b""[..], b"GET /healthz HTTP/1.1\r\nHost: a", b"PRI * HTT", HTTP2_PREFACE] {
        let begun = Instant::now();
        let mut stream = server.connect().await;
        stream.write_all(opening).await.unwrap();
        read_to_end(&mut stream).await;
        assert!(begun.elapsed() >= short_limits().head_timeout, "{opening:?}");
    }
    // A byte now and then is no progress.
    let mut trickling = server.connect().await;
    let begun = Instant::now();
    while trickling.write_all(b"G").await.is_ok() {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "a head that trickles holds the connection");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_connection_may_be_used_again_and_is_closed_when_idle() {
    let server = ServerFixture::start(short_limits()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        let answer = server.send_request(&mut stream, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        tokio::time::sleep(short_limits().head_timeout / 2).await;
    }
    read_to_end(&mut stream).await;

    let mut half = server.connect().await;
    server.send_request(&mut half, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    half.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    read_to_end(&mut half).await;
}

#[tokio::test]
async fn a_body_that_stops_or_trickles_is_a_408() {
    let server = ServerFixture::start(short_limits()).await;
    for pause in [WAIT_TIMEOUT, Duration::from_millis(200)] {
        let mut stream = server.connect().await;
        let head = format!(
            "POST /providers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: 1000\r\n\r\n{{",
            server.fixture.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let trickle = tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                if writing.write_all(b" ").await.is_err() {
                    return;
                }
            }
        });
        let mut answer = Vec::new();
        // The rest of the body may come after the end.
        let _ = timeout(WAIT_TIMEOUT, reading.read_to_end(&mut answer)).await.unwrap();
        trickle.abort();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("autocertd-timeout-2"), "{pause:?}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_over_http1_and_http2() {
    let server = ServerFixture::start(short_limits()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    server.wait_until_something_runs(1).await;
    server.wait_until_nothing_runs().await;

    // Over HTTP/2 the windows are left at their initial 64 KiB: 20 streams stall.
    let mut stream = server.connect().await;
    stream.write_all(&http2_requests("/endless", 20)).await.unwrap();
    server.wait_until_something_runs(20).await;
    read_to_end(&mut stream).await;
    server.wait_until_nothing_runs().await;

    // Without any window nothing at all may be sent.
    let mut stream = server.connect().await;
    let mut opening = HTTP2_PREFACE.to_vec();
    opening.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    opening.extend(&http2_requests("/endless", 20)[HTTP2_PREFACE.len()..]);
    stream.write_all(&opening).await.unwrap();
    server.wait_until_something_runs(20).await;
    read_to_end(&mut stream).await;
    server.wait_until_nothing_runs().await;
}

#[tokio::test]
async fn a_slow_reader_that_goes_on_reading_gets_all_of_it() {
    let server = ServerFixture::start(short_limits()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let (mut received, mut buffer) = (0, vec![0; 1024 * 1024]);
    loop {
        let length = timeout(WAIT_TIMEOUT, stream.read(&mut buffer)).await.unwrap().unwrap();
        if length == 0 {
            break;
        }
        received += length;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(received > LONG, "{received}");
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_nothing_else() {
    let server = ServerFixture::start(ConnectionLimits::default()).await;
    let mut stream = server.connect().await;
    let mut flood = http2_requests("/endless", 0);
    for number in 0..5_000_u32 {
        let id = number * 2 + 1;
        flood.extend(request_frame("/endless", id));
        flood.extend(frame(RST_STREAM, 0, id, &[0, 0, 0, 8]));
    }
    let _ = timeout(WAIT_TIMEOUT, stream.write_all(&flood)).await.expect("the flood is taken or refused");
    read_to_end(&mut stream).await;
    server.wait_until_nothing_runs().await;
    assert_eq!(server.healthz().await, 200);
}

#[tokio::test]
async fn floods_of_headers_settings_and_pings_end_the_connection_and_nothing_else() {
    let server = ServerFixture::start(short_limits()).await;
    let mut long = server.connect().await;
    let _ = long.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n").await;
    let line = format!("X-Filler: {}\r\n", "a".repeat(1_000));
    let begun = Instant::now();
    while long.write_all(line.as_bytes()).await.is_ok() {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "a head without an end is read for ever");
    }
    for flooding in [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[0; 8]), frame(CONTINUATION, 0, 1, &[0; 100])] {
        let mut stream = server.connect().await;
        stream.write_all(HTTP2_PREFACE).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        let many = flooding.repeat(100);
        let begun = Instant::now();
        while let Ok(Ok(())) = timeout(WAIT_TIMEOUT, stream.write_all(&many)).await {
            assert!(begun.elapsed() < WAIT_TIMEOUT, "a flood goes on for ever");
        }
    }
    assert_eq!(server.healthz().await, 200);
}

#[tokio::test]
async fn at_the_cap_idle_strangers_make_room_and_who_has_authenticated_stays() {
    let limits = ConnectionLimits { max_connections: 8, max_per_network: 8, ..ConnectionLimits::default() };
    let server = ServerFixture::start(limits).await;
    let mut known = server.connect().await;
    let request =
        format!("GET /providers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", server.fixture.reader);
    assert!(server.send_request(&mut known, &request).await.starts_with("HTTP/1.1 200"));
    let mut strangers = Vec::new();
    for _ in 0..40 {
        strangers.push(server.connect().await);
        assert_eq!(server.healthz().await, 200);
    }
    for stranger in &mut strangers[..20] {
        read_to_end(stranger).await;
    }
    assert!(server.send_request(&mut known, &request).await.starts_with("HTTP/1.1 200"), "the known one was closed");
}

#[tokio::test]
async fn one_network_cannot_take_every_place() {
    let limits = ConnectionLimits { max_connections: 64, max_per_network: 4, ..ConnectionLimits::default() };
    let server = ServerFixture::start(limits).await;
    let mut strangers = Vec::new();
    for _ in 0..12 {
        strangers.push(server.connect().await);
        server.healthz().await;
        // A newcomer has some time to send its request.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for stranger in &mut strangers[..6] {
        read_to_end(stranger).await;
    }
}

#[tokio::test]
async fn readers_that_stall_make_room_for_requests_that_wait() {
    let limits = ConnectionLimits { max_requests: 4, ..ConnectionLimits::default() };
    let server = ServerFixture::start(limits).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        stalled.push(stream);
    }
    assert_eq!(timeout(WAIT_TIMEOUT, server.healthz()).await.unwrap(), 200);
}

#[tokio::test]
async fn a_stop_ends_within_its_grace_whatever_clients_hold() {
    let server =
        ServerFixture::start(ConnectionLimits { stop_grace: Duration::from_secs(1), ..ConnectionLimits::default() })
            .await;
    let mut idle = server.connect().await;
    server.send_request(&mut idle, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut held = vec![idle];
    for opening in [&b""[..], b"GET /healthz HTTP/1.1\r\nHost: a", HTTP2_PREFACE] {
        let mut stream = server.connect().await;
        stream.write_all(opening).await.unwrap();
        held.push(stream);
    }
    server.healthz().await;
    // Where nothing runs, nothing is waited for.
    let begun = Instant::now();
    let server = server.stop().await;
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());

    let server = server.restart().await;
    let mut stalled = [server.connect().await, server.connect().await];
    stalled[0].write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stalled[1].write_all(&http2_requests("/endless", 20)).await.unwrap();
    server.wait_until_something_runs(21).await;
    let begun = Instant::now();
    let server = server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.wait_until_nothing_runs().await;
}

#[tokio::test]
async fn a_panic_ends_its_connection_alone() {
    let server = ServerFixture::start(ConnectionLimits::default()).await;
    let mut stream = server.connect().await;
    let answer = server.send_request(&mut stream, "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    let mut stream = server.connect().await;
    stream.write_all(b"GET /panic-later HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_to_end(&mut stream).await;
    assert_eq!(server.healthz().await, 200);
}

/// A server with the API and some operations that no real one has.
struct ServerFixture {
    fixture: Fixture,
    limits: ConnectionLimits,
    address: std::net::SocketAddr,
    /// A reference for each body of `/endless`.
    endless: Arc<()>,
    stopping: CancellationToken,
    serving: Option<tokio::task::JoinHandle<()>>,
    _end: DropGuard,
}

impl ServerFixture {
    async fn start(limits: ConnectionLimits) -> Self {
        Self::from_fixture(Fixture::start().await, limits).await
    }

    async fn from_fixture(daemon: Fixture, limits: ConnectionLimits) -> Self {
        let endless = Arc::new(());
        let held = Arc::clone(&endless);
        let operations = Router::new()
            .route("/endless", get(async move || parts(Arc::clone(&held), usize::MAX)))
            .route("/long", get(async || parts(Arc::default(), LONG / PART.len() + 1)))
            .route("/panic", get(async || -> &str { panic!("as the test wants it") }))
            .route(
                "/panic-later",
                get(async || {
                    let broken = futures_util::stream::once(async { panic!("as the test wants it") });
                    Body::from_stream(futures_util::StreamExt::map(broken, |()| Ok::<_, std::io::Error>(Bytes::new())))
                }),
            );
        let router = daemon.api.clone().router().merge(with_request_layers(operations, daemon.api.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let serving = Some(tokio::spawn(serve(listener, router, limits, stopping.clone())));
        let end = stopping.clone().drop_guard();
        Self { fixture: daemon, limits, address, endless, stopping, serving, _end: end }
    }

    async fn connect(&self) -> TcpStream {
        timeout(WAIT_TIMEOUT, TcpStream::connect(self.address)).await.unwrap().unwrap()
    }

    /// Sends a request, and reads one response with a short body.
    async fn send_request(&self, stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4_096];
        while !is_whole(&answer) {
            let length = timeout(WAIT_TIMEOUT, stream.read(&mut buffer)).await.unwrap().unwrap();
            assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
            answer.extend(&buffer[..length]);
        }
        String::from_utf8(answer).unwrap()
    }

    /// What a new client is answered.
    async fn healthz(&self) -> u16 {
        let client = autocertd_support::timed::http().build().unwrap();
        TestResponse::from_request(client.get(format!("http://{}/healthz", self.address))).await.status
    }

    async fn wait_until_something_runs(&self, count: usize) {
        self.wait_for(|running| running >= count).await;
    }

    async fn wait_until_nothing_runs(&self) {
        self.wait_for(|running| running == 0).await;
    }

    async fn wait_for(&self, reached: impl Fn(usize) -> bool) {
        let begun = Instant::now();
        // Two belong to the server itself.
        while !reached(Arc::strong_count(&self.endless).saturating_sub(self.own_references())) {
            assert!(begun.elapsed() < WAIT_TIMEOUT, "{} responses run", Arc::strong_count(&self.endless));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn own_references(&self) -> usize {
        if self.serving.is_some() { 2 } else { 1 }
    }

    async fn stop(mut self) -> Self {
        self.stopping.cancel();
        timeout(WAIT_TIMEOUT, self.serving.take().unwrap()).await.unwrap().unwrap();
        self
    }

    async fn restart(self) -> Self {
        Self::from_fixture(self.fixture, self.limits).await
    }
}

fn parts(held: Arc<()>, count: usize) -> Body {
    let parts = futures_util::stream::unfold((held, count), async |(held, left)| {
        let left = left.checked_sub(1)?;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(&PART)), (held, left)))
    });
    Body::from_stream(parts)
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    length.is_none_or(|length: usize| body.len() >= length)
}

/// Waits until the server closes the connection; what it says on the way is passed over.
async fn read_to_end(stream: &mut TcpStream) {
    let mut said = Vec::new();
    // A reset is an end as well.
    let _ = timeout(WAIT_TIMEOUT, stream.read_to_end(&mut said)).await.expect("the server closes the connection");
}

fn http2_requests(path: &str, count: u32) -> Vec<u8> {
    let mut bytes = HTTP2_PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    for number in 0..count {
        bytes.extend(request_frame(path, number * 2 + 1));
    }
    bytes
}

/// HEADERS with `END_STREAM` and `END_HEADERS`: `:method GET` and `:scheme http` of the static table, `:path` and
/// `:authority` as literals (RFC 7541 section 6.2.2).
fn request_frame(path: &str, stream: u32) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x01, 1, b'a']);
    frame(HEADERS, 0x5, stream, &block)
}

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
static PART: [u8; 64 * 1024] = [b'x'; 64 * 1024];
const LONG: usize = 16 * 1024 * 1024;
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);
