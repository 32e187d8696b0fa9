//! The part of a receive buffer that holds bytes not yet consumed.

/// Bytes from `from` to `to` of `buf` have arrived and wait to be parsed.
pub(super) struct Received<'a> {
    buf: &'a mut [u8],
    from: usize,
    to: usize,
}

impl<'a> Received<'a> {
    /// An empty buffer.
    pub(super) fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, from: 0, to: 0 }
    }

    /// What waits to be parsed.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buf.get(self.from..self.to).unwrap_or_default()
    }

    /// Drops the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.from = (self.from + count).min(self.to);
    }

    /// The free end of the buffer, after moving what is left to its beginning; empty when it is full.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.buf.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        self.buf.get_mut(self.to..).unwrap_or_default()
    }

    /// Says that `count` bytes were put into [`Self::room`].
    pub(super) fn add(&mut self, count: usize) {
        self.to = (self.to + count).min(self.buf.len());
    }
}
