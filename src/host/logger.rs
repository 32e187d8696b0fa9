//! Log lines: `key=value`, one per event, formatted on the stack.
//!
//! Under journald (`JOURNAL_STREAM` names our standard error) a line starts with the priority
//! `<N>` that journald parses; elsewhere with time and level. A line longer than
//! `LINE_BYTES` is cut and ends in `...`. Writing never allocates and never fails the caller.

use core::fmt::{self, Write as _};
use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Bytes of the longest log line, on the stack while it is written.
const LINE_BYTES: usize = 1024;

struct Logger {
    journald: bool,
}

static PLAIN: Logger = Logger { journald: false };
static JOURNALD: Logger = Logger { journald: true };

/// Installs the logger at `level`; journald's prefix is chosen from the environment.
///
/// A second call changes the level only.
pub fn init(level: LevelFilter) {
    let logger = if std::env::var_os("JOURNAL_STREAM").is_some() {
        &JOURNALD
    } else {
        &PLAIN
    };
    // An error means that a logger is installed already: ours, from the first call.
    let _ = log::set_logger(logger);
    log::set_max_level(level);
}

/// A line under construction; what does not fit is dropped and marked.
struct Line {
    bytes: heapless::Vec<u8, LINE_BYTES>,
    cut: bool,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            // Control characters from a target or receiver must not forge a second line.
            let byte = if byte < 0x20 { b' ' } else { byte };
            if self.bytes.len() >= LINE_BYTES - 4 {
                self.cut = true;
                break;
            }
            // Cannot fail: the length was checked just above.
            let _ = self.bytes.push(byte);
        }
        Ok(())
    }
}

/// Writes a value, quoted when it holds a blank, a quote or an equals sign.
struct Quoted<'a>(&'a mut Line);

impl fmt::Write for Quoted<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive('"') {
            match piece.strip_suffix('"') {
                Some(head) => write!(self.0, "{head}\\\"")?,
                None => self.0.write_str(piece)?,
            }
        }
        Ok(())
    }
}

/// Finds out whether a value needs quotes without keeping it.
struct NeedsQuotes(bool);

impl fmt::Write for NeedsQuotes {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 |= text.bytes().any(|b| b <= b' ' || b == b'"' || b == b'=');
        Ok(())
    }
}

fn pair(line: &mut Line, key: &str, value: &dyn fmt::Display) -> fmt::Result {
    let mut probe = NeedsQuotes(false);
    write!(probe, "{value}")?;
    write!(line, " {key}=")?;
    if !probe.0 {
        return write!(line, "{value}");
    }
    line.write_char('"')?;
    write!(Quoted(line), "{value}")?;
    line.write_char('"')
}

struct Pairs<'a>(&'a mut Line);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        pair(self.0, key.as_str(), &value).map_err(log::kv::Error::from)
    }
}

fn format_line(line: &mut Line, journald: bool, record: &Record<'_>) -> fmt::Result {
    if journald {
        let priority = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        write!(line, "<{priority}>msg=")?;
    } else {
        let now = super::runtime::unix_now().0;
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        write!(line, "ts={} level={level} msg=", super::civil::Timestamp(now))?;
    }
    line.write_char('"')?;
    write!(Quoted(line), "{}", record.args())?;
    line.write_char('"')?;
    record.key_values().visit(&mut Pairs(line)).map_err(|_| fmt::Error)
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The HTTP engine names every state it goes through at debug; that is for trace.
        let ours = metadata.target().starts_with("tidegate") || log::max_level() == LevelFilter::Trace;
        metadata.level() <= log::max_level() && (ours || metadata.level() <= Level::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = Line {
            bytes: heapless::Vec::new(),
            cut: false,
        };
        // A formatting error leaves what was written so far, which is still worth printing.
        let _ = format_line(&mut line, self.journald, record);
        let tail: &[u8] = if line.cut { b"...\n" } else { b"\n" };
        // Four bytes are kept free for the tail.
        let _ = line.bytes.extend_from_slice(tail);
        // Standard error gone: nobody is left to tell.
        let _ = std::io::Write::write(&mut std::io::stderr(), &line.bytes);
    }

    fn flush(&self) {}
}
