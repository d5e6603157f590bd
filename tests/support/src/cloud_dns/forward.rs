//! What a resolver does with names that others hold: it asks them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The name server `address` holds all names at and below `suffix`.
pub(super) struct ForwardedZone {
    pub(super) suffix: String,
    pub(super) address: SocketAddr,
}

impl ForwardedZone {
    pub(super) fn contains(&self, name: &str) -> bool {
        name.strip_suffix(&self.suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

/// Asks a name server over TCP, without wishing for recursion.
pub(super) async fn ask(address: SocketAddr, name: &str, kind: RecordType) -> anyhow::Result<Message> {
    let mut question = Message::new(1, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(format!("{name}."))?, kind));
    let question = question.to_vec()?;
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&[&u16::try_from(question.len())?.to_be_bytes(), question.as_slice()].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = Message::from_vec(&tokio::time::timeout(TIMEOUT, exchange).await??)?;
    ensure!(answer.authoritative, "{address} has no authority for {name}");
    Ok(answer)
}

const TIMEOUT: Duration = Duration::from_secs(5);
