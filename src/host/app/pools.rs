//! The memory plan as the running agent tells of it: size of every pool, use and high-water mark of those that fill up.
//!
//! Use is looked at after each scrape and each request, where it is highest: that costs a few reads. The other pools of the plan are of
//! one piece and always in use.

use super::shared::Shared;
use crate::host::config::MemoryPlan;
use alloc::boxed::Box;
use core::cell::Cell;

/// A pool that fills up, under its name in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Exposed texts.
    SeriesTable,
    /// Names and labels.
    Catalogue,
    /// Types, helps and units.
    Metadata,
    /// Blocks that wait to be written or acknowledged.
    Staging,
    /// Scrape workers.
    Scrapes,
    /// Samples of the requests to all remotes.
    Batches,
}

/// All of them.
pub const POOLS: [Pool; 6] = [
    Pool::SeriesTable,
    Pool::Catalogue,
    Pool::Metadata,
    Pool::Staging,
    Pool::Scrapes,
    Pool::Batches,
];

impl Pool {
    /// Name of its line in the plan.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SeriesTable => "series table",
            Self::Catalogue => "catalogue",
            Self::Metadata => "metadata",
            Self::Staging => "staging",
            Self::Scrapes => "scrapes",
            Self::Batches => "batches",
        }
    }
}

/// How full a pool is, and was at most, in parts of its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// In use now.
    pub used: usize,
    /// In use at most so far.
    pub peak: usize,
    /// Room.
    pub size: usize,
}

/// The plan's lines, and what is known of their use.
pub struct Pools {
    /// Cap of the heap, bytes.
    pub limit: usize,
    /// Name and bytes of every pool.
    pub lines: Box<[(&'static str, usize)]>,
    uses: [Cell<PoolUse>; POOLS.len()],
}

impl Pools {
    /// The pools of `plan`, none of them in use.
    #[must_use]
    pub fn new(plan: &MemoryPlan) -> Self {
        Self {
            limit: plan.limit,
            lines: plan.lines.iter().map(|line| (line.name, line.bytes)).collect(),
            uses: Default::default(),
        }
    }

    /// Use of each pool that fills up, in the order of [`POOLS`].
    pub fn uses(&self) -> impl Iterator<Item = (Pool, PoolUse)> {
        POOLS.into_iter().zip(self.uses.iter().map(Cell::get))
    }

    fn note(&self, pool: Pool, used: usize, size: usize) {
        if let Some(cell) = self.uses.get(pool as usize) {
            let peak = cell.get().peak.max(used);
            cell.set(PoolUse { used, peak, size });
        }
    }

    /// A worker has begun a scrape (+1), or ended one (-1).
    pub fn scraping(&self, change: isize, workers: usize) {
        if let Some(cell) = self.uses.get(Pool::Scrapes as usize) {
            self.note(Pool::Scrapes, cell.get().used.saturating_add_signed(change), workers);
        }
    }

    /// A batch holds `samples` of the `size` there is room for.
    pub fn batch(&self, samples: usize, size: usize) {
        self.note(Pool::Batches, samples, size);
    }
}

/// Looks at the pools that a scrape fills.
pub fn stored(shared: &Shared) {
    let agent = shared.agent.borrow();
    let (table, catalogue, metadata) = (agent.table(), agent.catalogue(), agent.metadata());
    let (blocks, room) = agent.ring().staging_use();
    let pools = &shared.pools;
    pools.note(Pool::SeriesTable, table.texts(), table.capacity());
    pools.note(Pool::Catalogue, catalogue.text_bytes_used(), shared.sizes.text_bytes);
    pools.note(Pool::Metadata, metadata.text_bytes_used(), metadata.text_bytes());
    pools.note(Pool::Staging, blocks, room);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_stays_when_use_falls() {
        let plan = MemoryPlan {
            lines: alloc::vec![],
            total: 10,
            limit: 20,
        };
        let pools = Pools::new(&plan);
        for change in [1, 1, -1] {
            pools.scraping(change, 3);
        }
        pools.batch(7, 9);
        let of = |pool: Pool| pools.uses().find(|(other, _)| *other == pool).map(|(_, found)| found);
        let scrapes = PoolUse {
            used: 1,
            peak: 2,
            size: 3,
        };
        assert_eq!(of(Pool::Scrapes), Some(scrapes));
        let batches = PoolUse {
            used: 7,
            peak: 7,
            size: 9,
        };
        assert_eq!(of(Pool::Batches), Some(batches));
        assert_eq!(of(Pool::Staging), Some(PoolUse::default()));
    }
}
