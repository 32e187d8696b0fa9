//! What is to go wrong with which call of the medium.

/// Kinds of calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Write,
    Erase,
    Sync,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// EIO, this once; what was to be written is there in any state.
    Error,
    /// EIO on this block from now on.
    ErrorForEver,
    /// The end of the block is not filled, and nobody says so.
    Short,
    /// ENOSPC: nothing was written; every write until the power comes back.
    Full,
    /// EROFS: nothing can be changed until the power comes back.
    ReadOnly,
    /// Reports success and does nothing.
    Silent,
    /// The slot has gone bad in service.
    Bad,
}

/// One call that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub call: Call,
    pub kind: Kind,
    /// Which call of its kind, from 0.
    pub at: u64,
}

/// The calls so far and the one to fail.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub fault: Option<Fault>,
    counts: [u64; 4],
    /// The fault was met.
    pub met: bool,
    dead: Vec<u32>,
    read_only: bool,
    full: bool,
    forged: Vec<u32>,
    bad: Vec<u32>,
}

impl Plan {
    /// One fault to be met.
    pub fn with_fault(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::default()
        }
    }

    /// Slots that are bad from the beginning.
    pub fn with_bad(bad: &[u32]) -> Self {
        Self {
            bad: bad.to_vec(),
            ..Self::default()
        }
    }

    /// Counts a call; says how it fails, if it does.
    pub fn meets(&mut self, call: Call, block: u32) -> Option<Kind> {
        let fault = self.fault?;
        let at = self.counts[call as usize];
        self.counts[call as usize] += 1;
        if call == Call::Read {
            if self.dead.contains(&block) {
                return Some(Kind::ErrorForEver);
            }
        } else if self.read_only {
            return Some(Kind::ReadOnly);
        } else if self.full && call == Call::Write {
            return Some(Kind::Full);
        }
        if (fault.call, fault.at) != (call, at) {
            return None;
        }
        self.met = true;
        match fault.kind {
            Kind::ErrorForEver => self.dead.push(block),
            Kind::ReadOnly => self.read_only = true,
            Kind::Full => self.full = true,
            _ => {}
        }
        Some(fault.kind)
    }

    /// Whether a block that could be read may become one that cannot.
    pub fn may_lose_a_block(&self) -> bool {
        self.fault.is_some_and(|fault| fault.kind == Kind::ErrorForEver)
    }

    /// What lasts only as long as the power.
    pub fn power_on(&mut self) {
        (self.read_only, self.full) = (false, false);
    }

    /// An erase of the slot reported success and did nothing: programs on it are not the ring's fault.
    pub fn forge(&mut self, slot: u32) {
        self.forged.push(slot);
    }

    pub fn forged(&self, slot: u32) -> bool {
        self.forged.contains(&slot)
    }

    pub fn spoil(&mut self, slot: u32) {
        self.bad.push(slot);
    }

    pub fn is_bad(&self, slot: u32) -> bool {
        self.bad.contains(&slot)
    }
}
