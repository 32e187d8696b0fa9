//! `/etc/hosts` and `/etc/resolv.conf`, read in bounded pieces.

use alloc::ffi::CString;
use alloc::string::String;
use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use core::str;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use heapless::Vec;

use super::Addresses;
use crate::host::limits::DNS_FILE_BYTES;

const DNS_PORT: u16 = 53;

/// As many servers and search domains as glibc uses.
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;

/// What `resolv.conf` says; its defaults are those of resolv.conf(5).
pub(super) struct Settings {
    pub(super) servers: Vec<SocketAddr, MAX_SERVERS>,
    pub(super) search: Vec<String, MAX_SEARCH>,
    pub(super) ndots: usize,
    pub(super) timeout_ms: u64,
    pub(super) attempts: usize,
}

impl Settings {
    /// Reads `path`; a missing file, or one without servers, means the server on this machine.
    pub(super) fn read(path: &Path) -> Self {
        let mut settings = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout_ms: 5_000,
            attempts: 2,
        };
        for_each_line(path, |line| settings.take_line(line));
        if settings.servers.is_empty() {
            // The list has just been found empty.
            let _ = settings.servers.push((Ipv4Addr::LOCALHOST, DNS_PORT).into());
        }
        settings
    }

    fn take_line(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            // Servers and domains beyond the limit are not used, as in glibc.
            Some("nameserver") => {
                let _ = words
                    .next()
                    .and_then(server_address)
                    .map(|server| self.servers.push(server));
            }
            Some("search" | "domain") => {
                self.search.clear();
                let domains = words.map(|domain| domain.trim_end_matches('.').into());
                self.search.extend(domains.take(MAX_SEARCH));
            }
            Some("options") => words.for_each(|option| self.take_option(option)),
            _ => {}
        }
    }

    fn take_option(&mut self, option: &str) {
        let Some((key, Ok(value))) = option.split_once(':').map(|(key, value)| (key, value.parse::<u16>())) else {
            return;
        };
        match key {
            "ndots" => self.ndots = value.min(15).into(),
            "timeout" => self.timeout_ms = u64::from(value.clamp(1, 30)) * 1000,
            "attempts" => self.attempts = value.clamp(1, 5).into(),
            _ => {}
        }
    }
}

/// An address as `nameserver` has it, with `%interface` for link-local ones.
fn server_address(text: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, DNS_PORT).into());
    };
    let scope = zone.parse().ok().or_else(|| {
        let zone = CString::new(zone).ok()?;
        // SAFETY: the argument is a string that ends with a zero byte and lives for the call.
        let index = unsafe { libc::if_nametoindex(zone.as_ptr()) };
        (index != 0).then_some(index)
    })?;
    Some(SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, scope).into())
}

/// The addresses `path` lists for `name` (lower case, no final dot), in the file's order.
pub(super) fn hosts(path: &Path, name: &str) -> Addresses {
    let mut found = Addresses::new();
    for_each_line(path, |line| {
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else {
            return;
        };
        if words.any(|listed| listed.eq_ignore_ascii_case(name)) && !found.contains(&address) {
            // More than MAX_ADDRESSES are not tried anyway.
            let _ = found.push(address);
        }
    });
    found
}

/// Calls `take` with each line up to its comment. Lines of over 1 KiB are skipped, as is what lies behind
/// the first [`DNS_FILE_BYTES`]; a file that cannot be read has no lines.
fn for_each_line(path: &Path, mut take: impl FnMut(&str)) {
    let Ok(file) = File::open(path) else { return };
    let mut file = file.take(DNS_FILE_BYTES as u64);
    let mut line: Vec<u8, 1024> = Vec::new();
    let mut too_long = false;
    let mut piece = [0u8; 512];
    let mut end_line = |line: &mut Vec<u8, 1024>, too_long: &mut bool| {
        if !*too_long && let Ok(text) = str::from_utf8(line) {
            take(text.split(['#', ';']).next().unwrap_or_default());
        }
        line.clear();
        *too_long = false;
    };
    while let Ok(read @ 1..) = file.read(&mut piece) {
        for byte in piece.iter().take(read) {
            if *byte == b'\n' {
                end_line(&mut line, &mut too_long);
            } else {
                too_long |= line.push(*byte).is_err();
            }
        }
    }
    end_line(&mut line, &mut too_long);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;

    fn with_file<T>(name: &str, text: &str, check: impl FnOnce(&Path) -> T) -> T {
        let path = std::env::temp_dir().join(format!("tidegate-dns-{name}-{}", std::process::id()));
        std::fs::write(&path, text).expect("temp file");
        let result = check(&path);
        std::fs::remove_file(&path).expect("temp file");
        result
    }

    #[test]
    fn resolv_conf_is_read_as_the_manual_says() {
        let text = "# comment\nnameserver 10.0.0.1\nnameserver fe80::1%1 ; link-local\nnameserver nonsense\n\
                    domain old.example\nsearch lan.example. corp.example\noptions ndots:3 timeout:2 attempts:9 rotate\n\
                    nameserver 10.0.0.2\nnameserver 10.0.0.3";
        let settings = with_file("resolv", text, Settings::read);
        let link_local = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 53, 0, 1);
        assert_eq!(
            settings.servers,
            [
                ([10, 0, 0, 1], 53).into(),
                SocketAddr::from(link_local),
                ([10, 0, 0, 2], 53).into()
            ]
        );
        assert_eq!(settings.search, ["lan.example", "corp.example"]);
        assert_eq!((settings.ndots, settings.timeout_ms, settings.attempts), (3, 2_000, 5));
    }

    #[test]
    fn a_missing_file_means_this_machine() {
        let settings = Settings::read(Path::new("/nonexistent/resolv.conf"));
        assert_eq!(settings.servers, [SocketAddr::from(([127, 0, 0, 1], 53))]);
        assert_eq!((settings.ndots, settings.timeout_ms, settings.attempts), (1, 5_000, 2));
    }

    #[test]
    fn hosts_are_matched_by_whole_names() {
        let long = "x".repeat(3000);
        let text = format!(
            "127.0.0.1 localhost\n10.0.0.5 edge.example Edge # me\n{long}\nbad line\n::5 edge\n10.0.0.5 edge\n10.0.0.6 edgex"
        );
        with_file("hosts", &text, |path| {
            assert_eq!(
                hosts(path, "edge"),
                ["10.0.0.5".parse::<IpAddr>().expect("ip"), "::5".parse().expect("ip")]
            );
            assert_eq!(hosts(path, "edge.example").len(), 1);
            assert!(hosts(path, "me").is_empty());
            assert!(hosts(path, "example").is_empty());
        });
    }
}
