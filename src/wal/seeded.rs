//! Faults put into the ring on purpose, one at a time, to see that its tests catch them.
//!
//! Without the feature `seeded-faults`, which is for tests only, every question here is answered `false` at compile time
//! and nothing of it is left. `scripts/seeded-faults` tries them all.

/// A fault, by the rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// A block continues the stream whatever its offset.
    OffsetIgnored = 1,
    /// A block of another epoch continues the stream, and passes for a copy.
    EpochIgnored,
    /// The first block of an epoch does not say RESUME.
    NoResume,
    /// The checksum leaves the payload out.
    HeaderOnly,
    /// Writing goes on at the first hole of the head segment.
    FirstHole,
    /// Blocks of earlier laps belong to the segment.
    SequenceIgnored,
    /// The checksum does not know the slot.
    SlotIgnored,
    /// The next segment is opened without a sync.
    NoSync,
    /// Copies of a block are read again.
    CopiesKept,
    /// After a gap reading goes on at once.
    GapIgnored,
    /// Blocks do not carry the acknowledgement.
    AckNotWritten,
    /// Staged blocks are forgotten although their sync failed.
    ForgottenEarly,
    /// The checksum does not know the ring: blocks of another pass.
    UuidIgnored,
}

impl Fault {
    /// Every fault.
    #[cfg(feature = "seeded-faults")]
    pub const ALL: [Self; 13] = [
        Self::OffsetIgnored,
        Self::EpochIgnored,
        Self::NoResume,
        Self::HeaderOnly,
        Self::FirstHole,
        Self::SequenceIgnored,
        Self::SlotIgnored,
        Self::NoSync,
        Self::CopiesKept,
        Self::GapIgnored,
        Self::AckNotWritten,
        Self::ForgottenEarly,
        Self::UuidIgnored,
    ];
}

#[cfg(feature = "seeded-faults")]
static SEEDED: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

/// Puts a fault into every ring of this process, or takes it out.
#[cfg(feature = "seeded-faults")]
pub fn seed(fault: Option<Fault>) {
    SEEDED.store(
        fault.map_or(0, |fault| fault as u8),
        core::sync::atomic::Ordering::Relaxed,
    );
}

/// Whether the fault is in.
#[cfg(feature = "seeded-faults")]
pub(crate) fn is(fault: Fault) -> bool {
    SEEDED.load(core::sync::atomic::Ordering::Relaxed) == fault as u8
}

/// Whether the fault is in: never.
#[cfg(not(feature = "seeded-faults"))]
pub(crate) const fn is(_: Fault) -> bool {
    false
}
