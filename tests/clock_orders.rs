//! Clocks, restarts and links in every order: what a machine without a battery-backed clock goes through.
//!
//! Every sequence of [`LENGTH`] out of eight events, and thousands of longer ones from a seed, each with the three policies for boots
//! that never knew the time. All of them drain to the end. At the receiver no series runs backwards, nothing arrives twice with two times, and what does not
//! arrive is counted or was not committed when the power went.
//!
//! Not judged further are sequences in which the clock is farther behind than when the power went or the process was killed, and
//! restarts of a machine that is told to guess (`anchor`) after it has sent: while the uplink works nothing is on flash that tells
//! what was sent. Nor a clock that a receiver has proved to have been ahead.
//!
//! `TIDEGATE_ORDERS=5 cargo test --release --test clock_orders` plays all sequences of five; a failure names its sequence, and
//! `TIDEGATE_ORDER=hold:CKSFBUDR` plays that one alone.

mod simulation_support;

use fastrand::Rng;
use simulation_support::{MINUTE, Setup, World, shape};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tidegate::wal::format::Medium;
use tidegate::wal::{Reason, UnknownBoot};

/// Events of every sequence that is played.
const LENGTH: usize = 3;

/// Sequences of seven events beside them.
const LONGER: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The power goes: what was not committed is gone, and so is the time.
    Cut,
    /// The process is killed and starts again.
    Kill,
    /// The process stops in order and starts again.
    Restart,
    /// The clock is set right.
    Sync,
    /// The clock is set 20 minutes ahead.
    Forward,
    /// The clock is set back by 3 minutes: to 3 minutes behind if it was right.
    Back,
    Up,
    Down,
}

const EVENTS: [(char, Event); 8] = [
    ('C', Event::Cut),
    ('K', Event::Kill),
    ('R', Event::Restart),
    ('S', Event::Sync),
    ('F', Event::Forward),
    ('B', Event::Back),
    ('U', Event::Up),
    ('D', Event::Down),
];

const POLICIES: [(&str, UnknownBoot); 3] = [
    ("hold", UnknownBoot::Hold),
    ("anchor", UnknownBoot::Anchor),
    ("drop", UnknownBoot::Drop),
];

fn happen(world: &mut World, event: Event) {
    match event {
        Event::Cut => world.cut_power(20_000),
        Event::Kill => world.kill(3_000),
        Event::Restart => world.reload(3_000),
        Event::Sync => world.set_clock(0),
        Event::Forward => world.set_clock(20 * MINUTE as i64),
        Event::Back => {
            let error_ms = world.clock_error_ms.unwrap_or(0) - 3 * MINUTE as i64;
            world.set_clock(error_ms);
        }
        Event::Up => world.receivers[0].up = true,
        Event::Down => world.receivers[0].up = false,
    }
}

/// Plays a sequence, heals, drains and judges. `dated`: the receiver says what time it is.
fn play(events: &[Event], unknown_boot: UnknownBoot, dated: bool) {
    let mut world = World::new(Setup {
        targets: 1,
        series: 2,
        interval_ms: 15_000,
        commit_interval_ms: 20_000,
        clock_at_boot: false,
        geometry: shape(1024, 16, 16, Medium::Rewritable),
        unknown_boot,
        ..Setup::default()
    });
    world.ledger.guessed = unknown_boot == UnknownBoot::Anchor;
    world.receivers[0].dated = dated;
    world.run(60_000);
    let mut ahead = false;
    for &event in events {
        let restart = matches!(event, Event::Cut | Event::Kill | Event::Restart);
        let sent = !world.receivers[0].stored.is_empty();
        // A guess can only go by what is on flash, where nothing is while the uplink works.
        world.may_regress |= restart && sent && unknown_boot == UnknownBoot::Anchor;
        happen(&mut world, event);
        world.run(60_000);
        ahead |= event == Event::Forward;
        // The receiver has said that what was sent lay in its future: that is corrected.
        world.may_regress |= dated && ahead;
    }
    world.receivers[0].up = true;
    world.set_clock(0);
    if ahead {
        // Until the clock has passed what was sent.
        world.run(25 * MINUTE);
    }
    world.drain(60 * MINUTE);
    world.finish();
    if world.may_regress {
        return;
    }
    world.check();
    let (verdict, counts) = (world.judge(0), *world.counts(0));
    assert!(
        verdict.lost <= counts.clock,
        "lost and not counted: {verdict:?} {counts:?}"
    );
    let restarts = events
        .iter()
        .any(|event| matches!(event, Event::Cut | Event::Kill | Event::Restart));
    if !restarts {
        assert_eq!(verdict.lost, counts.clock, "{verdict:?}");
    }
    assert_eq!(verdict.refused, 0, "{verdict:?}");
    assert_eq!(world.ring_loss(Reason::Clock).samples, counts.clock);
    // The end is there, at its true time.
    let last = world.ledger.begun.len() - 1;
    let frames = world.ledger.arrived(&world.receivers[0].stored);
    let (frame, sent) = frames.last().expect("something arrived");
    assert_eq!(frame.boot, last);
    assert_eq!(*sent, world.ledger.begun[last] + frame.time_ms as i64);
}

fn name(events: &[Event], policy: &str) -> String {
    let letter = |event: &Event| {
        EVENTS
            .iter()
            .find(|(_, other)| other == event)
            .map_or('?', |(letter, _)| *letter)
    };
    format!("{policy}:{}", events.iter().map(letter).collect::<String>())
}

fn all(sequences: impl Iterator<Item = Vec<Event>>) {
    let only = std::env::var("TIDEGATE_ORDER").ok();
    let (mut played, mut failed) = (0, Vec::new());
    for (number, events) in sequences.enumerate() {
        for (policy, unknown_boot) in POLICIES {
            let name = name(&events, policy);
            if only.as_ref().is_some_and(|only| *only != name) {
                continue;
            }
            played += 1;
            let dated = number % 2 == 1;
            if catch_unwind(AssertUnwindSafe(|| play(&events, unknown_boot, dated))).is_err() {
                eprintln!("sequence {name} failed, dated {dated}");
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{} of {played} failed: {failed:?}", failed.len());
}

fn sequence(mut number: usize, length: usize) -> Vec<Event> {
    let mut events = Vec::with_capacity(length);
    for _ in 0..length {
        events.push(EVENTS[number % EVENTS.len()].1);
        number /= EVENTS.len();
    }
    events
}

#[test]
fn every_order_of_a_few_events_is_accounted_for() {
    let length = std::env::var("TIDEGATE_ORDERS").ok();
    let length = length.map_or(LENGTH, |length| length.parse().expect("TIDEGATE_ORDERS is a number"));
    let count = EVENTS.len().pow(u32::try_from(length).expect("short"));
    all((0..count).map(|number| sequence(number, length)));
}

#[test]
fn longer_orders_from_a_seed_are_accounted_for() {
    let mut random = Rng::with_seed(0x5eed);
    let count = EVENTS.len().pow(7);
    all((0..LONGER)
        .map(|_| sequence(random.usize(..count), 7))
        .collect::<Vec<_>>()
        .into_iter());
}
