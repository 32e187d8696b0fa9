//! What the ring promises, one claim per test.

mod ring_support;

use ring_support::life::{append, fill, mount, mount_with, small};
use ring_support::{Told, World, boot, config, formatted, geometry, read_all, tell};
use tidegate::clock::{Instant, UnixMillis};
use tidegate::frame::{Frame, FrameNo, FrameSource, Next};
use tidegate::wal::dictionary::Compress;
use tidegate::wal::format::Medium;
use tidegate::wal::inspect::{Finding, Inspector};
use tidegate::wal::storage::Storage;
use tidegate::wal::testing::Ram;
use tidegate::wal::{
    AppendError, ClockSource, Commit, CommitError, CommitStep, MountError, Reason, RemoteConfig, Ring, WhenFull,
};

#[test]
fn with_the_uplink_up_nothing_is_ever_written() {
    let mut world = World::new(1);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    let before = ring.storage().writes;
    for _ in 0..2_000 {
        append(&mut ring, &mut world).expect("staging never fills");
        // A sender takes what there is, and hears of it a scrape later.
        let next = ring.next_frame();
        ring.cut();
        let due = ring.commit_due(Instant(world.now));
        assert!(due.is_none_or(|(at, _)| at > Instant(world.now)), "{due:?}");
        ring.acknowledge(0, FrameNo(next.0 - 1));
    }
    let all = ring.next_frame();
    ring.acknowledge(0, all);
    ring.close(&mut world.catalogue).expect("nothing to do");
    assert_eq!(ring.storage().writes, before);
    assert_eq!(ring.counters().frames_acknowledged_in_memory, 2_000);
}

#[test]
fn a_frame_waits_no_longer_than_the_commit_interval() {
    let mut world = World::new(2);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    let first = append(&mut ring, &mut world).expect("room");
    let (at, what) = ring.commit_due(Instant(world.now)).expect("one frame waits");
    assert_eq!((at, what), (Instant(first.time_ms + 60_000), Commit::All));
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    assert_eq!(ring.commit_due(Instant(world.now + 1_000_000)), None);
    // All that is on flash is acknowledged: that is worth a block, once.
    ring.acknowledge(0, ring.next_frame());
    assert_eq!(
        ring.commit_due(Instant(world.now)),
        Some((Instant(world.now), Commit::Acknowledgement))
    );
    let writes = ring.storage().writes;
    while ring
        .commit_step(&mut world.catalogue, Commit::Acknowledgement)
        .expect("the medium is sound")
        == CommitStep::NeedSync
    {
        let result = ring.storage_mut().sync();
        ring.synced(result);
    }
    assert_eq!(ring.storage().writes, writes + 1);
    assert_eq!(ring.commit_due(Instant(world.now)), None);
    let ram = ring.into_storage().crash(&[], 1);
    let (ring, report) = mount(ram, &mut world, 2);
    assert_eq!((report.backlog_frames, ring.acknowledged(0)), (0, FrameNo(1)));
}

#[test]
fn a_full_ring_drops_the_oldest_and_counts_every_frame() {
    let mut world = World::new(3);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    let told = fill(&mut ring, &mut world, 1_500);
    let lost = *ring.counters().loss(Reason::Lapped);
    assert!(lost.frames > 500, "{lost:?}");
    let read = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
    assert_eq!(read.len() as u64 + lost.frames, 1_500);
    let (gone, left) = told.split_at(lost.frames as usize);
    assert_eq!(read, left);
    let samples: usize = gone.iter().map(|told| told.samples.len()).sum();
    assert_eq!(lost.samples, samples as u64);
    let time = |told: Option<&Told>| told.and_then(|told| told.unix_ms);
    assert_eq!(
        (Some(lost.first_ms), Some(lost.last_ms)),
        (time(gone.first()), time(gone.last()))
    );
    // The ledger survives.
    ring.close(&mut world.catalogue).expect("the medium is sound");
    let (ring, report) = mount(ring.into_storage().crash(&[], 1), &mut world, 2);
    assert_eq!(*ring.counters().loss(Reason::Lapped), lost);
    assert_eq!(report.backlog_frames, left.len() as u64);
    assert!(report.clean);
    assert_eq!(
        ring.stats().backlog_samples,
        left.iter().map(|told| told.samples.len() as u64).sum()
    );
}

