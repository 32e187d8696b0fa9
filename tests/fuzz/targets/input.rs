//! Decisions read off fuzz input: any bytes are a valid program, the end of the bytes is all zeros.

/// What is left of an input.
#[derive(Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `len` bytes, or as many as are left.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end <= 256 {
            usize::from(self.u8()) % end
        } else {
            usize::from(self.u16()) % end
        }
    }

    /// A piece whose length goes before it in two bytes.
    pub fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16());
        self.take(len)
    }
}
