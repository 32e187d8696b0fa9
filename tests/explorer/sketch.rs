//! How many different images were seen, within two per cent, in 16 KiB (HyperLogLog).

/// The registers.
#[derive(Clone, Debug)]
pub struct Sketch(Vec<u8>);

const BITS: u32 = 14;

impl Default for Sketch {
    fn default() -> Self {
        Self(vec![0; 1 << BITS])
    }
}

impl Sketch {
    /// Takes note of an image by its hash.
    pub fn note(&mut self, hash: u64) {
        let mixed = (hash ^ hash >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = mixed ^ mixed >> 29;
        let rank = (mixed << BITS | 1 << (BITS - 1)).leading_zeros() as u8 + 1;
        let register = &mut self.0[(mixed >> (64 - BITS)) as usize];
        *register = rank.max(*register);
    }

    /// Adds what another has seen.
    pub fn merge(&mut self, other: &Self) {
        for (mine, &other) in self.0.iter_mut().zip(&other.0) {
            *mine = other.max(*mine);
        }
    }

    /// The estimate.
    pub fn count(&self) -> u64 {
        let m = self.0.len() as f64;
        let sum: f64 = self.0.iter().map(|&rank| 0.5f64.powi(rank.into())).sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let empty = self.0.iter().filter(|&&rank| rank == 0).count() as f64;
        if raw < 2.5 * m && empty > 0.0 {
            (m * (m / empty).ln()) as u64
        } else {
            raw as u64
        }
    }
}
