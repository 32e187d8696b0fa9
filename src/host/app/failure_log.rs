//! `scrape_failure_log_file`: one JSON line per failed scrape.
//!
//! At the edge a file that only grows ends up filling its flash, so it is kept to two files of [`MAX_BYTES`]: one that has
//! reached it becomes `FILE.1`, in place of an older one. Lines are appended without waiting for the medium; a power cut may cost
//! the last of them. A file that cannot be written is said so once, and scraping goes on.

use crate::host::civil::Timestamp;
use crate::host::runtime::unix_now;
use crate::host::status::json::Text;
use alloc::format;
use core::sync::atomic::{AtomicBool, Ordering};
use std::fs::{File, rename};
use std::io::{self, Write as _};
use std::path::Path;

/// Largest file: some 4,000 failures.
pub const MAX_BYTES: u64 = 1 << 20;

/// Notes that a scrape has failed.
pub fn note(path: &Path, job: &str, url: &str, error: &str) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let line = format!(
        "{{\"time\":{},\"level\":\"ERROR\",\"msg\":{},\"job_name\":{},\"target\":{}}}\n",
        Text(Timestamp(unix_now().0)),
        Text(error),
        Text(job),
        Text(url)
    );
    if let Err(problem) = append(path, line.as_bytes(), MAX_BYTES)
        && !SAID.swap(true, Ordering::Relaxed)
    {
        log::warn!(path:% = path.display(), error:% = problem; "scrape_failure_log_file cannot be written");
    }
}

fn append(path: &Path, line: &[u8], limit: u64) -> io::Result<()> {
    let open = || File::options().create(true).append(true).open(path);
    let mut file = open()?;
    if file.metadata()?.len() >= limit {
        let mut older = path.to_path_buf().into_os_string();
        older.push(".1");
        rename(path, older)?;
        file = open()?;
    }
    file.write_all(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_are_all_it_ever_takes() {
        let directory = std::env::temp_dir().join(format!("tidegate-failures-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("temp dir");
        let path = directory.join("failures.json");
        for _ in 0..100 {
            append(&path, &[b'x'; 30], 100).expect("writable");
        }
        let len = |name: &str| std::fs::metadata(directory.join(name)).map(|found| found.len());
        assert!((1..=120).contains(&len("failures.json").expect("there")));
        assert_eq!(len("failures.json.1").expect("there"), 120);
        assert_eq!(std::fs::read_dir(&directory).expect("there").count(), 2);
        std::fs::remove_dir_all(&directory).expect("temp dir");
        assert!(append(&directory.join("gone/x"), b"x", 100).is_err());
    }
}
