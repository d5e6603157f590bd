//! Questions over UDP. The answer leaves from the address that was asked, also where a socket listens at all of them:
//! a resolver takes it from nowhere else.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_net::xfer::Protocol;
use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_pktinfo};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::dns::delegated::ZoneContents;
use crate::dns::delegated::client_throttle::ClientThrottle;
use crate::dns::delegated::responder::Responder;
use crate::domain::value::client_network::ClientNetwork;

/// Answers for ever.
pub(super) async fn serve<C: ZoneContents>(socket: &UdpSocket, responder: &Responder<C>, limit: &ClientThrottle) {
    let mut buffer = vec![0; MAX_QUESTION_SIZE];
    let slip = AtomicBool::new(false);
    let mut underway = FuturesUnordered::new();
    loop {
        tokio::select! {
            // What comes meanwhile waits in the socket, or is dropped by it.
            received = receive(socket, &mut buffer), if underway.len() < MAX_CONCURRENT_ANSWERS => match received {
                Ok(datagram) => underway.push(answer_datagram(socket, datagram, responder, limit, &slip)),
                Err(error) => {
                    tracing::debug!(%error, "no question could be received");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            },
            Some(()) = underway.next() => {}
        }
    }
}

/// A packet, whence it came and at which address.
struct Datagram {
    bytes: Vec<u8>,
    from: SocketAddr,
    asked: Option<AskedAddress>,
}

/// The address that was asked.
enum AskedAddress {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

async fn answer_datagram<C: ZoneContents>(
    socket: &UdpSocket,
    Datagram { bytes, from, asked }: Datagram,
    responder: &Responder<C>,
    limit: &ClientThrottle,
    slip: &AtomicBool,
) {
    let reply = if limit.admits(ClientNetwork::from_address(from.ip())) {
        responder.reply(bytes, from, Protocol::Udp).await
    } else if slip.fetch_not(Ordering::Relaxed) {
        None
    } else {
        // It is no longer than the question, so that nobody is flooded through us, and real resolvers come back over TCP.
        responder.reply_throttled(bytes, from)
    };
    let Some(reply) = reply else { return };
    let sent = socket.async_io(Interest::WRITABLE, || send(socket, &reply, from, asked.as_ref())).await;
    if let Err(error) = sent {
        tracing::debug!(%error, %from, "an answer could not be sent");
    }
}

async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    socket.async_io(Interest::READABLE, || receive_now(socket, buffer)).await
}

fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = cmsg_space!(in_pktinfo, in6_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())?;
    let asked = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(AskedAddress::V4(info)),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(AskedAddress::V6(info)),
        _ => None,
    });
    let from = received.address.as_ref().and_then(to_socket_addr).ok_or(io::ErrorKind::InvalidData)?;
    let length = received.bytes;
    Ok(Datagram { bytes: buffer[..length].to_vec(), from, asked })
}

fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr, asked: Option<&AskedAddress>) -> io::Result<usize> {
    let (fd, slices, to) = (socket.as_raw_fd(), [IoSlice::new(reply)], SockaddrStorage::from(to));
    let send_with = |control: &[ControlMessage]| sendmsg(fd, &slices, control, MsgFlags::empty(), Some(&to));
    // The interface is left to the routes: the answer need not go the way that the question came.
    let sent = match asked {
        Some(AskedAddress::V4(info)) => {
            let from = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: info.ipi_spec_dst, ipi_addr: in_addr { s_addr: 0 } };
            send_with(&[ControlMessage::Ipv4PacketInfo(&from)])
        }
        Some(AskedAddress::V6(info)) => {
            let from = in6_pktinfo { ipi6_ifindex: 0, ..*info };
            send_with(&[ControlMessage::Ipv6PacketInfo(&from)])
        }
        None => send_with(&[]),
    };
    Ok(sent?)
}

fn to_socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::from(*address));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::from(*address)))
}

/// Bytes; more than any question takes.
const MAX_QUESTION_SIZE: usize = 4_096;
const MAX_CONCURRENT_ANSWERS: usize = 256;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
