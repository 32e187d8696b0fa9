//! Configuration files, from text on disk to the loaded structs and the messages about them.
//!
//! - `keys`: what each key means, its default, and what is refused or warned about
//! - `files`: files that are damaged, hostile, or in several parts
//! - `targets`: what becomes of the targets that a file names
#![cfg(feature = "host")]

mod files;
mod keys;
mod targets;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use tidegate::host::config::*;

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-config-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    }

    fn load(&self, text: impl AsRef<[u8]>) -> Result<Loaded, ConfigError> {
        Config::load(&self.write("tidegate.yml", text))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/testdata/config")
        .join(name)
}

/// Compares with the golden file, or writes it when `TIDEGATE_GOLDEN=write`.
fn golden(name: &str, actual: &str) {
    let path = testdata(name);
    if std::env::var("TIDEGATE_GOLDEN").as_deref() == Ok("write") {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    for (n, (a, e)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(a, e, "{} line {}", path.display(), n + 1);
    }
    assert_eq!(actual.len(), expected.len(), "{}", path.display());
}

fn yaml(config: &Config) -> String {
    let mut out = String::new();
    config.write_yaml(&mut out).unwrap();
    out
}

/// `path` relative to the checkout, so that golden files are the same everywhere.
fn portable(text: &str) -> String {
    text.replace(testdata("").to_str().unwrap(), "DIR/")
}

fn warnings(loaded: &Loaded) -> String {
    portable(&loaded.warnings.iter().map(|w| format!("{w}\n")).collect::<String>())
}

/// Follows none of the rules: what targets look like before relabelling.
fn no_rules(_: usize, _: &mut tidegate::labels::Labels) -> Result<bool, String> {
    Ok(true)
}
