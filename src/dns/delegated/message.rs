//! Messages: what is read of a question, and how an answer is written.

use std::net::SocketAddr;

use hickory_net::xfer::Protocol;
use hickory_proto::op::{Edns, LowerQuery, Message, Metadata, OpCode, ResponseCode};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::server::Request;
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::dns::delegated::zone::ZoneAnswer;

/// What a packet is.
pub(super) enum Packet {
    /// A question.
    Question(Box<ReceivedQuestion>),
    /// Something that is answered with an error, here in full.
    Malformed(Vec<u8>),
    /// No request at all. An answer to it might go round for ever.
    Ignored,
}

/// A message with exactly one question.
pub(super) struct ReceivedQuestion {
    request: Request,
    query: LowerQuery,
}

/// Reads a packet.
pub(super) fn parse_packet(bytes: Vec<u8>, from: SocketAddr, protocol: Protocol) -> Packet {
    let Some(header) = bytes.first_chunk::<HEADER_LENGTH>() else { return Packet::Ignored };
    let (id, flags, questions) = ([header[0], header[1]], header[2], [header[4], header[5]]);
    if flags & RESPONSE_FLAG != 0 || from.port() == 0 {
        return Packet::Ignored;
    }
    let op_code = OpCode::from_u8(flags >> 3 & 0x0f);
    let fault = |code| {
        let message = Message::error_msg(u16::from_be_bytes(id), op_code, code);
        message.to_vec().map_or(Packet::Ignored, Packet::Malformed)
    };
    if op_code != OpCode::Query {
        return fault(ResponseCode::NotImp);
    }
    // Counted before anything is read: room is made for as many as the header promises.
    if u16::from_be_bytes(questions) != 1 {
        return fault(ResponseCode::FormErr);
    }
    let Ok(request) = Request::from_bytes(bytes, from, protocol) else { return fault(ResponseCode::FormErr) };
    match request.queries.queries() {
        [query] => Packet::Question(Box::new(ReceivedQuestion { query: query.clone(), request })),
        _ => fault(ResponseCode::FormErr),
    }
}

impl ReceivedQuestion {
    /// What is asked.
    pub(super) const fn query(&self) -> &LowerQuery {
        &self.query
    }

    /// Whether it speaks a version of EDNS that we know (RFC 6891 section 6.1.3).
    pub(super) fn has_known_edns_version(&self) -> bool {
        self.request.version() == 0
    }

    /// The answer as a message; one that does not fit is left to TCP. None where it cannot be written at all.
    pub(super) fn encode_answer(&self, answer: &ZoneAnswer) -> Option<Vec<u8>> {
        let whole = self.encode(answer).filter(|(_, truncated)| *truncated == answer.truncated);
        whole
            .or_else(|| self.encode(&ZoneAnswer { code: answer.code, ..ZoneAnswer::retry_over_tcp() }))
            .map(|(bytes, _)| bytes)
    }

    /// The message, and whether it is not the whole answer.
    fn encode(&self, answer: &ZoneAnswer) -> Option<(Vec<u8>, bool)> {
        let mut metadata = Metadata::response_from_request(&self.request.metadata);
        metadata.response_code = answer.code;
        metadata.authoritative = answer.authoritative;
        metadata.truncation = answer.truncated;
        let edns = self.request.edns.as_ref().map(answer_edns);
        let mut builder = MessageResponseBuilder::from_message_request(&self.request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let mut bytes = Vec::with_capacity(usize::from(MIN_PAYLOAD));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.max_answer_size());
        let response = builder.build(metadata, &answer.answers, &answer.authorities, [], []);
        let truncated = response.destructive_emit(&mut encoder).ok()?.truncation;
        Some((bytes, truncated))
    }

    fn max_answer_size(&self) -> u16 {
        match self.request.protocol() {
            Protocol::Udp if self.request.edns.is_none() => MIN_PAYLOAD,
            Protocol::Udp => self.request.max_payload().min(MAX_PAYLOAD),
            _ => u16::MAX,
        }
    }
}

/// A question with EDNS has an answer with EDNS, of our version and without options.
fn answer_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_version(0).set_max_payload(MAX_PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

/// Bytes (RFC 1035 section 4.1.1).
const HEADER_LENGTH: usize = 12;
const RESPONSE_FLAG: u8 = 0x80;
/// Bytes that everybody takes (RFC 1035 section 4.2.1).
const MIN_PAYLOAD: u16 = 512;
/// Bytes that pass every usual network in one piece (DNS flag day 2020).
const MAX_PAYLOAD: u16 = 1_232;
