//! Simulated receivers: what they hold, and how they answer.

use fastrand::Rng;
use std::collections::HashMap;
use std::rc::Rc;
use tidegate::clock::UnixMillis;
use tidegate::remote_write::proto::Reader;
use tidegate::remote_write::response::{Head, Protocol};
use tidegate::remote_write::sender::ErrorKind;

/// What a receiver understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// 2.0 with Written headers, and 1.0.
    #[default]
    Modern,
    /// 1.0; answers 415 to anything else.
    Refusing,
    /// 1.0; answers 400 to anything else.
    Puzzled,
    /// 1.0; answers 204 to anything, and stores nothing it cannot read.
    Ignorant,
}

/// Chances of one answer, in percent each; the rest is well.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// 500, nothing stored.
    pub failing: u8,
    /// 503 although everything was stored.
    pub lying: u8,
    /// 503 with Retry-After.
    pub busy: u8,
    /// 429 with Retry-After.
    pub limiting: u8,
    /// Stored, and the answer is lost.
    pub mute: u8,
    /// The connection ends before the request is there.
    pub closing: u8,
    /// 401, credentials expired.
    pub locked: u8,
}

/// One stored, or refused, sample.
#[derive(Clone, Debug)]
pub struct Sent {
    pub series: Rc<str>,
    pub unix_ms: i64,
    pub bits: u64,
}

/// What becomes of a request.
pub struct Reply {
    /// Milliseconds until the sender knows.
    pub after_ms: u64,
    pub outcome: Result<Head, ErrorKind>,
}

/// A receiver.
pub struct Receiver {
    pub kind: Kind,
    /// Refuses a request for one sample that is not newer than what the series has.
    pub strict: bool,
    /// Answers 413 to more samples than this.
    pub most: usize,
    pub faults: Faults,
    /// Requests get there.
    pub up: bool,
    /// Milliseconds an answer takes, at most.
    pub slow_ms: u64,
    /// Answers carry the time.
    pub dated: bool,
    /// Refuses a request with a series of which this is a part.
    pub poison: Option<&'static str>,
    /// Its own, so that what is scraped does not hang on what is sent.
    random: Rng,
    names: HashMap<String, Rc<str>>,
    newest: HashMap<Rc<str>, (i64, u64)>,
    /// Everything stored, in order.
    pub stored: Vec<Sent>,
    /// The request being answered.
    pub request: Vec<Sent>,
    pub requests: u64,
    pub bytes: u64,
    /// Requests it may have stored without the sender knowing.
    pub ambiguous: u64,
}

impl Receiver {
    pub fn new(kind: Kind, seed: u64) -> Self {
        Self {
            kind,
            strict: false,
            most: usize::MAX,
            faults: Faults::default(),
            up: true,
            slow_ms: 80,
            dated: false,
            poison: None,
            random: Rng::with_seed(seed),
            names: HashMap::new(),
            newest: HashMap::new(),
            stored: Vec::new(),
            request: Vec::new(),
            requests: 0,
            bytes: 0,
            ambiguous: 0,
        }
    }

    /// Takes a request sent at wall time `unix_ms`.
    pub fn handle(&mut self, body: &[u8], protocol: Protocol, unix_ms: i64) -> Reply {
        let after_ms = 1 + self.random.u64(..self.slow_ms.max(1));
        self.requests += 1;
        self.bytes += body.len() as u64;
        self.request.clear();
        self.decode(body, protocol);
        let outcome = self.outcome(protocol);
        let after_ms = match outcome {
            Err(ErrorKind::Timeout) => 30_000,
            _ => after_ms,
        };
        let outcome = outcome.map(|mut head| {
            if self.dated {
                head.date = Some(UnixMillis(unix_ms - unix_ms.rem_euclid(1_000)));
            }
            head
        });
        Reply { after_ms, outcome }
    }

