//! What the memory plan foresees, and what is in use.

use super::super::exposition::{Kind, Writer};
use crate::host::app::pools::PoolUse;
use crate::host::app::shared::Shared;
use crate::host::heap::{HeapUse, OPERATIONS, arena_use, heap_use};
use core::fmt::{self, Display, Write};

/// `used` of `size`, to a thousandth.
struct Ratio(usize, usize);

impl Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = (self.0 as u64 * 1_000).checked_div(self.1 as u64).unwrap_or(0);
        write!(f, "{}.{:03}", thousandths / 1_000, thousandths % 1_000)
    }
}

pub(super) fn write<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    pools(out, shared)?;
    let HeapUse {
        live_bytes,
        peak_bytes,
        allocations,
    } = heap_use();
    let arena = arena_use();
    for (name, help, value) in [
        ("tidegate_heap_bytes", "Heap in use.", live_bytes),
        ("tidegate_heap_peak_bytes", "Most heap ever in use.", peak_bytes),
        (
            "tidegate_heap_limit_bytes",
            "Cap of the heap (tidegate.memory.limit).",
            shared.pools.limit,
        ),
        (
            "tidegate_arena_bytes",
            "What the pools leave of the limit for TLS, HTTP, reloads and this page.",
            arena.size,
        ),
        ("tidegate_arena_used_bytes", "Bytes of it in use.", arena.used),
        (
            "tidegate_arena_peak_bytes",
            "Most bytes of it in use since the pools were made.",
            arena.peak,
        ),
    ] {
        out.single(name, Kind::Gauge, help, value)?;
    }
    out.single(
        "tidegate_heap_allocations_total",
        Kind::Counter,
        "Allocations.",
        allocations,
    )?;
    out.single(
        "tidegate_heap_refused_total",
        Kind::Counter,
        "Allocations beyond the limit.",
        arena.refused,
    )?;
    out.family(
        "tidegate_out_of_memory_total",
        Kind::Counter,
        "Operations refused or ended because the arena was full.",
    )?;
    OPERATIONS
        .iter()
        .try_for_each(|operation| out.sample(&[("operation", &operation.name())], operation.refused()))
}

fn pools<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    out.family(
        "tidegate_pool_bytes",
        Kind::Gauge,
        "Memory planned for each pool, as 'tidegate check' lists it.",
    )?;
    let mut lines = shared.pools.lines.iter();
    lines.try_for_each(|(name, bytes)| out.sample(&[("pool", name)], bytes))?;
    ratios(
        out,
        shared,
        "tidegate_pool_used_ratio",
        "Share in use of the pools that fill up.",
        |found| found.used,
    )?;
    ratios(
        out,
        shared,
        "tidegate_pool_peak_ratio",
        "Most that was ever in use of them.",
        |found| found.peak,
    )
}

fn ratios<W: Write>(
    out: &mut Writer<'_, W>,
    shared: &Shared,
    name: &'static str,
    help: &str,
    of: fn(&PoolUse) -> usize,
) -> fmt::Result {
    out.family(name, Kind::Gauge, help)?;
    let mut uses = shared.pools.uses();
    uses.try_for_each(|(pool, found)| out.sample(&[("pool", &pool.name())], Ratio(of(&found), found.size)))
}
