//! From a path to a checked configuration.

use super::error::{ConfigError, Position, Warning};
use super::read::{Read, record};
use super::yaml::{self, MAX_CONFIG_BYTES};
use super::{Config, Loaded, Origin, ScrapeConfig, check, glob, resolve};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::fs::File;
use std::io::Read as _;
use zeroize::Zeroizing;

/// A check that failed: which file, which key. Becomes a [`ConfigError`] once the line was looked up.
#[derive(Debug)]
pub(super) struct Fault {
    /// As in [`Origin::file`].
    pub file: usize,
    /// Path of the key in that file.
    pub key: String,
    /// What was found, what is accepted.
    pub message: String,
}

impl Fault {
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: 0,
            key: key.into(),
            message: message.into(),
        }
    }
}

record! {
    /// What one file of `scrape_config_files` holds.
    #[derive(Default)]
    struct Jobs {
        scrape_configs: Vec<ScrapeConfig>,
    }
}

/// The text of a file, wiped when dropped because it may hold secrets.
///
/// # Errors
/// The file cannot be read, is too large, or is not UTF-8.
fn read_text(path: &str) -> Result<Zeroizing<String>, ConfigError> {
    let error = |message: String| ConfigError::new(message).file(path);
    let file = File::open(path).map_err(|e| error(format!("open: {e}")))?;
    let mut bytes = Zeroizing::new(Vec::new());
    // One byte more than allowed, so that a file of exactly the limit is told from a larger one.
    let limit = MAX_CONFIG_BYTES as u64 + 1;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| error(format!("read: {e}")))?;
    if bytes.len() > MAX_CONFIG_BYTES {
        return Err(error(format!("the file is larger than {MAX_CONFIG_BYTES} bytes")));
    }
    match String::from_utf8(core::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(e) => {
            let valid = e.utf8_error().valid_up_to();
            *bytes = e.into_bytes();
            let before = bytes.get(..valid).unwrap_or_default();
            let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
            let line = 1 + before.iter().filter(|b| **b == b'\n').count();
            // Characters begin at bytes other than 10xxxxxx.
            let column = before
                .get(start..)
                .unwrap_or_default()
                .iter()
                .filter(|b| **b & 0xc0 != 0x80)
                .count();
            Err(error("not UTF-8 text".into()).at(Position::of(line, column)))
        }
    }
}

/// Reads one file and puts its name to what is said about it.
pub(super) fn read<T: Read>(path: &str, warnings: &mut Vec<Warning>) -> Result<T, ConfigError> {
    let text = read_text(path)?;
    if path.ends_with(".json") || path.ends_with(".JSON") {
        return parse(&join_surrogates(&text), path, warnings);
    }
    parse(&text, path, warnings)
}

/// JSON's `\ud83d\ude00` as the character it stands for: the one thing that JSON has and YAML has not.
fn join_surrogates(text: &str) -> Cow<'_, str> {
    let unit = |at: usize| {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(hex, 16).ok()
    };
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        let pair = unit(at).zip(unit(at + 6)).map(|(high, low)| [high, low]);
        match pair.and_then(|pair| char::decode_utf16(pair).next()?.ok().filter(|c| c.len_utf16() == 2)) {
            Some(joined) => {
                out.push_str(text.get(copied..at).unwrap_or_default());
                out.push(joined);
                at += 12;
                copied = at;
            }
            // What is escaped may be a backslash itself.
            None => at += 2,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

fn parse<T: Read>(text: &str, path: &str, warnings: &mut Vec<Warning>) -> Result<T, ConfigError> {
    let (value, mut found) = yaml::from_str(text).map_err(|e| e.file(path))?;
    for warning in &mut found {
        warning.file = path.to_string();
    }
    warnings.append(&mut found);
    Ok(value)
}

/// Looks up a variable of the environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The files a configuration consists of: its own text, and the paths of all.
struct Files<'a> {
    text: &'a str,
    paths: Vec<String>,
}

impl Files<'_> {
    /// Finds the line of a failed check; included files are read again, since that is rare.
    fn explain(&self, fault: Fault) -> ConfigError {
        let file = self.paths.get(fault.file).map_or("", String::as_str);
        let position = match fault.file {
            0 => yaml::locate(self.text, &fault.key),
            _ => read_text(file).ok().and_then(|text| yaml::locate(&text, &fault.key)),
        };
        ConfigError {
            file: file.to_string(),
            position,
            key: fault.key,
            message: fault.message,
        }
    }
}

/// [`Config::load`] with the environment given.
pub(super) fn load(path: &str, env: Environment<'_>) -> Result<Loaded, ConfigError> {
    from_text(&read_text(path)?, path, env)
}

/// [`Config::from_text`] with the environment given.
pub(super) fn from_text(text: &str, path: &str, env: Environment<'_>) -> Result<Loaded, ConfigError> {
    let mut warnings = Vec::new();
    let mut config: Config = parse(text, path, &mut warnings)?;
    resolve::absolute_paths(&mut config, path);
    for (index, job) in config.scrape_configs.iter_mut().enumerate() {
        job.origin = Origin { file: 0, index };
        resolve::absolute_job_paths(job, path);
    }
    let mut files = Files {
        text,
        paths: alloc::vec![path.to_string()],
    };
    merge_job_files(&mut config, &mut files, &mut warnings)?;
    let mut notes = Vec::new();
    let result = resolve::defaults(&mut config, env, &mut notes).and_then(|()| check::check(&config, &mut notes));
    for note in notes {
        let ConfigError {
            file,
            position,
            key,
            message,
        } = files.explain(note);
        warnings.push(Warning {
            file,
            position,
            key,
            message,
        });
    }
    match result {
        Ok(()) => Ok(Loaded { config, warnings }),
        Err(fault) => Err(files.explain(fault)),
    }
}

/// Adds the jobs of `scrape_config_files`.
fn merge_job_files(config: &mut Config, files: &mut Files<'_>, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    for (n, pattern) in config.scrape_config_files.iter().enumerate() {
        let found =
            glob::expand(pattern).map_err(|e| files.explain(Fault::new(format!("scrape_config_files[{n}]"), e)))?;
        for path in found {
            let jobs: Jobs = read(&path, warnings)?;
            let file = files.paths.len();
            for (index, mut job) in jobs.scrape_configs.into_iter().enumerate() {
                job.origin = Origin { file, index };
                resolve::absolute_job_paths(&mut job, &path);
                config.scrape_configs.push(job);
            }
            files.paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogates_of_json_become_characters() {
        for (json, expected) in [
            (r#""a \ud83d\ude00\uD83D\uDE01 b""#, "\"a \u{1f600}\u{1f601} b\""),
            // An escaped backslash, single escapes, half a pair, the end: all as they are.
            (
                r#""\\ud83d\ude00 \u00e9 \ud83d \ude00 \n""#,
                r#""\\ud83d\ude00 \u00e9 \ud83d \ude00 \n""#,
            ),
            ("\\ud83d\\ud", "\\ud83d\\ud"),
            ("\\\u{1f600}\\", "\\\u{1f600}\\"),
        ] {
            assert_eq!(join_surrogates(json), expected, "{json}");
        }
    }
}
