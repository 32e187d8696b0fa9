//! Connecting to one of several addresses of a host.

use core::fmt;
use core::future::{Future, poll_fn};
use core::net::SocketAddr;
use core::pin::{Pin, pin};
use core::task::Poll;
use std::io;

use heapless::Vec;

use super::{Socket, SocketOptions};
use crate::clock::Instant;
use crate::host::limits::{FAMILY_HEAD_START_MS, MAX_ADDRESSES, MIN_CONNECT_BUDGET_MS};
use crate::host::runtime::{TimeoutError, now, timeout_at};

/// None of a name's addresses could be connected to.
#[derive(Debug)]
pub struct ConnectError {
    /// The address that failed in the most telling way; `None` when there was no address.
    pub address: Option<SocketAddr>,
    /// Why. `TimedOut` when the address's share of the deadline ran out.
    pub error: io::Error,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "connect {address}: {}", self.error),
            None => write!(f, "connect: {}", self.error),
        }
    }
}

impl core::error::Error for ConnectError {}

impl ConnectError {
    /// "Unreachable" says only that this machine lacks a family; any other failure tells more.
    fn or_more_telling(self, other: Self) -> Self {
        let unreachable = matches!(
            other.error.kind(),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable
        );
        if unreachable || other.address.is_none() {
            self
        } else {
            other
        }
    }
}

/// Connects to the first of `addresses` that answers.
///
/// Addresses of the first one's family are tried one after the other, each with half of the time left;
/// the other family starts beside them after [`FAMILY_HEAD_START_MS`] or as soon as they have failed.
///
/// # Errors
///
/// [`ConnectError`] when none answered before `deadline`.
pub async fn connect_any(
    addresses: &[SocketAddr],
    options: SocketOptions,
    deadline: Instant,
) -> Result<(Socket, SocketAddr), ConnectError> {
    let mut preferred: Vec<SocketAddr, MAX_ADDRESSES> = Vec::new();
    let mut other: Vec<SocketAddr, MAX_ADDRESSES> = Vec::new();
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let same = addresses
            .first()
            .is_some_and(|first| first.is_ipv4() == address.is_ipv4());
        // At most MAX_ADDRESSES are looked at, so each list has room.
        let _ = if same {
            preferred.push(*address)
        } else {
            other.push(*address)
        };
    }
    let mut first = pin!(connect_in_turn(&preferred, options, deadline));
    if other.is_empty() {
        return first.await;
    }
    let second = connect_in_turn(&other, options, deadline);
    match timeout_at(now() + FAMILY_HEAD_START_MS, first.as_mut()).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(failed)) => second.await.map_err(|error| failed.or_more_telling(error)),
        Err(_) => first_success(first, pin!(second)).await,
    }
}

type Connected = Result<(Socket, SocketAddr), ConnectError>;

/// Runs both until one connects; the failure of both is the more telling one.
async fn first_success(
    mut first: Pin<&mut impl Future<Output = Connected>>,
    mut second: Pin<&mut impl Future<Output = Connected>>,
) -> Connected {
    let mut failures: (Option<ConnectError>, Option<ConnectError>) = (None, None);
    poll_fn(|cx| {
        if failures.0.is_none()
            && let Poll::Ready(done) = first.as_mut().poll(cx)
        {
            match done {
                Ok(connected) => return Poll::Ready(Ok(connected)),
                Err(error) => failures.0 = Some(error),
            }
        }
        if failures.1.is_none()
            && let Poll::Ready(done) = second.as_mut().poll(cx)
        {
            match done {
                Ok(connected) => return Poll::Ready(Ok(connected)),
                Err(error) => failures.1 = Some(error),
            }
        }
        match (failures.0.take(), failures.1.take()) {
            (Some(first), Some(second)) => Poll::Ready(Err(first.or_more_telling(second))),
            waiting => {
                failures = waiting;
                Poll::Pending
            }
        }
    })
    .await
}

async fn connect_in_turn(addresses: &[SocketAddr], options: SocketOptions, deadline: Instant) -> Connected {
    let mut failed = ConnectError {
        address: None,
        error: io::ErrorKind::AddrNotAvailable.into(),
    };
    for (index, address) in addresses.iter().enumerate() {
        let last = index + 1 == addresses.len();
        let error = match timeout_at(address_deadline(deadline, last), Socket::connect(*address, options)).await {
            Ok(Ok(socket)) => return Ok((socket, *address)),
            Ok(Err(error)) => error,
            Err(TimeoutError::Elapsed) => io::ErrorKind::TimedOut.into(),
            Err(TimeoutError::TableFull(full)) => full.into(),
        };
        failed = failed.or_more_telling(ConnectError {
            address: Some(*address),
            error,
        });
    }
    Err(failed)
}

/// The last address gets all the time left, an earlier one half of it.
fn address_deadline(deadline: Instant, last: bool) -> Instant {
    let now = now();
    let half = now + (deadline.since(now) / 2).max(MIN_CONNECT_BUDGET_MS);
    if last { deadline } else { half.min(deadline) }
}
