//! One question to one server: A and AAAA together over UDP, TCP for what is truncated.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use super::message::{QUERY_BYTES, RecordType, Reply, parse, query};
use super::{Addresses, Answer, DnsErrorKind, Name};
use crate::clock::Instant;
use crate::host::limits::DNS_SECOND_ANSWER_MS;
use crate::host::net::{Socket, SocketOptions};
use crate::host::runtime::{Interest, TimeoutError, now, ready, timeout_at};

/// Longest UDP reply without EDNS (RFC 1035).
const UDP_BYTES: usize = 512;

/// Longest TCP reply read; address answers are far shorter.
const TCP_BYTES: usize = 4096;

/// One of the two questions and what came of it.
struct Question {
    kind: RecordType,
    id: u16,
    query: heapless::Vec<u8, QUERY_BYTES>,
    reply: Option<Reply>,
}

impl Question {
    fn new(name: &Name, kind: RecordType, id: u16) -> Result<Self, DnsErrorKind> {
        Ok(Self {
            kind,
            id,
            query: query(id, name, kind).ok_or(DnsErrorKind::BadName)?,
            reply: None,
        })
    }

    /// The other answer is not worth a long wait: there is an address, or the server says that the name
    /// does not exist (which it should then say for both, but some say it for AAAA alone).
    fn is_telling(&self) -> bool {
        match &self.reply {
            Some(Reply::Addresses(found, _)) => !found.is_empty(),
            Some(Reply::Failed(kind)) => matches!(kind, DnsErrorKind::NoSuchHost),
            _ => false,
        }
    }
}

/// Asks `server` for the addresses of `name` until `deadline`.
///
/// # Errors
///
/// `NoSuchHost` or `NoAddress` when the server says so; otherwise why there is no answer.
pub(super) async fn ask(server: SocketAddr, name: &Name, deadline: Instant) -> Result<Answer, DnsErrorKind> {
    let [a, b, c, d] = random_bytes()?;
    // IPv6 first, the order of the answer.
    let mut questions = [
        Question::new(name, RecordType::Aaaa, u16::from_ne_bytes([a, b]))?,
        Question::new(name, RecordType::A, u16::from_ne_bytes([c, d]))?,
    ];
    let over_udp = timeout_at(deadline, ask_udp(server, name, &mut questions)).await;
    match over_udp {
        Ok(done) => done?,
        // One of the two may have been answered.
        Err(TimeoutError::Elapsed) => {}
        Err(TimeoutError::TableFull(full)) => return Err(DnsErrorKind::TableFull(full)),
    }
    for question in &mut questions {
        if matches!(question.reply, Some(Reply::Truncated)) {
            question.reply = match timeout_at(deadline, ask_tcp(server, name, question)).await {
                Ok(reply) => Some(reply?),
                Err(TimeoutError::Elapsed) => None,
                Err(TimeoutError::TableFull(full)) => return Err(DnsErrorKind::TableFull(full)),
            };
        }
    }
    combine(questions.map(|question| question.reply))
}

fn random_bytes() -> Result<[u8; 4], DnsErrorKind> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| DnsErrorKind::Network(error.into()))?;
    Ok(bytes)
}

/// Joins the two replies: any address wins, then a failure, "no such host", silence, "no address".
fn combine(replies: [Option<Reply>; 2]) -> Result<Answer, DnsErrorKind> {
    let mut answer = Answer {
        addresses: Addresses::new(),
        ttl_s: u32::MAX,
    };
    let mut failure = None;
    for reply in replies {
        match reply {
            Some(Reply::Addresses(found, ttl)) if !found.is_empty() => {
                answer.ttl_s = answer.ttl_s.min(ttl);
                for address in found {
                    // Half the places belong to each family when both are many.
                    if answer.addresses.push(address).is_err() {
                        answer.addresses.truncate(answer.addresses.capacity() / 2);
                        let _ = answer.addresses.push(address);
                    }
                }
            }
            Some(Reply::Addresses(..)) => {}
            Some(Reply::Failed(kind)) => failure = worse(failure, kind),
            Some(Reply::Truncated) => failure = worse(failure, DnsErrorKind::BadReply),
            None => failure = worse(failure, DnsErrorKind::Timeout),
        }
    }
    if answer.addresses.is_empty() {
        Err(failure.unwrap_or(DnsErrorKind::NoAddress))
    } else {
        Ok(answer)
    }
}

