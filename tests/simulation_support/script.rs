//! Random scripts: a seed decides the machine and what befalls it.

use super::receiver::{Faults, Kind};
use super::target::Mood;
use super::{MINUTE, Remote, Setup, World, shape};
use fastrand::Rng;
use tidegate::wal::format::Medium;
use tidegate::wal::{UnknownBoot, WhenFull};

/// What a script may do besides faults of uplink, receivers and targets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    pub restarts: bool,
    pub storage_errors: bool,
    pub clock_steps: bool,
    /// Of every remote, in thousandths.
    pub live_share: u16,
}

/// A machine after `seed`.
pub fn setup(seed: u64) -> Setup {
    let mut random = Rng::with_seed(seed ^ 0x5e7);
    let medium = if random.u8(..3) == 0 {
        Medium::WriteOnce
    } else {
        Medium::Rewritable
    };
    let kinds = [
        Kind::Modern,
        Kind::Modern,
        Kind::Refusing,
        Kind::Puzzled,
        Kind::Ignorant,
    ];
    let mut remotes = vec![Remote {
        kind: kinds[random.usize(..kinds.len())],
        best_effort: false,
        live_share: 0,
    }];
    if random.u8(..3) == 0 {
        remotes.push(Remote {
            kind: kinds[random.usize(..kinds.len())],
            best_effort: random.bool(),
            live_share: 0,
        });
    }
    Setup {
        seed,
        targets: random.u8(1..4),
        series: random.u32(2..14),
        interval_ms: [5_000, 10_000, 15_000][random.usize(..3)],
        commit_interval_ms: [0, 20_000, 60_000][random.usize(..3)],
        staging_blocks: random.usize(12..32),
        geometry: match random.u8(..3) {
            0 => shape(512, 16, 5, medium),
            1 => shape(1024, 16, 6, medium),
            _ => shape(1024, 32, 24, medium),
        },
        when_full: if random.u8(..5) == 0 {
            WhenFull::Stop
        } else {
            WhenFull::DropOldest
        },
        remotes,
        sync_ms: [0, 3, 400][random.usize(..3)],
        clock_at_boot: random.u8(..4) > 0,
        max_sample_age_ms: 0,
        unknown_boot: UnknownBoot::Hold,
        slow_start_ms: if seed.is_multiple_of(2) { 60_000 } else { 0 },
        slices: seed.is_multiple_of(3),
    }
}

/// Lives through `phases` random phases, heals, drains.
pub fn play(world: &mut World, phases: usize, allowed: Allowed) {
    for receiver in &mut world.receivers {
        // Drawn in any case: the scripts stay what they are.
        receiver.strict = world.random.bool() && allowed.live_share == 0;
        receiver.dated = world.random.bool();
        if world.random.u8(..4) == 0 {
            receiver.most = 60;
        }
    }
    for _ in 0..phases {
        uplink(world);
        scrapes(world);
        if allowed.storage_errors && world.random.u8(..4) == 0 {
            let calls = [1, 3, 40, u64::MAX][world.random.usize(..4)];
            world.break_storage(calls);
        } else {
            world.mend_storage();
        }
        let ms = world.random.u64(1_000..6 * MINUTE);
        world.run(ms);
        if allowed.restarts {
            restart(world);
        }
        if world.clock_error_ms.is_none() && world.random.u8(..3) == 0 {
            world.set_clock(0);
        }
        if allowed.clock_steps && world.clock_error_ms.is_some() && world.random.u8(..3) == 0 {
            let error_ms = world.random.i64(-200_000..200_000);
            world.set_clock(error_ms);
        }
    }
    heal(world);
}

fn uplink(world: &mut World) {
    let random = &mut world.random;
    for receiver in &mut world.receivers {
        receiver.up = random.u8(..3) > 0;
        receiver.slow_ms = [20, 200, 20_000][random.usize(..3)];
        receiver.faults = Faults::default();
        let fault = [0, 0, 10, 40][random.usize(..4)];
        let faults = &mut receiver.faults;
        match random.u8(..8) {
            0 => faults.failing = fault,
            1 => faults.busy = fault,
            2 => faults.limiting = fault,
            3 => faults.closing = fault,
            4 => faults.locked = fault,
            5 => faults.lying = fault,
            6 => faults.mute = fault,
            _ => {}
        }
    }
}

fn scrapes(world: &mut World) {
    let random = &mut world.random;
    let moods = [
        Mood::Well,
        Mood::Well,
        Mood::Well,
        Mood::Down,
        Mood::Broken,
        Mood::Garbled,
        Mood::Dripping,
        Mood::Empty,
    ];
    for target in &mut world.targets {
        target.mood = moods[random.usize(..moods.len())];
        target.takes_ms = [5, 300, 4_000][random.usize(..3)];
        for _ in 0..random.usize(..4) {
            target.churn(random);
        }
    }
}

fn restart(world: &mut World) {
    let off_ms = world.random.u64(..30_000);
    match world.random.u8(..12) {
        0 => world.cut_power(off_ms),
        1 => world.kill(off_ms),
        2 => world.reload(off_ms),
        _ => {}
    }
}

/// Everything is well again.
pub fn heal(world: &mut World) {
    for receiver in &mut world.receivers {
        receiver.up = true;
        receiver.slow_ms = 50;
        receiver.faults = Faults::default();
    }
    for target in &mut world.targets {
        target.mood = Mood::Well;
        target.takes_ms = 20;
    }
    world.mend_storage();
    if world.clock_error_ms.is_none() {
        world.set_clock(0);
    }
}
