//! Questions to a name server over TCP.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One question and its answer.
pub(super) async fn query(server: SocketAddr, name: &str, kind: RecordType) -> anyhow::Result<Message> {
    read(&mut ask(server, name, kind).await?).await
}

/// All records of a zone (RFC 5936), which may come in several messages: the SOA record is the first and the last one.
pub(super) async fn transfer(server: SocketAddr, zone: &str) -> anyhow::Result<Vec<Record>> {
    let mut connection = ask(server, zone, RecordType::AXFR).await?;
    let mut records: Vec<Record> = Vec::new();
    while records.iter().filter(|record| matches!(record.data, RData::SOA(_))).count() < 2 {
        let message = read(&mut connection).await?;
        if message.response_code != ResponseCode::NoError || message.answers.is_empty() {
            bail!("the transfer of {zone} was answered with {}", message.response_code);
        }
        records.extend(message.answers);
    }
    Ok(records)
}

/// In lower case, without the final dot.
pub(super) fn relative_name(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_lowercase()
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> anyhow::Result<TcpStream> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(format!("{name}."))?, kind));
    let bytes = message.to_vec()?;
    let mut connection = TcpStream::connect(server).await?;
    connection.write_all(&[&u16::try_from(bytes.len())?.to_be_bytes(), bytes.as_slice()].concat()).await?;
    Ok(connection)
}

async fn read(connection: &mut TcpStream) -> anyhow::Result<Message> {
    let mut bytes = vec![0; connection.read_u16().await.context("no answer")?.into()];
    connection.read_exact(&mut bytes).await?;
    Ok(Message::from_vec(&bytes)?)
}