#[test]
fn a_ring_told_to_stop_keeps_the_backlog_and_counts_what_it_refuses() {
    let mut world = World::new(4);
    let ram = formatted(small(), 1);
    let mut config = config(&small(), 1);
    config.when_full = WhenFull::Stop;
    let (mut ring, _) = mount_with(ram, config, &mut world, 1);
    let mut kept = Vec::new();
    let mut refused = 0u64;
    while refused < 50 {
        match append(&mut ring, &mut world) {
            Ok(told) => kept.push(told),
            Err(AppendError::StagingFull) => {
                let result = ring.commit(&mut world.catalogue);
                assert!(matches!(result, Ok(()) | Err(CommitError::Full)));
            }
            Err(AppendError::Stopped) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(ring.stats().stopped);
    assert_eq!(ring.counters().loss(Reason::Stopped).frames, 50);
    assert_eq!(ring.counters().loss(Reason::Lapped).frames, 0);
    let read = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
    assert_eq!(read, kept);
    // An acknowledgement makes room again.
    ring.acknowledge(0, FrameNo(kept[kept.len() - 5].number));
    ring.commit(&mut world.catalogue).expect("there is room");
    append(&mut ring, &mut world).expect("there is room");
}

#[test]
fn restarts_go_on_in_the_same_segment_and_a_boot_loop_writes_nothing() {
    let mut world = World::new(5);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    let told = fill(&mut ring, &mut world, 3);
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    let head = ring.stats().head_seq;
    let mut ram = ring.into_storage();
    let writes = ram.writes;
    for number in 2..40 {
        let (ring, report) = mount(ram, &mut world, number);
        assert!(report.resumed_at.is_some() && report.catalogue_kept);
        ram = ring.into_storage().crash(&[], 1);
    }
    assert_eq!(ram.writes, writes);
    world.churn = false;
    let (mut ring, _) = mount(ram, &mut world, 40);
    let blocks = ring.storage().writes;
    let more = append(&mut ring, &mut world).expect("room");
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    // The definitions are still there: one block.
    assert_eq!((ring.stats().head_seq, ring.storage().writes - blocks), (head, 1));
    let read = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
    assert_eq!(read, [&told[..], &[more]].concat());
}

#[test]
fn another_configuration_begins_the_dictionary_anew_in_the_same_segment() {
    let mut world = World::new(6);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    let mut told = fill(&mut ring, &mut world, 3);
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    let ram = ring.into_storage();
    let mut changed = config(&small(), 1);
    changed.config_crc = 8;
    let (mut ring, report) = mount_with(ram, changed, &mut world, 2);
    assert!(report.resumed_at.is_some() && !report.catalogue_kept);
    assert!(world.catalogue.is_empty());
    world.coined = 1_000;
    told.extend(fill(&mut ring, &mut world, 3));
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told);
}

#[test]
fn a_best_effort_remote_does_not_hold_the_tail() {
    let mut world = World::new(7);
    let mut config = config(&small(), 2);
    config.remotes[1].best_effort = true;
    let (mut ring, _) = mount_with(formatted(small(), 1), config, &mut world, 1);
    let writes = ring.storage().writes;
    for _ in 0..300 {
        append(&mut ring, &mut world).expect("staging never fills");
        ring.cut();
        ring.acknowledge(0, ring.next_frame());
    }
    assert_eq!(ring.storage().writes, writes);
    let last = append(&mut ring, &mut world).expect("room");
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 1, FrameNo(0)), [last]);
    assert_eq!(ring.counters().loss(Reason::Damaged).frames, 0);
}

