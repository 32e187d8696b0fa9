//! FRAME records from anywhere: what decodes comes back unchanged when it is encoded and decoded again.

use super::input::Input;
use tidegate::frame::{Bounded, Frame};
use tidegate::value::codec::CodecId;
use tidegate::wal::record::{MAX_COUNT, Start};
use tidegate::wal::testing::FrameCoding;

const SAMPLES: usize = 64;
const EXTRAS_BYTES: usize = 512;

fn same(a: &Frame, b: &Frame) {
    assert_eq!(
        (a.target, a.up, a.time_ms, a.duration_100us, a.counts),
        (b.target, b.up, b.time_ms, b.duration_100us, b.counts)
    );
    let bits = |frame: &Frame| -> Vec<(u16, u64)> {
        let samples = frame.samples.iter();
        samples.map(|s| (s.series.0, s.number.to_bits())).collect()
    };
    assert_eq!(bits(a), bits(b));
    // Those of a failed scrape belong to no sample; they are not written.
    if a.up {
        assert_eq!(a.extras.as_bytes(), b.extras.as_bytes());
    }
    assert_eq!((&*a.explicit, &*a.stale), (&*b.explicit, &*b.stale));
}

/// The input: codec, number of series, boot time, then records, each behind its length.
pub fn frame_decode(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let codec = if options & 1 == 0 { CodecId::Tc0 } else { CodecId::Tc1 };
    let max_series = 1 + input.below(SAMPLES);
    let start = Start {
        epoch: 1,
        boot_id: [7; 16],
        mono_ms: if options & 2 == 0 { 1_000 } else { input.u64() },
        wall_ms: 0,
        clock: 0,
        error_ms: 0,
        frame_no: if options & 4 == 0 { 0 } else { input.u64() % MAX_COUNT },
        prior: 0,
        config_crc: 0,
    };
    let mut foreign = FrameCoding::new(codec, max_series);
    let mut own = FrameCoding::new(codec, max_series);
    foreign.start(&start);
    own.start(&start);
    let mut frame = Frame::with_extras(SAMPLES, EXTRAS_BYTES);
    let mut again = Frame::with_extras(SAMPLES, EXTRAS_BYTES);
    let mut out = Bounded::with_capacity(8 * 1024);
    while !input.is_empty() {
        if foreign.decode(input.piece(), &mut frame).is_err() {
            foreign.start(&start);
            own.start(&start);
            continue;
        }
        assert!(frame.samples.iter().all(|s| usize::from(s.series.0) < max_series));
        assert!(frame.up || frame.samples.is_empty());
        out.clear();
        own.encode(&frame, &mut out).expect("64 samples fit into 8 KiB");
        own.decode(&out, &mut again).expect("own bytes decode");
        same(&frame, &again);
    }
}
