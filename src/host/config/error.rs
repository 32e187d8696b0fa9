//! What is wrong with a configuration, and where.

use alloc::string::String;
use core::fmt;

/// A place in a file, both counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Position {
    /// From a scanner's line (from 1) and column (from 0).
    pub(super) fn of(line: usize, column: usize) -> Self {
        Self {
            line,
            column: column + 1,
        }
    }
}

/// A key that was accepted although it does nothing here, or a value that is likely a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file it stands in.
    pub file: String,
    /// Where in the file, if it is written there.
    pub position: Option<Position>,
    /// Path of the key: `scrape_configs[0].enable_http2`.
    pub key: String,
    /// What is ignored, and why.
    pub message: String,
}

/// Why a configuration cannot be used. Prints as `FILE:LINE:COLUMN: KEY: MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file; empty until known.
    pub file: String,
    /// Where in the file.
    pub position: Option<Position>,
    /// Path of the key: `scrape_configs[0].scrape_timeout`; empty for the file as a whole.
    pub key: String,
    /// What was found, what is accepted.
    pub message: String,
}

impl ConfigError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            position: None,
            key: String::new(),
            message: message.into(),
        }
    }

    pub(super) fn at(mut self, position: Position) -> Self {
        self.position = (position != Position::default()).then_some(position);
        self
    }

    pub(super) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    pub(super) fn file(mut self, file: impl Into<String>) -> Self {
        self.file = file.into();
        self
    }
}

fn place(f: &mut fmt::Formatter<'_>, file: &str, position: Option<Position>, key: &str) -> fmt::Result {
    if !file.is_empty() {
        f.write_str(file)?;
    }
    if let Some(Position { line, column }) = position {
        write!(f, ":{line}:{column}")?;
    }
    if !file.is_empty() || position.is_some() {
        f.write_str(": ")?;
    }
    if !key.is_empty() {
        write!(f, "{key}: ")?;
    }
    Ok(())
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.position, &self.key)?;
        f.write_str(&self.message)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.position, &self.key)?;
        f.write_str(&self.message)
    }
}

impl core::error::Error for ConfigError {}