#[test]
fn remotes_that_are_gone_do_not_hide_what_those_of_today_acknowledged() {
    let geometry = geometry(512, 64, 4, Medium::Rewritable);
    let with_remotes = |ids: std::ops::Range<u32>| {
        let mut config = config(&geometry, 0);
        let remotes = ids.map(|id| RemoteConfig { id, best_effort: false });
        config.remotes.extend(remotes);
        config
    };
    let mut world = World::new(31);
    let (mut ring, _) = mount_with(formatted(geometry, 1), with_remotes(0..8), &mut world, 1);
    let told = fill(&mut ring, &mut world, 6);
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    for remote in 0..8 {
        ring.acknowledge(remote, FrameNo(told[1].number));
    }
    ring.close(&mut world.catalogue).expect("the medium is sound");
    let (mut ring, _) = mount_with(ring.into_storage(), with_remotes(8..10), &mut world, 2);
    let ends = [told[2].number, told[4].number].map(FrameNo);
    for (remote, end) in ends.into_iter().enumerate() {
        ring.acknowledge(remote, end);
    }
    ring.close(&mut world.catalogue).expect("the medium is sound");
    let (ring, _) = mount_with(ring.into_storage(), with_remotes(8..10), &mut world, 3);
    assert_eq!([0, 1].map(|remote| ring.acknowledged(remote)), ends);
}

#[test]
fn samples_from_before_the_clock_was_set_get_their_time_when_it_is() {
    let mut world = World::new(8);
    let ram = formatted(small(), 1);
    let mut dark = boot(1, world.now);
    dark.wall = None;
    let mounted = Ring::mount(ram, config(&small(), 1), dark, &mut world.catalogue);
    let (mut ring, _) = mounted.expect("the image is a ring");
    world.adopt();
    let told = fill(&mut ring, &mut world, 8);
    assert!(
        read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0))
            .iter()
            .all(|told| told.unix_ms.is_none())
    );
    ring.clock(Instant(100_000), UnixMillis(5_000_000), ClockSource::Synchronised, 10);
    append(&mut ring, &mut world).expect("room");
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    // Also in a later boot, from what is on flash.
    let (mut ring, report) = mount(ring.into_storage().crash(&[], 1), &mut world, 2);
    assert_eq!(report.last_wall_ms, 5_000_000);
    for (read, told) in read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0))
        .iter()
        .zip(&told)
    {
        assert_eq!(read.unix_ms, Some(told.time_ms as i64 + 4_900_000));
    }
}

#[test]
fn boots_that_never_knew_the_time_are_placed_before_the_next_one() {
    let mut world = World::new(81);
    let mut ram = formatted(small(), 1);
    let mut lives = Vec::new();
    for number in 1..3 {
        let mut dark = boot(number, world.now);
        dark.wall = None;
        let mounted = Ring::mount(ram, config(&small(), 1), dark, &mut world.catalogue);
        let (mut ring, _) = mounted.expect("the image is a ring");
        world.adopt();
        lives.push(fill(&mut ring, &mut world, 5));
        ring.commit(&mut world.catalogue).expect("the medium is sound");
        let all = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
        // As long as this boot does not know the time either, everything waits.
        assert!(all.iter().all(|told| told.unix_ms.is_none()));
        ram = ring.into_storage().crash(&[], 1);
        world.now = 1_000;
    }
    let (mut ring, _) = mount(ram, &mut world, 9);
    let told = append(&mut ring, &mut world).expect("room");
    // What they hang on is on flash first, so that no restart gives them another place.
    let all = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
    assert!(all.iter().filter_map(|told| told.unix_ms).count() <= 1);
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    let all = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
    assert_eq!(all.len(), 11);
    let times: Vec<i64> = all.iter().filter_map(|told| told.unix_ms).collect();
    assert_eq!(times.len(), 11);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    let began = told.unix_ms.expect("known") - told.time_ms as i64;
    assert_eq!(times[9], began - 1);
    // Within a boot the distances are true.
    for life in lives.iter().enumerate() {
        let (first, frames) = (life.0 * 5, life.1);
        assert_eq!(
            times[first + 4] - times[first],
            (frames[4].time_ms - frames[0].time_ms) as i64
        );
    }
    assert_eq!(ring.counters().frames_anchored, 10);
}

