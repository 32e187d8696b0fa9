//! The built-in target: the agent's own metrics as an exposition, handed on in pieces without HTTP.
//!
//! Everything is rendered as often as there are pieces, each time keeping the lines that are next: no line depends on how many
//! were taken before, and as nothing else runs meanwhile their number stays the same. So one window on the stack is
//! all the memory it takes, whatever the number of remotes.
//!
//! Limits: [`WINDOW_BYTES`] for the longest line; a piece holds whole lines only.

use super::exposition::TextFormat;
use super::metrics;
use crate::host::app::shared::Shared;
use core::fmt;

/// Bytes of a piece, and of the longest line: twice what the longest label values of a remote take.
pub const WINDOW_BYTES: usize = 8 * 1024;

/// `Content-Type` of the exposition.
pub const CONTENT_TYPE: &str = TextFormat::Prometheus.content_type();

/// A line is longer than [`WINDOW_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

impl fmt::Display for LineTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line of the own metrics is longer than {WINDOW_BYTES} bytes")
    }
}

/// Hands the exposition to `take`, piece by piece, until it is complete or `take` wants no more.
///
/// # Errors
/// [`LineTooLong`]; what was handed on is incomplete.
pub fn exposition(shared: &Shared, take: impl FnMut(&[u8]) -> bool) -> Result<(), LineTooLong> {
    pieces(|window| metrics::write(window, TextFormat::Prometheus, shared), take)?;
    metrics::written();
    Ok(())
}

fn pieces(
    mut render: impl FnMut(&mut Window<'_>) -> fmt::Result,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(), LineTooLong> {
    let mut bytes = [0; WINDOW_BYTES];
    let mut from = 0;
    loop {
        let mut window = Window::new(&mut bytes, from);
        // A window takes whatever is written to it.
        let _ = render(&mut window);
        let Window {
            complete, next, full, ..
        } = window;
        if full && next == from {
            return Err(LineTooLong);
        }
        let wanted = take(bytes.get(..complete).unwrap_or_default());
        if !full || !wanted {
            return Ok(());
        }
        from = next;
    }
}

/// Keeps as many whole lines as fit, beginning with a certain one.
struct Window<'a> {
    bytes: &'a mut [u8],
    used: usize,
    /// Bytes of the whole lines among them.
    complete: usize,
    /// The line being written.
    line: usize,
    /// The first line to be kept.
    from: usize,
    /// The first line that is not in it.
    next: usize,
    full: bool,
}

impl<'a> Window<'a> {
    fn new(bytes: &'a mut [u8], from: usize) -> Self {
        Self {
            bytes,
            used: 0,
            complete: 0,
            line: 0,
            from,
            next: from,
            full: false,
        }
    }
}

impl fmt::Write for Window<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive('\n') {
            let wanted = self.line >= self.from && !self.full;
            if wanted {
                match self.bytes.get_mut(self.used..self.used + piece.len()) {
                    Some(room) => {
                        room.copy_from_slice(piece.as_bytes());
                        self.used += piece.len();
                    }
                    None => self.full = true,
                }
            }
            if piece.ends_with('\n') {
                self.line += 1;
                if wanted && !self.full {
                    self.complete = self.used;
                    self.next = self.line;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;
    use core::fmt::Write as _;

    fn taken(lines: &[String], wanted: usize) -> (Vec<String>, Result<(), LineTooLong>) {
        let mut all = Vec::new();
        let result = pieces(
            |window| lines.iter().try_for_each(|line| writeln!(window, "{line}")),
            |piece| {
                all.push(String::from_utf8(piece.to_vec()).expect("whole lines"));
                all.len() < wanted
            },
        );
        (all, result)
    }

    #[test]
    fn pieces_are_whole_lines_and_together_everything() {
        let lines: Vec<String> = (0..3_000).map(|n| alloc::format!("metric_{n} {}", n * n)).collect();
        let (pieces, result) = taken(&lines, usize::MAX);
        assert_eq!(result, Ok(()));
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.ends_with('\n')));
        assert_eq!(pieces.concat(), lines.join("\n") + "\n");
        let (pieces, _) = taken(&lines, 2);
        assert_eq!(pieces.len(), 2, "who wants no more gets no more");
    }

    #[test]
    fn a_line_that_cannot_fit_is_said_to_be_too_long() {
        let exact = "x".repeat(WINDOW_BYTES - 1);
        assert_eq!(taken(core::slice::from_ref(&exact), 9).1, Ok(()));
        assert_eq!(taken(&["a".into(), exact + "x"], 9).1, Err(LineTooLong));
        assert_eq!(taken(&[], 9), (alloc::vec![String::new()], Ok(())));
    }
}
