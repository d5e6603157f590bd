//! The wait until resolvers show what was published. A resolver remembers that something was not there (RFC 2308), so that
//! an early "no" says nothing: it is waited out before the resolver is asked again, and before it is believed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::time::{Instant, sleep_until};

use super::evidence::{Evidence, shortfall};
use crate::config::span::Span;
use crate::dns::error::LaggingNameserver;
use crate::dns::question::DnsReply;
use crate::dns::server::Server;

/// A resolver that has not shown all values yet.
pub(super) struct LaggingResolver {
    server: Arc<Server>,
    /// What it answered when it was last asked.
    answered: String,
    /// Until then it may go on giving the same answer.
    remembers_until: Instant,
}

impl LaggingResolver {
    /// A resolver that was not asked yet.
    pub(super) fn for_resolver(server: Arc<Server>) -> Self {
        Self { server, answered: "was not asked".to_owned(), remembers_until: Instant::now() }
    }

    /// How it lags.
    pub(super) fn lag(&self) -> LaggingNameserver {
        let left = self.remembers_until.saturating_duration_since(Instant::now()).as_secs();
        let may_go_on =
            if left == 0 { String::new() } else { format!(", and may go on so for {}", Span::seconds(left)) };
        LaggingNameserver { server: self.server.to_string(), answered: format!("{}{may_go_on}", self.answered) }
    }

    /// Asks it where it can have something new to say; `None` where it shows all.
    async fn ask(self, evidence: &Evidence) -> Option<Self> {
        if Instant::now() < self.remembers_until {
            return Some(self);
        }
        let (answered, memory) = match self.server.ask(&evidence.question, LONGEST_ANSWER).await {
            Err(fault) => (fault.to_string(), Duration::ZERO),
            Ok(reply) => (shortfall(&reply, evidence)?, memory(&reply)),
        };
        Some(Self { answered, remembers_until: Instant::now() + memory, ..self })
    }
}

/// One look at those that are due; gives those that lag still.
pub(super) async fn look(waiting: Vec<LaggingResolver>, evidence: &Evidence) -> Vec<LaggingResolver> {
    join_all(waiting.into_iter().map(|resolver| resolver.ask(evidence))).await.into_iter().flatten().collect()
}

/// The moment after which the last of these answers may be another one.
pub(super) fn last_memory(waiting: &[LaggingResolver]) -> Option<Instant> {
    waiting.iter().map(|resolver| resolver.remembers_until).max()
}

/// Waits until `pause` is over and one of them may have something new to say, but not beyond `end`.
pub(super) async fn rest(waiting: &[LaggingResolver], pause: Duration, end: Instant) {
    let news = waiting.iter().map(|resolver| resolver.remembers_until).min();
    let next = news.unwrap_or(end).max(Instant::now() + pause);
    sleep_until(next.min(end)).await;
}

/// How long the resolver keeps what it answered. A failure is looked at again soon.
fn memory(reply: &DnsReply) -> Duration {
    match reply.code() {
        ResponseCode::NoError | ResponseCode::NXDomain => match reply.time_to_live(RecordType::TXT) {
            Duration::ZERO => Duration::ZERO,
            // A TTL is in whole seconds, and what is left of one is cut.
            left => left.min(LONGEST_MEMORY) + Duration::from_secs(1),
        },
        _ => Duration::ZERO,
    }
}

/// Nothing is remembered so long that an attempt should wait for it any longer.
const LONGEST_MEMORY: Duration = Duration::from_hours(1);
/// How long a resolver may take over one transport: it may have to find the answer first.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType};
    use hickory_proto::rr::rdata::{SOA, TXT};
    use hickory_proto::rr::{Name, RData, Record};

    use super::*;
    use crate::dns::question::DnsQuestion;

    fn answer(code: ResponseCode, answers: &[(u32, RData)], authorities: &[(u32, RData)]) -> DnsReply {
        let question = DnsQuestion::to_resolver("_acme-challenge.example.com", RecordType::TXT).unwrap();
        let record = |(ttl, data): &(u32, RData)| Record::from_rdata(Name::root(), *ttl, data.clone());
        let mut message: Message = question.message();
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code = code;
        message.insert_answers(answers.iter().map(record).collect());
        message.insert_authorities(authorities.iter().map(record).collect());
        DnsReply::to(&question, message).unwrap()
    }

    fn soa(minimum: u32) -> RData {
        RData::SOA(SOA::new(Name::root(), Name::root(), 1, 3_600, 600, 86_400, minimum))
    }

    #[test]
    fn a_no_is_remembered_as_long_as_the_soa_says_and_an_hour_at_most() {
        let seconds = |code, answers: &[_], authorities: &[_]| memory(&answer(code, answers, authorities)).as_secs();
        assert_eq!(seconds(ResponseCode::NXDomain, &[], &[(300, soa(60))]), 61);
        assert_eq!(seconds(ResponseCode::NoError, &[], &[(30, soa(60))]), 31);
        assert_eq!(seconds(ResponseCode::NXDomain, &[], &[(86_400, soa(86_400))]), 3_601);
        // Without an SOA record it is not remembered (RFC 2308 section 5), and a failure not for long.
        assert_eq!(seconds(ResponseCode::NXDomain, &[], &[]), 0);
        assert_eq!(seconds(ResponseCode::ServFail, &[], &[(300, soa(60))]), 0);
        // Other values than those that are waited for.
        let other = RData::TXT(TXT::new(vec!["other".to_owned()]));
        assert_eq!(seconds(ResponseCode::NoError, &[(120, other)], &[]), 121);
    }
}