#[test]
fn frames_can_be_appended_and_read_while_a_sync_is_under_way() {
    let mut world = World::new(9);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    let mut told = fill(&mut ring, &mut world, 4);
    for _ in 0..40 {
        while ring
            .commit_step(&mut world.catalogue, Commit::All)
            .expect("the medium is sound")
            == CommitStep::NeedSync
        {
            told.push(append(&mut ring, &mut world).expect("room"));
            assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told);
            let result = ring.storage_mut().sync();
            told.push(append(&mut ring, &mut world).expect("room"));
            ring.synced(result);
        }
        assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told);
        ring.acknowledge(0, FrameNo(told[1].number));
        told.remove(0);
        let lapped = ring.counters().loss(Reason::Lapped).frames;
        assert_eq!(lapped, 0);
        if told.len() > 60 {
            ring.acknowledge(0, ring.next_frame());
            told.clear();
            told.extend(fill(&mut ring, &mut world, 3));
        }
    }
}

#[test]
fn a_reader_sent_back_by_one_frame_gives_it_out_again_and_goes_on() {
    for (seed, same_frame) in (0..40).flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut world = World::new(seed);
        let (mut ring, _) = mount(formatted(geometry(512, 16, 40, Medium::Rewritable), 1), &mut world, 1);
        let mut told = fill(&mut ring, &mut world, 12);
        let mut kept = Frame::with_extras(32, 4096);
        let (mut read, mut again) = (Vec::new(), false);
        loop {
            let mut fresh = Frame::with_extras(32, 4096);
            let frame = if same_frame || !again { &mut kept } else { &mut fresh };
            let mut source = ring.source(0, &mut world.catalogue);
            match source.next(frame).expect("the ring counts, it does not fail") {
                Next::Boundary => continue,
                Next::End => break,
                Next::Frame => {}
            }
            let now = tell(frame, source.names());
            if again {
                assert_eq!(read.last(), Some(&now), "seed {seed}");
                again = false;
                continue;
            }
            source.seek(FrameNo(now.number));
            again = true;
            let number = now.number;
            read.push(now);
            // What happens meanwhile: what stands before it is acknowledged, it moves to flash while others are added, whose series
            // may get the references of its own.
            if number.is_multiple_of(2) {
                ring.acknowledge(0, FrameNo(number));
            }
            if number.is_multiple_of(3) && told.len() < 60 {
                let all = Commit::All;
                while ring
                    .commit_step(&mut world.catalogue, all)
                    .expect("the medium is sound")
                    == CommitStep::NeedSync
                {
                    told.push(append(&mut ring, &mut world).expect("room"));
                    let result = ring.storage_mut().sync();
                    ring.synced(result);
                }
                told.push(append(&mut ring, &mut world).expect("room"));
            }
            if number.is_multiple_of(7) {
                ring.cut();
            }
        }
        assert_eq!(read, told, "seed {seed}");
    }
}

#[test]
fn a_medium_that_takes_no_writes_leaves_a_ring_in_memory_and_is_tried_again() {
    let mut world = World::new(10);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    fill(&mut ring, &mut world, 3);
    ring.storage_mut().fail_from = 0;
    assert_eq!(ring.commit(&mut world.catalogue), Err(CommitError::Degraded));
    assert!(ring.stats().degraded);
    let mut last = None;
    for _ in 0..300 {
        last = Some(append(&mut ring, &mut world).expect("the oldest makes room"));
    }
    let read = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
    let lost = ring.counters().loss(Reason::WriteError).frames;
    assert_eq!(read.len() as u64 + lost, 303);
    assert_eq!(read.last(), last.as_ref());
    let (at, _) = ring.commit_due(Instant(world.now)).expect("frames wait");
    assert!(at <= Instant(world.now));
    ring.storage_mut().fail_from = u64::MAX;
    ring.commit(&mut world.catalogue).expect("the medium is sound again");
    assert!(!ring.stats().degraded);
    let (mut ring, _) = mount(ring.into_storage().crash(&[], 1), &mut world, 2);
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), read);
    assert_eq!(ring.counters().loss(Reason::WriteError).frames, lost);
}