/// "No such host" is about the name, so it outweighs the silence of the other question, but a server's
/// failure outweighs it.
fn worse(known: Option<DnsErrorKind>, new: DnsErrorKind) -> Option<DnsErrorKind> {
    match (known, &new) {
        (None | Some(DnsErrorKind::Timeout), _) => Some(new),
        (Some(DnsErrorKind::NoSuchHost), kind) if !matches!(kind, DnsErrorKind::Timeout) => Some(new),
        (known, _) => known,
    }
}

async fn ask_udp(server: SocketAddr, name: &Name, questions: &mut [Question; 2]) -> Result<(), DnsErrorKind> {
    let socket = udp_socket(server).map_err(DnsErrorKind::Network)?;
    for question in questions.iter() {
        // A server that cannot be sent to is reported by the reads below.
        socket.send(&question.query).map_err(DnsErrorKind::Network)?;
    }
    let mut second_answer_by = None;
    let mut buf = [0; UDP_BYTES];
    while questions.iter().any(|question| question.reply.is_none()) {
        let received = match second_answer_by {
            None => receive(&socket, &mut buf).await,
            Some(by) => match timeout_at(by, receive(&socket, &mut buf)).await {
                Ok(received) => received,
                Err(_) => return Ok(()),
            },
        };
        let message = buf.get(..received?).unwrap_or_default();
        for question in questions.iter_mut().filter(|question| question.reply.is_none()) {
            question.reply = parse(message, question.id, name, question.kind);
        }
        if second_answer_by.is_none() && questions.iter().any(Question::is_telling) {
            second_answer_by = Some(now() + DNS_SECOND_ANSWER_MS);
        }
    }
    Ok(())
}

/// A socket on a random port that hears this server alone.
fn udp_socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn receive(socket: &UdpSocket, buf: &mut [u8]) -> Result<usize, DnsErrorKind> {
    loop {
        match socket.recv(buf) {
            Ok(received) => return Ok(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready(socket.as_fd(), Interest::Read)
                    .await
                    .map_err(DnsErrorKind::TableFull)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DnsErrorKind::Network(error)),
        }
    }
}

/// Asks one question again over TCP.
async fn ask_tcp(server: SocketAddr, name: &Name, question: &Question) -> Result<Reply, DnsErrorKind> {
    let socket = Socket::connect(server, SocketOptions::default())
        .await
        .map_err(DnsErrorKind::Network)?;
    let mut framed: heapless::Vec<u8, { QUERY_BYTES + 2 }> = heapless::Vec::new();
    // Both parts fit by the size of the vector.
    let _ = framed.extend_from_slice(&(question.query.len() as u16).to_be_bytes());
    let _ = framed.extend_from_slice(&question.query);
    socket.write_all(&framed).await.map_err(DnsErrorKind::Network)?;
    let mut length = [0; 2];
    read_exact(&socket, &mut length).await?;
    let mut message = alloc::vec![0; usize::from(u16::from_be_bytes(length)).min(TCP_BYTES)];
    read_exact(&socket, &mut message).await?;
    match parse(&message, question.id, name, question.kind) {
        Some(Reply::Truncated) | None => Ok(Reply::Failed(DnsErrorKind::BadReply)),
        Some(reply) => Ok(reply),
    }
}

async fn read_exact(socket: &Socket, mut buf: &mut [u8]) -> Result<(), DnsErrorKind> {
    while !buf.is_empty() {
        let read = socket.read(buf).await.map_err(DnsErrorKind::Network)?;
        if read == 0 {
            return Err(DnsErrorKind::Network(io::ErrorKind::UnexpectedEof.into()));
        }
        buf = buf.get_mut(read..).unwrap_or_default();
    }
    Ok(())
}
