//! Stub resolver on the reactor: no thread, no getaddrinfo.
//!
//! A lookup goes through, in order: address literals; `localhost` and what is below it (RFC 6761);
//! `/etc/hosts`; the cache; the name servers of `/etc/resolv.conf`, with its `search`, `domain`, `ndots`,
//! `timeout` and `attempts`. A and AAAA are asked together over UDP, truncated answers again over TCP.
//! Both files are read anew whenever a query is needed, so DHCP may rewrite them.
//!
//! Invariants:
//! - an answer counts only if it comes from the server asked, with the id and the question asked;
//! - no lookup outlives its deadline;
//! - a name that once resolved keeps its last good address while no server answers, and forgets it only
//!   when a server says that the name does not exist;
//! - a failure (timeout, server failure) is reported rather than a "no such host" from another search
//!   domain: it may be the reason for it.
//!
//! Limits: [`MAX_ADDRESSES`] per name, [`DNS_CACHE_NAMES`] names, 3 servers, 6 search domains. Memory: about
//! 6 KiB for the cache; a lookup needs 1.5 KiB, and 4 KiB more while it uses TCP.
//!
//! Not supported: mDNS (`.local`), NSS modules, DNSSEC validation, EDNS, zone ids in literals.
//!
//! Hostile input: replies are parsed with checked reads and bounded name compression; ids and source
//! ports are random, so an off-path forger has to guess 32 bits.
//!
//! Sources: RFC 1035, RFC 6761, resolv.conf(5), hosts(5).

mod files;
mod message;
mod query;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;
use std::path::PathBuf;

use heapless::String;

use self::files::{Settings, hosts};
use self::query::ask;
use super::limits::{DNS_CACHE_NAMES, DNS_MAX_TTL_S, DNS_STALE_USE_MS, DNS_STALE_WAIT_MS, MAX_ADDRESSES};
use super::runtime::{TableFull, TimeoutError, now, timeout_at};
use crate::clock::Instant;

/// Longest name, dots included (RFC 1035: 255 bytes on the wire).
pub const MAX_NAME_BYTES: usize = 253;

/// Addresses of a name, IPv6 first.
pub type Addresses = heapless::Vec<IpAddr, MAX_ADDRESSES>;

type Name = String<MAX_NAME_BYTES>;

/// What went wrong with a lookup.
#[derive(Debug)]
#[non_exhaustive]
pub enum DnsErrorKind {
    /// The text cannot be a host name.
    BadName,
    /// The server says that no such name exists.
    NoSuchHost,
    /// The name exists and has no address.
    NoAddress,
    /// The server answered with this response code (2 = SERVFAIL, 5 = REFUSED).
    Refused(u8),
    /// No server answered in time.
    Timeout,
    /// The answer is malformed.
    BadReply,
    /// No server could be sent to.
    Network(io::Error),
    /// No slot to wait in.
    TableFull(TableFull),
}

/// A lookup that failed.
#[derive(Debug)]
pub struct DnsError {
    /// The name that was looked up.
    pub name: Box<str>,
    /// Why.
    pub kind: DnsErrorKind,
}

impl DnsError {
    fn new(name: &str, kind: DnsErrorKind) -> Self {
        Self {
            name: name.into(),
            kind,
        }
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lookup {}: ", self.name)?;
        match &self.kind {
            DnsErrorKind::BadName => f.write_str("not a valid host name"),
            DnsErrorKind::NoSuchHost => f.write_str("no such host"),
            DnsErrorKind::NoAddress => f.write_str("no address for this host"),
            DnsErrorKind::Refused(2) => f.write_str("server failure"),
            DnsErrorKind::Refused(5) => f.write_str("query refused"),
            DnsErrorKind::Refused(code) => write!(f, "server answered with code {code}"),
            DnsErrorKind::Timeout => f.write_str("no answer from the name server"),
            DnsErrorKind::BadReply => f.write_str("malformed answer"),
            DnsErrorKind::Network(error) => write!(f, "name server: {error}"),
            DnsErrorKind::TableFull(full) => full.fmt(f),
        }
    }
}