#[test]
fn bad_slots_are_passed_over() {
    for medium in [Medium::Rewritable, Medium::WriteOnce] {
        let mut world = World::new(11);
        let shape = geometry(512, 16, 5, medium);
        let mut ram = formatted(shape, 1);
        ram.bad = vec![2];
        let (mut ring, report) = mount(ram, &mut world, 1);
        assert_eq!(report.bad_slots, 1);
        let told = fill(&mut ring, &mut world, 1_000);
        ring.commit(&mut world.catalogue).expect("four slots are sound");
        let lost = ring.counters().loss(Reason::Lapped).frames as usize;
        assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told[lost..]);
        let (mut ring, _) = mount(ring.into_storage().crash(&[], 1), &mut world, 2);
        assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told[lost..]);
    }
}

#[test]
fn a_ring_of_another_shape_or_none_is_refused_and_left_alone() {
    let mut world = World::new(12);
    let mut other = config(&small(), 1);
    other.ring_bytes *= 2;
    let refused = Ring::mount(formatted(small(), 1), other, boot(1, 0), &mut world.catalogue);
    assert!(matches!(refused, Err(MountError::Geometry { .. })));
    let blank = Ring::mount(
        Ram::new(small(), 1),
        config(&small(), 1),
        boot(1, 0),
        &mut world.catalogue,
    );
    assert!(matches!(blank, Err(MountError::NotFormatted)));
    let mut nobody = config(&small(), 1);
    nobody.remotes.clear();
    let refused = Ring::mount(formatted(small(), 1), nobody, boot(1, 0), &mut world.catalogue);
    assert!(matches!(refused, Err(MountError::Config("remotes"))));
}

#[test]
fn definitions_that_take_several_rounds_all_stand_before_the_frames() {
    use tidegate::catalogue::{Catalogue, SeriesText};
    use tidegate::sample::{MetricType, TargetRef};
    let shape = geometry(4096, 32, 4, Medium::Rewritable);
    let mut long = config(&shape, 1);
    long.text_bytes = 60_000;
    let mut world = World::new(20);
    world.catalogue = Catalogue::new(ring_support::MAX_SERIES, 60_000, 8);
    let (mut ring, _) = mount_with(formatted(shape, 1), long, &mut world, 1);
    for i in 0..40u64 {
        let noise = fastrand::Rng::with_seed(i);
        let body: String = core::iter::repeat_with({
            let mut noise = noise;
            move || noise.alphanumeric()
        })
        .take(800)
        .collect();
        let text = SeriesText {
            name: "long",
            body: &format!("a=\"{body}\""),
        };
        let series = world
            .catalogue
            .define(TargetRef(0), text, MetricType::Gauge)
            .expect("60 kB are enough");
        world.series[0].push((series, i as i64));
        world.series[1].clear();
    }
    world.churn = false;
    let told = fill(&mut ring, &mut world, 4);
    let syncs = ring.storage().syncs;
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    assert!(ring.storage().syncs - syncs > 1);
    let ram = ring.into_storage().crash(&[], 1);
    let mut long = config(&shape, 1);
    long.text_bytes = 60_000;
    let (mut ring, report) = mount_with(ram, long, &mut world, 2);
    assert!(report.catalogue_kept);
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told);
}

struct Deflate;

impl Compress for Deflate {
    fn method(&self) -> u8 {
        200
    }
    fn compress(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut state = flate2::Compress::new(flate2::Compression::best(), false);
        let status = state.compress(raw, out, flate2::FlushCompress::Finish).ok()?;
        (status == flate2::Status::StreamEnd).then_some(state.total_out() as usize)
    }
    fn decompress(&mut self, method: u8, packed: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut state = flate2::Decompress::new(false);
        let status = state.decompress(packed, out, flate2::FlushDecompress::Finish).ok()?;
        (method == 200 && status == flate2::Status::StreamEnd).then_some(state.total_out() as usize)
    }
}

