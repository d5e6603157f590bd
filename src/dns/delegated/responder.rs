//! From a packet to its answer, whatever the transport.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_net::xfer::Protocol;
use hickory_proto::op::{LowerQuery, ResponseCode};
use hickory_proto::rr::Name;
use tokio::sync::Semaphore;

use crate::dns::delegated::message::{Packet, ReceivedQuestion, parse_packet};
use crate::dns::delegated::zone::{DelegatedZone, ZoneAnswer};
use crate::dns::delegated::{NameContents, ZoneContents};

/// Answers questions.
pub(super) struct Responder<C> {
    zone: DelegatedZone,
    contents: C,
    /// Leaves the database to others in a flood.
    lookup_permits: Semaphore,
    /// Whether the last look failed, so that the log tells it once.
    is_failing: AtomicBool,
}

impl<C: ZoneContents> Responder<C> {
    pub(super) const fn new(zone: DelegatedZone, contents: C) -> Self {
        Self {
            zone,
            contents,
            lookup_permits: Semaphore::const_new(MAX_CONCURRENT_LOOKUPS),
            is_failing: AtomicBool::new(false),
        }
    }

    /// The answer to a packet; none where it deserves none.
    pub(super) async fn reply(&self, packet: Vec<u8>, from: SocketAddr, protocol: Protocol) -> Option<Vec<u8>> {
        match parse_packet(packet, from, protocol) {
            Packet::Question(question) => question.encode_answer(&self.answer(&question).await),
            Packet::Malformed(error) => Some(error),
            Packet::Ignored => None,
        }
    }

    /// The answer to a packet of those who ask too much: the word to come back over TCP.
    pub(super) fn reply_throttled(&self, packet: Vec<u8>, from: SocketAddr) -> Option<Vec<u8>> {
        match parse_packet(packet, from, Protocol::Udp) {
            Packet::Question(question) if self.zone.is_out_of_zone(question.query()) => {
                question.encode_answer(&ZoneAnswer::from_code(ResponseCode::Refused))
            }
            Packet::Question(question) => question.encode_answer(&ZoneAnswer::retry_over_tcp()),
            Packet::Malformed(_) | Packet::Ignored => None,
        }
    }

    async fn answer(&self, question: &ReceivedQuestion) -> ZoneAnswer {
        if !question.has_known_edns_version() {
            return ZoneAnswer::from_code(ResponseCode::BADVERS);
        }
        let query = question.query();
        if let Some(answer) = self.zone.answer_static(query) {
            return answer;
        }
        match self.load_contents(query).await {
            Ok(held) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the records of the delegated zone can be read again");
                }
                self.zone.answer_from_contents(query, held)
            }
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        error,
                        "the records of the delegated zone cannot be read; questions are answered SERVFAIL until they can"
                    );
                }
                ZoneAnswer::from_code(ResponseCode::ServFail)
            }
        }
    }

    async fn load_contents(&self, query: &LowerQuery) -> Result<NameContents, Box<dyn Error + Send + Sync>> {
        let name = Name::from(query.name()).to_ascii();
        let look = async {
            let _turn = self.lookup_permits.acquire().await?;
            Ok(self.contents.at(name.trim_end_matches('.')).await?)
        };
        tokio::time::timeout(LOOKUP_TIMEOUT, look).await?
    }
}

/// Half of the database connections that there are by default.
const MAX_CONCURRENT_LOOKUPS: usize = 2;
/// Resolvers give up after some seconds, and ask again where they hear that it failed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
