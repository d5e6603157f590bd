//! autocertd's own name server, authoritative for the one zone that is delegated to it. What the zone holds is asked for
//! anew with every question: a record is there as soon as it is noted, on every replica, and gone with its note.
//! It reads and writes messages by hickory-server, but keeps the sockets itself: their connections are counted, and an
//! answer leaves from the address that was asked.

mod client_throttle;
mod message;
mod responder;
mod sockets;
mod tcp;
mod udp;
mod zone;

use std::error::Error;

use futures_util::future::{join, join_all};
use tokio_util::sync::CancellationToken;

use self::client_throttle::ClientThrottle;
use self::responder::Responder;
pub use self::sockets::{DnsSocketError, DnsSockets};
use self::zone::DelegatedZone;
use crate::config::dns::DelegatedSection;
use crate::dns::error::DnsError;

/// What the zone holds.
pub trait ZoneContents: Send + Sync + 'static {
    /// Why it cannot be told.
    type Error: Error + Send + Sync + 'static;

    /// What there is at `name`: lower case, no trailing dot, in or at the zone. The answer must be of this moment.
    fn at(&self, name: &str) -> impl Future<Output = Result<NameContents, Self::Error>> + Send;
}

/// What there is at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameContents {
    /// TXT records with these values, at least one.
    Values(Vec<String>),
    /// No record, but some below it: an empty non-terminal (RFC 8020 section 2).
    EmptyNonTerminal,
    /// Nothing, here and below.
    NoSuchName,
}

/// The name server.
pub struct NameServer<C> {
    responder: Responder<C>,
    sockets: DnsSockets,
    udp_throttle: ClientThrottle,
    tcp_throttle: ClientThrottle,
}

impl<C: ZoneContents> NameServer<C> {
    /// The name server of the section, which answers at `sockets` as long as it [runs](Self::run).
    ///
    /// # Errors
    /// [`DnsError::Setting`] where the section names no zone, or one that DNS cannot carry.
    pub fn new(section: &DelegatedSection, sockets: DnsSockets, contents: C) -> Result<Self, DnsError> {
        let responder = Responder::new(DelegatedZone::from_section(section)?, contents);
        let limit = || ClientThrottle::per_second(section.questions_per_second);
        // One for each transport: a flood of forged UDP must not shut out those whose addresses it bears.
        Ok(Self { responder, sockets, udp_throttle: limit(), tcp_throttle: limit() })
    }

    /// Answers until `stopping` is cancelled.
    ///
    /// # Errors
    /// Where the runtime does not take a socket.
    pub async fn run(self, stopping: CancellationToken) -> std::io::Result<()> {
        let Self { responder, sockets, udp_throttle: udp_limit, tcp_throttle: tcp_limit } = self;
        let (datagrams, listeners) = sockets.into_tokio()?;
        let udp = datagrams.iter().map(|socket| udp::serve(socket, &responder, &udp_limit));
        let tcp = listeners.iter().map(|listener| tcp::serve(listener, &responder, &tcp_limit));
        stopping.run_until_cancelled(join(join_all(udp), join_all(tcp))).await;
        Ok(())
    }
}