#[test]
fn dictionaries_may_be_compressed() {
    let mut world = World::new(13);
    let mut packed = config(&small(), 1);
    packed.compress = Some(Box::new(Deflate));
    let (mut ring, _) = mount_with(formatted(small(), 1), packed, &mut world, 1);
    let mut told = fill(&mut ring, &mut world, 12);
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told);
    let ram = ring.into_storage().crash(&[], 1);
    // A reader without the compressor cannot name the series: nothing is read, and nothing is wrongly named.
    let (mut bare, report) = mount(ram.clone(), &mut world, 2);
    assert!(!report.catalogue_kept);
    assert_eq!(read_all(&mut bare, &mut world.catalogue, 0, FrameNo(0)), []);
    let mut packed = config(&small(), 1);
    packed.compress = Some(Box::new(Deflate));
    let (mut ring, report) = mount_with(ram, packed, &mut world, 3);
    assert!(report.catalogue_kept);
    told.extend(fill(&mut ring, &mut world, 3));
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told);
}

#[test]
fn the_reader_says_boundary_before_names_change() {
    let mut world = World::new(14);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    let told = fill(&mut ring, &mut world, 150);
    let mut frame = Frame::with_extras(32, ring_support::EXTRAS_BYTES);
    let mut source = ring.source(0, &mut world.catalogue);
    let mut held: Vec<(Vec<tidegate::sample::SeriesRef>, Vec<String>)> = Vec::new();
    let (mut read, mut boundaries) = (0, 0);
    loop {
        let next = source.next(&mut frame).expect("the ring counts, it does not fail");
        if next == Next::Boundary || next == Next::End {
            // What was gathered is named only now.
            for (series, names) in held.drain(..) {
                for (series, name) in series.iter().zip(&names) {
                    assert_eq!(&ring_support::name(source.names(), *series), name);
                }
            }
            boundaries += 1;
            if next == Next::End {
                break;
            }
            continue;
        }
        let series: Vec<_> = frame.samples.iter().map(|sample| sample.series).collect();
        let names = told[read].samples.iter().map(|(name, _)| name.clone()).collect();
        held.push((series, names));
        read += 1;
    }
    assert_eq!(read, 150);
    assert!(boundaries > 3);
}

/// A ring of several segments with everything committed; what was appended.
fn several_segments(seed: u64) -> (Ram, Vec<Told>, World) {
    let mut world = World::new(seed);
    let shape = geometry(512, 16, 8, Medium::Rewritable);
    let (mut ring, _) = mount(formatted(shape, 1), &mut world, 1);
    let mut told = Vec::new();
    while ring.stats().head_seq < 4 {
        told.extend(fill(&mut ring, &mut world, 10));
    }
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    (ring.into_storage().crash(&[], 1), told, world)
}

#[test]
fn any_damaged_block_costs_at_most_its_segment_and_is_counted_and_nothing_is_invented() {
    let (ram, told, mut world) = several_segments(15);
    let size = 512;
    let blocks = ram.image().len() / size;
    let mut worst = 0;
    for block in 0..blocks {
        let original: Vec<u8> = ram.image()[block * size..(block + 1) * size].to_vec();
        if original.iter().all(|&b| b == 0xff || b == 0) {
            continue;
        }
        let mut torn = original.clone();
        torn[size / 2..].fill(0);
        let mut flipped = original.clone();
        flipped[40] ^= 0x10;
        for bad in [flipped, torn, vec![0; size], vec![0xff; size]] {
            if bad[..32 + usize::from(original[10])] == original[..32 + usize::from(original[10])] {
                continue;
            }
            let mut image = ram.clone();
            image.damage(|bytes| bytes[block * size..(block + 1) * size].copy_from_slice(&bad));
            let (mut ring, _) = mount(image, &mut world, 2);
            let from = ring.acknowledged(0);
            let read = read_all(&mut ring, &mut world.catalogue, 0, from);
            let mut rest = told.iter();
            for read in &read {
                assert!(
                    rest.any(|told| told == read),
                    "block {block}: frame {} is invented",
                    read.number
                );
            }
            worst = worst.max(told.len() - read.len());
            // It goes on.
            let more = append(&mut ring, &mut world).expect("room");
            ring.commit(&mut world.catalogue).expect("the medium is sound");
            let found = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(more.number));
            assert_eq!(found, [more], "block {block}");
            let all = read_all(&mut ring, &mut world.catalogue, 0, from);
            let counted: u64 = Reason::ALL
                .iter()
                // What was in memory is estimated from above.
                .filter(|&&reason| reason != Reason::Crash)
                .map(|&reason| ring.counters().loss(reason).frames)
                .sum();
            let ends_early = told.last().map(|told| told.number) != read.last().map(|read| read.number);
            let lost = (told.len() + 1 - all.len()) as u64;
            // Behind the damage nothing tells how many frames there were: a power cut looks the same.
            assert!(
                counted == lost || (ends_early && counted <= lost),
                "block {block}: {counted} of {lost} counted"
            );
        }
    }
    assert!(worst > 0 && worst <= told.len() / 2, "{worst} of {}", told.len());
}

