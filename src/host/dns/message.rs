//! DNS messages: one question out, addresses in.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heapless::{String, Vec};

use super::{Addresses, DnsErrorKind, MAX_NAME_BYTES, Name};

/// A query: header 12, name 255, type and class 4 bytes, and 2 of length before it over TCP.
pub(super) const QUERY_BYTES: usize = 12 + 255 + 4;

const HEADER_BYTES: usize = 12;
const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;

/// Pointers followed in one name; a legitimate name has one or two.
const MAX_POINTERS: usize = 16;

/// The record types asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordType {
    A = 1,
    Aaaa = 28,
}

/// `host` in lower case if it can be a host name: labels of 1 to 63 letters, digits, `-` and `_`. A final
/// dot stays: it says that no search domain applies.
pub(super) fn checked_name(host: &str) -> Option<Name> {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if !labels.split('.').all(label_ok) {
        return None;
    }
    let mut name = Name::try_from(host).ok()?;
    name.make_ascii_lowercase();
    Some(name)
}

/// The query for one record type of `name`, a checked name without final dot.
pub(super) fn query(id: u16, name: &str, kind: RecordType) -> Option<Vec<u8, QUERY_BYTES>> {
    let mut out = Vec::new();
    out.extend_from_slice(&id.to_be_bytes()).ok()?;
    // Recursion desired; one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).ok()?).ok()?;
        out.extend_from_slice(label.as_bytes()).ok()?;
    }
    out.push(0).ok()?;
    out.extend_from_slice(&(kind as u16).to_be_bytes()).ok()?;
    out.extend_from_slice(&CLASS_IN.to_be_bytes()).ok()?;
    Some(out)
}

/// What one reply says.
#[derive(Debug)]
pub(super) enum Reply {
    /// Addresses, possibly none, and the lowest TTL on the way to them, seconds.
    Addresses(Addresses, u32),
    /// The answer did not fit: ask over TCP.
    Truncated,
    /// The name does not exist, or the server failed.
    Failed(DnsErrorKind),
}

/// Reads a reply to the query with `id` for `name`; `None` if it is not one (somebody else's, or forged).
pub(super) fn parse(message: &[u8], id: u16, name: &str, kind: RecordType) -> Option<Reply> {
    let mut reader = Reader { message, at: 0 };
    let is_ours = reader.u16()? == id;
    let flags = reader.u16()?;
    let is_reply = flags & 0x8000 != 0;
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.at = HEADER_BYTES;
    let asked = reader.name()?;
    let same = asked == name && reader.u16()? == kind as u16 && reader.u16()? == CLASS_IN;
    if !(is_ours && is_reply && questions == 1 && same) {
        return None;
    }
    match (flags & 0x000f) as u8 {
        0 => {}
        3 => return Some(Reply::Failed(DnsErrorKind::NoSuchHost)),
        code => return Some(Reply::Failed(DnsErrorKind::Refused(code))),
    }
    if flags & 0x0200 != 0 {
        return Some(Reply::Truncated);
    }
    Some(match reader.addresses(answers, asked, kind) {
        Some((addresses, ttl)) => Reply::Addresses(addresses, ttl),
        None => Reply::Failed(DnsErrorKind::BadReply),
    })
}

