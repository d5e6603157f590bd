//! The wait until resolvers show what was published. A resolver remembers that something was not there (RFC 2308), so that
//! an early "no" says nothing: it is waited out before the resolver is asked again, and before it is believed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::time::{Instant, sleep_until};

use super::expected_values::{ExpectedValues, describe_shortfall};
use crate::config::time_span::TimeSpan;
use crate::dns::error::LaggingNameserver;
use crate::dns::question::DnsReply;
use crate::dns::server::Server;

/// A resolver that has not shown all values yet.
pub(super) struct LaggingResolver {
    server: Arc<Server>,
    /// What it answered when it was last asked.
    answered: String,
    /// Until then it may go on giving the same answer.
    cached_until: Instant,
}

impl LaggingResolver {
    /// A resolver that was not asked yet.
    pub(super) fn for_resolver(server: Arc<Server>) -> Self {
        Self { server, answered: "was not asked".to_owned(), cached_until: Instant::now() }
    }

    /// How it lags.
    pub(super) fn to_lagging(&self) -> LaggingNameserver {
        let left = self.cached_until.saturating_duration_since(Instant::now()).as_secs();
        let may_go_on =
            if left == 0 { String::new() } else { format!(", and may go on so for {}", TimeSpan::seconds(left)) };
        LaggingNameserver { server: self.server.to_string(), answered: format!("{}{may_go_on}", self.answered) }
    }

    /// Asks it where it can have something new to say; `None` where it shows all.
    async fn recheck(self, evidence: &ExpectedValues) -> Option<Self> {
        if Instant::now() < self.cached_until {
            return Some(self);
        }
        let (answered, memory) = match self.server.ask(&evidence.question, ANSWER_TIMEOUT).await {
            Err(fault) => (fault.to_string(), Duration::ZERO),
            Ok(reply) => (describe_shortfall(&reply, evidence)?, cache_lifetime(&reply)),
        };
        Some(Self { answered, cached_until: Instant::now() + memory, ..self })
    }
}

/// One look at those that are due; gives those that lag still.
pub(super) async fn check_due(waiting: Vec<LaggingResolver>, evidence: &ExpectedValues) -> Vec<LaggingResolver> {
    join_all(waiting.into_iter().map(|resolver| resolver.recheck(evidence))).await.into_iter().flatten().collect()
}

/// The moment after which the last of these answers may be another one.
pub(super) fn latest_cached_until(waiting: &[LaggingResolver]) -> Option<Instant> {
    waiting.iter().map(|resolver| resolver.cached_until).max()
}

/// Waits until `pause` is over and one of them may have something new to say, but not beyond `end`.
pub(super) async fn sleep_until_due(waiting: &[LaggingResolver], pause: Duration, end: Instant) {
    let news = waiting.iter().map(|resolver| resolver.cached_until).min();
    let next = news.unwrap_or(end).max(Instant::now() + pause);
    sleep_until(next.min(end)).await;
}

/// How long the resolver keeps what it answered. A failure is looked at again soon.
fn cache_lifetime(reply: &DnsReply) -> Duration {
    match reply.code() {
        ResponseCode::NoError | ResponseCode::NXDomain => match reply.time_to_live(RecordType::TXT) {
            Duration::ZERO => Duration::ZERO,
            // A TTL is in whole seconds, and what is left of one is cut.
            left => left.min(MAX_CACHE_LIFETIME) + Duration::from_secs(1),
        },
        _ => Duration::ZERO,
    }
}

/// Nothing is remembered so long that an attempt should wait for it any longer.
const MAX_CACHE_LIFETIME: Duration = Duration::from_hours(1);
/// How long a resolver may take over one transport: it may have to find the answer first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

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
        DnsReply::from_message(&question, message).unwrap()
    }

    fn soa(minimum: u32) -> RData {
        RData::SOA(SOA::new(Name::root(), Name::root(), 1, 3_600, 600, 86_400, minimum))
    }

    #[test]
    fn a_no_is_remembered_as_long_as_the_soa_says_and_an_hour_at_most() {
        let seconds =
            |code, answers: &[_], authorities: &[_]| cache_lifetime(&answer(code, answers, authorities)).as_secs();
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
