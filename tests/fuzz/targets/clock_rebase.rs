//! Boots that know the time at once, later or never, in any order of statements, commits, cuts and reads.
//!
//! Promised as long as the statements are true: a frame of a boot whose time is known, by a statement that is durable or of
//! this boot, has its true time; a frame of one that never knew has no time, or one that is not after this boot began;
//! times never run backwards from one frame to the next. Of lies only: nothing panics.

use super::input::Input;
use super::ring_support::{World, config, formatted};
use super::rings::{drain, shape};
use tidegate::clock::{Instant, UnixMillis};
use tidegate::wal::storage::Storage;
use tidegate::wal::testing::{Outcome, Ram};
use tidegate::wal::{AppendError, Boot, ClockSource, Ring};

const MAX_OPS: usize = 120;
const EPOCH_MS: i64 = 1_700_000_000_000;

/// What is true of a boot.
#[derive(Clone, Copy)]
struct Truth {
    /// Wall time at boot time 0.
    began_ms: i64,
    /// A statement was made, and one was committed.
    told: bool,
    durable: bool,
    /// Frames from this number on are of this boot.
    first: u64,
}

struct Model {
    world: World,
    ring: Option<Ring<Ram>>,
    boots: Vec<Truth>,
    /// Statements may be false.
    lies: bool,
}

fn source(byte: u8) -> ClockSource {
    ClockSource::from_byte(1 + byte % 3)
}

impl Model {
    fn ring(&mut self) -> &mut Ring<Ram> {
        self.ring.as_mut().expect("mounted")
    }

    fn truth(&mut self) -> &mut Truth {
        self.boots.last_mut().expect("one boot at least")
    }

    /// What is said of the time now: true unless lying is allowed.
    fn wall(&mut self, input: &mut Input<'_>) -> UnixMillis {
        let lie = if self.lies { input.u64() as i64 } else { 0 };
        let now = self.world.now;
        UnixMillis(self.truth().began_ms.saturating_add_unsigned(now).wrapping_add(lie))
    }

    fn mount(&mut self, ram: Ram, off_ms: u64, input: &mut Input<'_>) {
        let before = self.boots.last().copied();
        let wall_now = before.map_or(EPOCH_MS, |last| last.began_ms.saturating_add_unsigned(self.world.now));
        self.boots.push(Truth {
            began_ms: wall_now.saturating_add_unsigned(off_ms),
            told: false,
            durable: false,
            first: 0,
        });
        self.world.now = input.u16().into();
        let said = input.u8();
        let wall = (said & 1 != 0).then(|| (self.wall(input), source(said >> 1)));
        self.truth().told = wall.is_some();
        // Its frames' START carries what was said at mount.
        self.truth().durable = wall.is_some();
        let boot = Boot {
            id: [self.boots.len() as u8; 16],
            now: Instant(self.world.now),
            wall,
            error_ms: 5,
        };
        let config = config(&ram.geometry(), 1);
        let mounted = Ring::mount(ram, config, boot, &mut self.world.catalogue);
        self.ring = Some(mounted.expect("any image of ours mounts").0);
        self.world.adopt();
        self.truth().first = self.ring.as_ref().expect("mounted").next_frame().0;
    }

    fn append(&mut self) {
        let next = self.ring().next_frame();
        self.world.scrape(next);
        let World { catalogue, frame, .. } = &mut self.world;
        match self.ring.as_mut().expect("mounted").append(frame, catalogue) {
            Ok(_) => {}
            Err(AppendError::StagingFull) => self.commit(),
            Err(error) => panic!("{error}"),
        }
    }

    fn commit(&mut self) {
        let ring = self.ring.as_mut().expect("mounted");
        let before = (ring.storage().writes, ring.stats());
        ring.commit(&mut self.world.catalogue).expect("the medium is sound");
        // A statement goes with what is written, if there is room behind it; it is not worth a block of its own.
        let room = before.1.staged_blocks + 2 <= before.1.staging_blocks;
        let wrote = ring.storage().writes > before.0 && room;
        self.truth().durable |= wrote && self.truth().told;
    }

    fn check(&mut self) {
        let ring = self.ring.as_mut().expect("mounted");
        let read = drain(ring, &mut self.world.catalogue, 0);
        if self.lies {
            return;
        }
        let last = self.boots.len() - 1;
        let mut before = i64::MIN;
        for told in read {
            let place = self.boots.iter().rposition(|boot| boot.first <= told.number);
            let place = place.expect("the first boot begins with frame 0");
            let boot = self.boots[place];
            let known = boot.durable || place == last && boot.told;
            let exact = boot.began_ms.saturating_add_unsigned(told.time_ms);
            match told.unix_ms {
                None => assert!(!known, "frame {} has lost its time", told.number),
                Some(unix_ms) => {
                    let latest = self.boots[last].began_ms;
                    assert!(
                        unix_ms == exact || !known && place < last && unix_ms <= latest,
                        "frame {} was scraped at {exact}, not at {unix_ms}",
                        told.number
                    );
                    assert!(unix_ms >= before, "frame {} runs backwards", told.number);
                    before = unix_ms;
                }
            }
        }
    }

    fn restart(&mut self, orderly: bool, input: &mut Input<'_>) {
        if orderly {
            let ring = self.ring.as_mut().expect("mounted");
            let before = (ring.storage().writes, ring.stats());
            ring.close(&mut self.world.catalogue).expect("the medium is sound");
            let room = before.1.staged_blocks + 2 <= before.1.staging_blocks;
            let wrote = ring.storage().writes > before.0 && room;
            self.truth().durable |= wrote && self.truth().told;
        }
        let ram = self.ring.take().expect("mounted").into_storage();
        let outcomes: Vec<Outcome> = (0..ram.pending()).map(|_| Outcome::ALL[input.below(5)]).collect();
        let off_ms = u64::from(input.u16()) * 100;
        self.mount(ram.crash(&outcomes, 1), off_ms, input);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let op = input.u8();
        match op % 16 {
            0..=5 => self.append(),
            6..=7 => self.commit(),
            8 => self.check(),
            9 => {
                let numbers = self.ring().next_frame();
                self.ring().acknowledge(0, numbers);
            }
            10 => self.ring().cut(),
            11..=12 => {
                let wall = self.wall(input);
                let now = Instant(self.world.now);
                self.ring().clock(now, wall, source(op >> 4), 7);
                self.truth().told = true;
            }
            13 => self.world.now += u64::from(input.u16()),
            14 => self.restart(true, input),
            _ => self.restart(false, input),
        }
    }
}

/// The input: shape, whether lies are told, the first boot, then one byte and what belongs to it for each step.
pub fn clock_rebase(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let mut model = Model {
        world: World::new(u64::from(options)),
        ring: None,
        boots: Vec::new(),
        lies: options & 8 != 0,
    };
    model.mount(formatted(shape(options), 1), 0, &mut input);
    for _ in 0..MAX_OPS {
        if input.is_empty() {
            break;
        }
        model.step(&mut input);
    }
    model.check();
}