#[test]
fn identity_is_found_without_superblocks_and_tools_see_every_fault() {
    let (ram, told, mut world) = several_segments(16);
    let mut inspector = Inspector::open(ram.clone(), None).expect("a ring");
    let sound = inspector.survey(|_, _| {});
    assert_eq!((sound.findings, sound.segments, sound.head_seq), (0, 4, 4));
    assert_eq!(sound.total.frame_count, told.len() as u64);
    assert_eq!(sound.backlog_frames, told.len() as u64);
    let samples: usize = told.iter().map(|told| told.samples.len()).sum();
    assert_eq!(sound.total.samples, samples as u64);

    let mut image = ram.clone();
    image.damage(|bytes| bytes[512 * 16 + 5 * 512 + 60] ^= 1);
    image.forget_superblocks();
    let mut inspector = Inspector::open(image.clone(), None).expect("a ring");
    let mut findings = Vec::new();
    let broken = inspector.survey(|_, event| {
        if let tidegate::wal::inspect::Event::Finding(finding) = event {
            findings.push(**finding);
        }
    });
    assert_eq!(broken.findings as usize, findings.len());
    assert!(
        findings
            .iter()
            .any(|f| matches!(f, Finding::Superblock { last: true, .. }))
    );
    assert!(
        findings
            .iter()
            .any(|f| matches!(f, Finding::Block { slot: 1, index: 5, .. }))
    );
    let (ring, report) = mount(image, &mut world, 2);
    assert_eq!((report.head_seq, ring.uuid()), (4, &ring_support::UUID));
}

#[test]
fn arbitrary_images_mount_or_are_refused_and_never_panic() {
    let (ram, _, mut world) = several_segments(17);
    let mut rng = fastrand::Rng::with_seed(17);
    for _ in 0..400 {
        let mut image = ram.clone();
        image.damage(|bytes| {
            let size = 512;
            let blocks = bytes.len() / size;
            for _ in 0..rng.usize(1..8) {
                let (a, b) = (rng.usize(0..blocks), rng.usize(0..blocks));
                match rng.u8(0..4) {
                    0 => bytes.copy_within(a * size..(a + 1) * size, b * size),
                    1 => bytes[a * size..(a + 1) * size].fill(rng.u8(..)),
                    2 => {
                        for _ in 0..rng.usize(1..9) {
                            bytes[a * size + rng.usize(0..size)] ^= 1 << rng.u8(0..8);
                        }
                    }
                    _ => {
                        for byte in &mut bytes[a * size..(a + 1) * size] {
                            *byte = rng.u8(..);
                        }
                    }
                }
            }
        });
        Inspector::open(image.clone(), None)
            .expect("a superblock")
            .survey(|_, _| {});
        let (mut ring, _) = mount(image, &mut world, 2);
        read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
        let more = append(&mut ring, &mut world).expect("room");
        ring.commit(&mut world.catalogue).expect("the medium is sound");
        assert_eq!(
            read_all(&mut ring, &mut world.catalogue, 0, FrameNo(more.number)),
            [more]
        );
    }
}
