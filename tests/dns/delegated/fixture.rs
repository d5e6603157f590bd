//! A name server on loopback whose contents a test sets.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autocertd::config::dns::DelegatedSection;
use autocertd::dns::delegated::{DnsSockets, NameContents, NameServer, ZoneContents};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) const NAME: &str = "_acme-challenge.www.acme.example.net.";

pub(super) struct Fixture {
    contents: Arc<TestContents>,
    address: SocketAddr,
    _running: DropGuard,
}

#[derive(Clone, Copy, Debug, Default)]
enum ContentsMode {
    #[default]
    Working,
    Broken,
    Hanging,
}

#[derive(Default)]
struct TestContents {
    values: Mutex<BTreeMap<String, Vec<String>>>,
    mode: Mutex<ContentsMode>,
    active_lookups: AtomicUsize,
    max_active_lookups: AtomicUsize,
}

struct SharedContents(Arc<TestContents>);

impl ZoneContents for SharedContents {
    type Error = io::Error;

    async fn at(&self, name: &str) -> Result<NameContents, io::Error> {
        let looking = self.0.active_lookups.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.max_active_lookups.fetch_max(looking, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.0.active_lookups.fetch_sub(1, Ordering::SeqCst);
        let mood = *self.0.mode.lock().unwrap();
        match mood {
            ContentsMode::Working => {}
            ContentsMode::Broken => return Err(io::Error::other("the disk is gone")),
            ContentsMode::Hanging => std::future::pending().await,
        }
        let values = self.0.values.lock().unwrap();
        let below = format!(".{name}");
        Ok(match values.get(name) {
            Some(values) => NameContents::Values(values.clone()),
            None if values.keys().any(|held| held.ends_with(&below)) => NameContents::EmptyNonTerminal,
            None => NameContents::NoSuchName,
        })
    }
}

/// The section with these further settings.
pub(super) fn section(more: &str) -> DelegatedSection {
    let zone = "zone = 'acme.example.net'\nnameservers = ['ns1.example.net', 'ns2.example.net']\n";
    toml::from_str(&format!("{zone}{more}")).unwrap()
}

impl Fixture {
    pub(super) fn start() -> Self {
        Self::at("127.0.0.1", "")
    }

    pub(super) fn at(ip: &str, more: &str) -> Self {
        crate::log::Log::shared();
        // A port that is free on TCP may be taken on UDP, or by somebody who is faster: another one is tried then.
        let bound = (0..50).find_map(|_| {
            let port = free_port(ip);
            let section = section(&format!("listen = ['{ip}:{port}']\n{more}"));
            DnsSockets::bind_all(&section).ok().flatten().map(|sockets| (section, sockets, port))
        });
        let (section, sockets, port) = bound.unwrap();
        assert_eq!(sockets.addresses(), [format!("{ip}:{port}").parse().unwrap()]);
        let contents = Arc::new(TestContents::default());
        let server = NameServer::new(&section, sockets, SharedContents(Arc::clone(&contents))).unwrap();
        let stopping = CancellationToken::new();
        tokio::spawn(server.run(stopping.clone()));
        let address = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
        Self { contents, address, _running: stopping.drop_guard() }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn set_values(&self, name: &str, values: &[&str]) {
        let values = values.iter().map(ToString::to_string).collect();
        self.contents.values.lock().unwrap().insert(name.trim_end_matches('.').to_owned(), values);
    }

    pub(super) fn clear(&self) {
        self.contents.values.lock().unwrap().clear();
    }

    pub(super) fn fail_lookups(&self) {
        *self.contents.mode.lock().unwrap() = ContentsMode::Broken;
    }

    pub(super) fn hang_lookups(&self) {
        *self.contents.mode.lock().unwrap() = ContentsMode::Hanging;
    }

    pub(super) fn recover(&self) {
        *self.contents.mode.lock().unwrap() = ContentsMode::Working;
    }

    /// How many looks at the contents there were at once.
    pub(super) fn max_active_lookups(&self) -> usize {
        self.contents.max_active_lookups.load(Ordering::SeqCst)
    }

    /// A client at a loopback address of its own.
    pub(super) async fn client(&self, ip: &str) -> UdpSocket {
        let client = UdpSocket::bind((ip, 0)).await.unwrap();
        client.connect(self.address).await.unwrap();
        client
    }

    pub(super) async fn udp(&self, question: &Message) -> Message {
        let answer = self.udp_bytes(&question.to_vec().unwrap()).await;
        assert_eq!(answer.id, question.id);
        answer
    }

    pub(super) async fn udp_bytes(&self, question: &[u8]) -> Message {
        let client = self.client("127.0.0.1").await;
        client.send(question).await.unwrap();
        receive(&client).await
    }

    pub(super) async fn tcp(&self, question: &Message) -> Message {
        let mut connection = self.connect().await;
        ask(&mut connection, question).await.unwrap()
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// A port that is free on TCP for now: the caller tries another one where somebody else was faster.
fn free_port(ip: &str) -> u16 {
    let ip: IpAddr = ip.trim_matches(['[', ']']).parse().unwrap();
    let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Asks over a connection; an error where that is closed.
pub(super) async fn ask(connection: &mut TcpStream, question: &Message) -> io::Result<Message> {
    let question = question.to_vec().unwrap();
    let length = u16::try_from(question.len()).unwrap();
    connection.write_all(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
    let mut answer = vec![0; usize::from(connection.read_u16().await?)];
    connection.read_exact(&mut answer).await?;
    Ok(Message::from_vec(&answer).unwrap())
}

pub(super) async fn receive(client: &UdpSocket) -> Message {
    let mut buffer = vec![0; 65_535];
    let length = tokio::time::timeout(RECEIVE_TIMEOUT, client.recv(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

pub(super) fn question(name: &str, kind: RecordType) -> Message {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let id = u16::try_from(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap();
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// The values of the TXT records, sorted.
pub(super) fn values(answer: &Message) -> Vec<String> {
    let txt = answer.answers.iter().filter_map(|record| match &record.data {
        RData::TXT(txt) => Some(txt.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect::<String>()),
        _ => None,
    });
    let mut values: Vec<String> = txt.collect();
    values.sort();
    values
}

const RECEIVE_TIMEOUT: Duration = Duration::from_secs(20);