/// Reads forward through a message; `None` at any place that does not exist.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.message.get(self.at..self.at + N)?.try_into().ok()?;
        self.at += N;
        Some(bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// A name in lower case without final dot; goes on behind it.
    fn name(&mut self) -> Option<Name> {
        let mut name: String<MAX_NAME_BYTES> = String::new();
        let mut at = self.at;
        let mut behind = None;
        let mut pointers = 0;
        loop {
            let length = *self.message.get(at)?;
            match length {
                0 => break,
                0xc0.. => {
                    let low = *self.message.get(at + 1)?;
                    behind.get_or_insert(at + 2);
                    at = usize::from(length & 0x3f) << 8 | usize::from(low);
                    pointers += 1;
                    if pointers > MAX_POINTERS {
                        return None;
                    }
                }
                1..=63 => {
                    let label = self.message.get(at + 1..at + 1 + usize::from(length))?;
                    if !name.is_empty() {
                        name.push('.').ok()?;
                    }
                    for byte in label {
                        name.push(char::from(byte.to_ascii_lowercase())).ok()?;
                    }
                    at += 1 + usize::from(length);
                }
                _ => return None,
            }
        }
        self.at = behind.unwrap_or(at + 1);
        Some(name)
    }

    /// The addresses among `count` records that belong to `owner`, following its aliases. Records of
    /// other names and types are skipped.
    fn addresses(&mut self, count: u16, mut owner: Name, kind: RecordType) -> Option<(Addresses, u32)> {
        let (mut found, mut lowest_ttl) = (Addresses::new(), u32::MAX);
        for _ in 0..count {
            let name = self.name()?;
            let (record, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
            let end = usize::from(self.u16()?) + self.at;
            self.message.get(self.at..end)?;
            if name == owner && class == CLASS_IN {
                if record == TYPE_CNAME {
                    owner = self.name()?;
                    lowest_ttl = lowest_ttl.min(ttl);
                } else if record == kind as u16 {
                    // More than MAX_ADDRESSES are not tried anyway.
                    let _ = found.push(self.address(kind)?);
                    lowest_ttl = lowest_ttl.min(ttl);
                }
            }
            self.at = end;
        }
        Some((found, lowest_ttl))
    }

    fn address(&mut self, kind: RecordType) -> Option<IpAddr> {
        Some(match kind {
            RecordType::A => Ipv4Addr::from(self.take::<4>()?).into(),
            RecordType::Aaaa => Ipv6Addr::from(self.take::<16>()?).into(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alloc::vec::Vec as StdVec;

    /// A reply with compressed names: the question, then `records` (owner, type, ttl, data).
    pub(in crate::host::dns) fn reply(question: &[u8], flags: u16, records: &[(&[u8], u16, u32, &[u8])]) -> StdVec<u8> {
        let mut out = question.to_vec();
        out[2..4].copy_from_slice(&(0x8000 | flags).to_be_bytes());
        out[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (owner, kind, ttl, data) in records {
            out.extend_from_slice(owner);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&CLASS_IN.to_be_bytes());
            out.extend_from_slice(&ttl.to_be_bytes());
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    /// Compression pointer to the question's name.
    pub(in crate::host::dns) const QUESTION_NAME: &[u8] = &[0xc0, 12];

    #[test]
    fn names_are_checked() {
        assert_eq!(checked_name("Edge.Example").as_deref(), Some("edge.example"));
        assert_eq!(checked_name("a_b.example.").as_deref(), Some("a_b.example."));
        for bad in [
            "",
            ".",
            "a..b",
            "-é",
            "a b",
            &"x".repeat(64),
            &["y".repeat(60).as_str(); 5].join("."),
        ] {
            assert_eq!(checked_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_are_found_through_an_alias() {
        let asked = query(7, "edge.example", RecordType::A).expect("fits");
        let target = b"\x03cdn\x03net\x00";
        let message = reply(
            &asked,
            0,
            &[
                (QUESTION_NAME, TYPE_CNAME, 300, target),
                (b"\x05other\x00", 1, 1, &[9, 9, 9, 9]),
                (target, 1, 60, &[10, 0, 0, 1]),
                (target, 28, 1, &[0; 16]),
                (target, 1, 90, &[10, 0, 0, 2]),
            ],
        );
        let Some(Reply::Addresses(found, ttl)) = parse(&message, 7, "edge.example", RecordType::A) else {
            panic!("a valid reply");
        };
        assert_eq!(found, [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]);
        assert_eq!(ttl, 60);
    }

    #[test]
    fn replies_to_other_questions_are_not_ours() {
        let asked = query(7, "edge.example", RecordType::A).expect("fits");
        let message = reply(&asked, 0, &[(QUESTION_NAME, 1, 60, &[10, 0, 0, 1])]);
        assert!(parse(&message, 8, "edge.example", RecordType::A).is_none());
        assert!(parse(&message, 7, "edge.exampl", RecordType::A).is_none());
        assert!(parse(&message, 7, "edge.example", RecordType::Aaaa).is_none());
        assert!(
            parse(&asked, 7, "edge.example", RecordType::A).is_none(),
            "a query is no reply"
        );
    }

    #[test]
    fn codes_and_truncation_are_told_apart() {
        let asked = query(7, "x", RecordType::Aaaa).expect("fits");
        let parsed = |flags| parse(&reply(&asked, flags, &[]), 7, "x", RecordType::Aaaa);
        assert!(matches!(parsed(3), Some(Reply::Failed(DnsErrorKind::NoSuchHost))));
        assert!(matches!(parsed(2), Some(Reply::Failed(DnsErrorKind::Refused(2)))));
        assert!(matches!(parsed(0x0200), Some(Reply::Truncated)));
        assert!(matches!(parsed(0), Some(Reply::Addresses(found, _)) if found.is_empty()));
    }

    #[test]
    fn no_cut_or_flip_of_a_reply_panics() {
        let asked = query(7, "edge.example", RecordType::A).expect("fits");
        let message = reply(
            &asked,
            0,
            &[
                (QUESTION_NAME, TYPE_CNAME, 300, QUESTION_NAME),
                (QUESTION_NAME, 1, 60, &[10, 0, 0, 1]),
            ],
        );
        for end in 0..message.len() {
            let cut = parse(&message[..end], 7, "edge.example", RecordType::A);
            assert!(!matches!(cut, Some(Reply::Addresses(..))), "cut at {end}");
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut damaged = message.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..damaged.len());
                damaged[at] = random.u8(..);
            }
            let _ = parse(&damaged, 7, "edge.example", RecordType::A);
        }
    }

    #[test]
    fn a_pointer_loop_ends() {
        let mut message = query(7, "x", RecordType::A).expect("fits").to_vec();
        message[2] = 0x80;
        message[12..14].copy_from_slice(&[0xc0, 12]);
        assert!(parse(&message, 7, "x", RecordType::A).is_none());
    }
}
