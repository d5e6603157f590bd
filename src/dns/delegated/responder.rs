//! From a packet to its answer, whatever the transport.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_net::xfer::Protocol;
use hickory_proto::op::{LowerQuery, ResponseCode};
use hickory_proto::rr::Name;
use tokio::sync::Semaphore;

use crate::dns::delegated::message::{Packet, ReceivedQuestion, read};
use crate::dns::delegated::zone::{ZoneAnswer, OwnZone};
use crate::dns::delegated::{ZoneContents, NameContents};

/// Answers questions.
pub(super) struct Responder<C> {
    zone: OwnZone,
    contents: C,
    /// Leaves the database to others in a flood.
    looks: Semaphore,
    /// Whether the last look failed, so that the log tells it once.
    failing: AtomicBool,
}

impl<C: ZoneContents> Responder<C> {
    pub(super) const fn new(zone: OwnZone, contents: C) -> Self {
        Self { zone, contents, looks: Semaphore::const_new(LOOKS_AT_ONCE), failing: AtomicBool::new(false) }
    }

    /// The answer to a packet; none where it deserves none.
    pub(super) async fn reply(&self, packet: Vec<u8>, from: SocketAddr, protocol: Protocol) -> Option<Vec<u8>> {
        match read(packet, from, protocol) {
            Packet::Question(question) => question.answer(&self.answer(&question).await),
            Packet::Faulty(error) => Some(error),
            Packet::Noise => None,
        }
    }

    /// The answer to a packet of those who ask too much: the word to come back over TCP.
    pub(super) fn put_off(&self, packet: Vec<u8>, from: SocketAddr) -> Option<Vec<u8>> {
        match read(packet, from, Protocol::Udp) {
            Packet::Question(question) if self.zone.is_foreign(question.query()) => {
                question.answer(&ZoneAnswer::code(ResponseCode::Refused))
            }
            Packet::Question(question) => question.answer(&ZoneAnswer::elsewhere()),
            Packet::Faulty(_) | Packet::Noise => None,
        }
    }

    async fn answer(&self, question: &ReceivedQuestion) -> ZoneAnswer {
        if !question.is_of_known_version() {
            return ZoneAnswer::code(ResponseCode::BADVERS);
        }
        let query = question.query();
        if let Some(answer) = self.zone.answer_of_itself(query) {
            return answer;
        }
        match self.look(query).await {
            Ok(held) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the records of the delegated zone can be read again");
                }
                self.zone.answer(query, held)
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        error,
                        "the records of the delegated zone cannot be read; questions are answered SERVFAIL until they can"
                    );
                }
                ZoneAnswer::code(ResponseCode::ServFail)
            }
        }
    }

    async fn look(&self, query: &LowerQuery) -> Result<NameContents, Box<dyn Error + Send + Sync>> {
        let name = Name::from(query.name()).to_ascii();
        let look = async {
            let _turn = self.looks.acquire().await?;
            Ok(self.contents.at(name.trim_end_matches('.')).await?)
        };
        tokio::time::timeout(LONGEST_LOOK, look).await?
    }
}

/// Half of the database connections that there are by default.
const LOOKS_AT_ONCE: usize = 2;
/// Resolvers give up after some seconds, and ask again where they hear that it failed.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