    fn outcome(&mut self, protocol: Protocol) -> Result<Head, ErrorKind> {
        let faults = self.faults;
        if !self.up {
            return Err(if self.random.bool() {
                ErrorKind::Connect
            } else {
                ErrorKind::Timeout
            });
        }
        let mut draw = self.random.u8(..100);
        let mut hit = |chance: u8| {
            let hit = draw < chance;
            draw = if hit { u8::MAX } else { draw - chance };
            hit
        };
        if hit(faults.failing) {
            return Ok(Head::new(500));
        }
        if hit(faults.busy) {
            return Ok(later(503, &mut self.random));
        }
        if hit(faults.limiting) {
            return Ok(later(429, &mut self.random));
        }
        if hit(faults.closing) {
            return Err(ErrorKind::Closed);
        }
        if hit(faults.locked) {
            return Ok(Head::new(401));
        }
        let (lying, mute) = (hit(faults.lying), hit(faults.mute));
        let answer = self.judge(protocol);
        self.ambiguous += u64::from(mute || lying);
        if mute {
            return Err(ErrorKind::Timeout);
        }
        if lying && answer.status < 300 {
            return Ok(Head::new(503));
        }
        Ok(answer)
    }

    /// What it does with a request that arrived.
    fn judge(&mut self, protocol: Protocol) -> Head {
        if protocol == Protocol::V2 {
            match self.kind {
                Kind::Modern => {}
                Kind::Refusing => return Head::new(415),
                Kind::Puzzled => return Head::new(400),
                Kind::Ignorant => return Head::new(204),
            }
        }
        if self.request.len() > self.most {
            return Head::new(413);
        }
        let poisoned = |sent: &Sent| self.poison.is_some_and(|part| sent.series.contains(part));
        let refused = self.request.iter().any(|sent| poisoned(sent) || self.too_late(sent));
        if refused && protocol == Protocol::V1 {
            return Head::new(400);
        }
        let mut head = Head::new(if refused { 400 } else { 204 });
        let mut written = 0;
        for sent in core::mem::take(&mut self.request) {
            let taken = !self.poison.is_some_and(|part| sent.series.contains(part)) && !self.too_late(&sent);
            if taken {
                written += 1;
                let newest = self.newest.entry(sent.series.clone()).or_insert((i64::MIN, 0));
                if sent.unix_ms >= newest.0 {
                    *newest = (sent.unix_ms, sent.bits);
                }
                self.stored.push(sent.clone());
            }
            self.request.push(sent);
        }
        if protocol == Protocol::V2 {
            head.header(
                "X-Prometheus-Remote-Write-Samples-Written",
                format!("{written}").as_bytes(),
            );
        }
        head
    }

    /// A strict receiver takes the newest sample again, if it is the same, and nothing older.
    fn too_late(&self, sent: &Sent) -> bool {
        self.strict
            && self
                .newest
                .get(&sent.series)
                .is_some_and(|&(time, bits)| sent.unix_ms < time || (sent.unix_ms == time && sent.bits != bits))
    }

    fn decode(&mut self, body: &[u8], protocol: Protocol) {
        let mut index = vec![(0, 0); 4_096];
        let mut reader = Reader::new(body, protocol, &mut index).expect("well-formed");
        while let Some(series) = reader.next_series().expect("well-formed") {
            let mut labels = String::new();
            let mut last = "";
            let each = |name, value: &str| {
                assert!(last < name, "labels are sorted and unique");
                last = name;
                labels += &format!("{name}={value};");
            };
            series.labels(each).expect("well-formed");
            let name = match self.names.get(&labels) {
                Some(name) => name.clone(),
                None => {
                    let name: Rc<str> = labels.as_str().into();
                    self.names.insert(labels, name.clone());
                    name
                }
            };
            let request = &mut self.request;
            let each = |bits, unix_ms, _start_ms| {
                request.push(Sent {
                    series: name.clone(),
                    unix_ms,
                    bits,
                });
            };
            series.samples(each).expect("well-formed");
        }
    }
}

fn later(status: u16, random: &mut Rng) -> Head {
    let mut head = Head::new(status);
    head.header("Retry-After", format!("{}", 1 + random.u8(..20)).as_bytes());
    head
}
