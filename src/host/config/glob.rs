//! File names with a wildcard: `scrape_config_files`, `file_sd_configs.files`.
//!
//! `*` stands for any characters and `?` for one, both in the last part of the path only.
//! Matches are sorted, so that the order of jobs does not depend on the file system.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use std::io::ErrorKind;
use std::path::Path;

/// Files of one pattern. Each may be as large as a configuration; a directory of hundreds is a mistake.
pub const MAX_MATCHES: usize = 64;

/// The existing files that `pattern` names; a pattern without wildcard names exactly one, existing or not.
///
/// # Errors
/// What is wrong with the pattern, or the directory cannot be read.
pub(super) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let (dir, name) = pattern.rsplit_once('/').unwrap_or((".", pattern));
    if dir.contains(['*', '?']) {
        return Err(format!(
            "found {pattern:?}, expected wildcards in the last part of the path only"
        ));
    }
    if name.contains(['[', '\\']) {
        return Err(format!("found {pattern:?}, expected no wildcards other than * and ?"));
    }
    if !name.contains(['*', '?']) {
        return Ok(alloc::vec![pattern.into()]);
    }
    let entries = match std::fs::read_dir(Path::new(if dir.is_empty() { "/" } else { dir })) {
        Ok(entries) => entries,
        // As good as an empty one, as in Prometheus.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("read directory {dir:?}: {e}")),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| format!("read directory {dir:?}: {e}"))?;
        // Names that are not UTF-8 cannot be meant by a pattern that is.
        let Ok(file) = entry.file_name().into_string() else {
            continue;
        };
        if matches(name.as_bytes(), file.as_bytes()) && entry.path().is_file() {
            if found.len() == MAX_MATCHES {
                return Err(format!("found more than {MAX_MATCHES} files for {pattern:?}"));
            }
            found.push(format!("{dir}/{file}"));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Linear in practice: on a mismatch only the last `*` is widened.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.yml", "jobs.yml", true),
            ("*.yml", "jobs.yaml", false),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("?.json", "x.json", true),
            ("?.json", ".json", false),
            ("*", "", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn wildcards_in_directories_are_refused_and_a_directory_may_be_absent() {
        assert!(expand("/etc/*/a.yml").is_err());
        assert!(expand("/etc/[ab].yml").is_err());
        assert_eq!(
            expand("/no/such/file.yml"),
            Ok(alloc::vec![String::from("/no/such/file.yml")])
        );
        assert_eq!(expand("/no/such/*.yml"), Ok(Vec::new()));
    }
}