impl core::error::Error for DnsError {}

/// Where the resolver finds its files and, for tests and unusual machines, its servers.
#[derive(Clone, Debug)]
pub struct ResolverOptions {
    /// Usually `/etc/hosts`.
    pub hosts: PathBuf,
    /// Usually `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Servers to ask instead of those in `resolv_conf`.
    pub nameservers: Vec<SocketAddr>,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            nameservers: Vec::new(),
        }
    }
}

struct Remembered {
    name: Box<str>,
    addresses: Addresses,
    /// Until then no query is made.
    fresh_until: Instant,
    used: Instant,
}

/// What a server said of a name.
struct Answer {
    addresses: Addresses,
    ttl_s: u32,
}

/// The resolver; shared by all clients of the thread.
pub struct Resolver {
    options: ResolverOptions,
    cache: RefCell<Vec<Remembered>>,
    /// The server that answered last is asked first.
    preferred: Cell<usize>,
}

impl Resolver {
    /// A resolver with an empty cache; its places are the only allocation besides names.
    #[must_use]
    pub fn new(options: ResolverOptions) -> Self {
        let cache = RefCell::new(Vec::with_capacity(DNS_CACHE_NAMES));
        Self {
            options,
            cache,
            preferred: Cell::new(0),
        }
    }

    /// The addresses of `host`: a name, or an address with or without brackets.
    ///
    /// # Errors
    ///
    /// [`DnsError`] when there is none, or none was found before `deadline`.
    pub async fn lookup(&self, host: &str, deadline: Instant) -> Result<Addresses, DnsError> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Addresses::from_iter([address]));
        }
        let name = message::checked_name(host).ok_or_else(|| DnsError::new(host, DnsErrorKind::BadName))?;
        let listed = hosts(&self.options.hosts, name.trim_end_matches('.'));
        if !listed.is_empty() {
            return Ok(listed);
        }
        if is_localhost(&name) {
            return Ok(Addresses::from_iter([
                Ipv4Addr::LOCALHOST.into(),
                Ipv6Addr::LOCALHOST.into(),
            ]));
        }
        let start = now();
        let stale = match self.remembered(&name, start) {
            Some((addresses, true)) => return Ok(addresses),
            Some((addresses, false)) => Some(addresses),
            None => None,
        };
        let patience = if stale.is_some() {
            deadline.min(start + DNS_STALE_WAIT_MS)
        } else {
            deadline
        };
        let kind = match timeout_at(patience, self.search(&name, patience)).await {
            Ok(Ok(answer)) => {
                let fresh_until = now() + u64::from(answer.ttl_s.min(DNS_MAX_TTL_S)) * 1000;
                self.remember(&name, &answer.addresses, fresh_until);
                return Ok(answer.addresses);
            }
            Ok(Err(kind)) => kind,
            Err(TimeoutError::Elapsed) => DnsErrorKind::Timeout,
            Err(TimeoutError::TableFull(full)) => DnsErrorKind::TableFull(full),
        };
        match (stale, kind) {
            (_, kind @ (DnsErrorKind::NoSuchHost | DnsErrorKind::NoAddress)) => {
                self.cache.borrow_mut().retain(|entry| *entry.name != *name);
                Err(DnsError::new(&name, kind))
            }
            (Some(addresses), _) => {
                self.remember(&name, &addresses, now() + DNS_STALE_USE_MS);
                Ok(addresses)
            }
            (None, kind) => Err(DnsError::new(&name, kind)),
        }
    }

    /// The addresses known of `name`, and whether they are fresh.
    fn remembered(&self, name: &str, now: Instant) -> Option<(Addresses, bool)> {
        let mut cache = self.cache.borrow_mut();
        let entry = cache.iter_mut().find(|entry| *entry.name == *name)?;
        entry.used = now;
        Some((entry.addresses.clone(), now < entry.fresh_until))
    }

    fn remember(&self, name: &str, addresses: &Addresses, fresh_until: Instant) {
        let mut cache = self.cache.borrow_mut();
        let used = now();
        if let Some(entry) = cache.iter_mut().find(|entry| *entry.name == *name) {
            entry.addresses = addresses.clone();
            (entry.fresh_until, entry.used) = (fresh_until, used);
            return;
        }
        if cache.len() >= DNS_CACHE_NAMES
            && let Some(oldest) = cache
                .iter()
                .enumerate()
                .min_by_key(|(_, entry)| entry.used)
                .map(|(at, _)| at)
        {
            cache.swap_remove(oldest);
        }
        cache.push(Remembered {
            name: name.into(),
            addresses: addresses.clone(),
            fresh_until,
            used,
        });
    }

    /// Asks for `name` as it is and below the search domains, in the order `ndots` asks for.
    async fn search(&self, name: &str, deadline: Instant) -> Result<Answer, DnsErrorKind> {
        let mut settings = Settings::read(&self.options.resolv_conf);
        if !self.options.nameservers.is_empty() {
            settings.servers = self.options.nameservers.iter().copied().collect();
        }
        let absolute = name.ends_with('.');
        let bare = name.trim_end_matches('.');
        let dots = bare.bytes().filter(|byte| *byte == b'.').count();
        let as_is_first = absolute || dots >= settings.ndots;
        let domains = settings
            .search
            .iter()
            .filter(|_| !absolute)
            .map(|domain| Some(domain.as_str()));
        let candidates = as_is_first
            .then_some(None)
            .into_iter()
            .chain(domains)
            .chain((!as_is_first).then_some(None));
        let mut failure = DnsErrorKind::NoSuchHost;
        for domain in candidates {
            // A search domain that makes the name too long cannot hold it.
            let Some(candidate) = qualified(bare, domain) else {
                continue;
            };
            match self.ask_servers(&candidate, &settings, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(kind) => failure = more_telling(failure, kind),
            }
        }
        Err(failure)
    }

    /// Asks each server in turn, `attempts` times around.
    async fn ask_servers(&self, name: &Name, settings: &Settings, deadline: Instant) -> Result<Answer, DnsErrorKind> {
        let servers = settings.servers.len();
        let tries = servers * settings.attempts;
        let first = self.preferred.get();
        let mut failure = DnsErrorKind::Timeout;
        for attempt in 0..tries {
            let index = (first + attempt) % servers.max(1);
            let Some(server) = settings.servers.get(index) else {
                break;
            };
            // What is left is shared by the tries left and the connection that is to follow.
            let share = deadline.since(now()) / (tries - attempt + 1) as u64;
            let until = now() + share.min(settings.timeout_ms);
            match ask(*server, name, until).await {
                Ok(answer) => {
                    self.preferred.set(index);
                    return Ok(answer);
                }
                Err(kind @ (DnsErrorKind::NoSuchHost | DnsErrorKind::NoAddress)) => {
                    self.preferred.set(index);
                    return Err(kind);
                }
                Err(kind) => failure = kind,
            }
        }
        Err(failure)
    }
}

fn is_localhost(name: &str) -> bool {
    let bare = name.trim_end_matches('.');
    bare == "localhost" || bare.ends_with(".localhost")
}

fn qualified(name: &str, domain: Option<&str>) -> Option<Name> {
    let mut full = Name::try_from(name).ok()?;
    if let Some(domain) = domain {
        full.push('.').ok()?;
        full.push_str(domain).ok()?;
    }
    Some(full)
}

/// A failure outweighs "no address", which outweighs "no such host"; the first failure stays.
fn more_telling(first: DnsErrorKind, second: DnsErrorKind) -> DnsErrorKind {
    match first {
        DnsErrorKind::NoSuchHost => second,
        DnsErrorKind::NoAddress if !matches!(second, DnsErrorKind::NoSuchHost) => second,
        _ => first,
    }
}

#[cfg(test)]
mod tests;
