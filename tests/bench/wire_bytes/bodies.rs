//! Captures as the bodies that their targets sent.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

/// Consecutive expositions of one target.
pub struct Exposed {
    /// Unix milliseconds and body of each.
    pub scrapes: Vec<(i64, String)>,
    /// `instance` and `job`.
    pub instance: String,
    pub job: String,
    /// Samples of the largest.
    pub largest: usize,
}

impl Exposed {
    /// Reads a capture. The first scrape alone has its HELP and TYPE lines: the others get them back. Panics on
    /// anything that is no capture: a person named these files.
    pub fn read(file: &Path) -> Self {
        let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut text = String::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut unpacked = flate2::read::MultiGzDecoder::new(&bytes[..]);
            unpacked.read_to_string(&mut text).expect("a whole file of text");
        } else {
            text = String::from_utf8(bytes).expect("text");
        }
        let job = file.file_name().unwrap_or_default().to_string_lossy();
        let job = job.split(['-', '.']).next().unwrap_or_default().to_owned();
        let mut exposed = Self {
            scrapes: Vec::new(),
            instance: "192.168.10.20:9100".to_owned(),
            job,
            largest: 0,
        };
        let mut comments = HashMap::new();
        let mut rest = text.as_str();
        while let Some((header, behind)) = rest.split_once('\n') {
            let mut words = header.strip_prefix("#@ ").unwrap_or_default().split(' ');
            let mut word = || words.next().and_then(|word| word.parse::<i64>().ok());
            let (Some(time), Some(length)) = (word(), word()) else {
                panic!("{}: not the header of a scrape: {header}", file.display());
            };
            let (body, behind) = behind.split_at(length as usize);
            let body = if exposed.scrapes.is_empty() {
                comments = comments_of(body);
                body.to_owned()
            } else {
                commented(body, &comments)
            };
            let samples = body.lines().filter(|line| !line.starts_with('#')).count();
            exposed.largest = exposed.largest.max(samples);
            exposed.scrapes.push((time, body));
            rest = behind.trim_start_matches('\n');
        }
        exposed
    }
}

/// The comment lines of each family.
fn comments_of(body: &str) -> HashMap<&str, String> {
    let mut comments: HashMap<&str, String> = HashMap::new();
    for line in body.lines() {
        let mut words = line.splitn(4, ' ');
        if let (Some("#"), Some("HELP" | "TYPE"), Some(family)) = (words.next(), words.next(), words.next()) {
            let text = comments.entry(family).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    comments
}

/// Puts each family's comments before its first sample.
fn commented(body: &str, comments: &HashMap<&str, String>) -> String {
    let mut text = String::with_capacity(2 * body.len());
    let mut last = "";
    for line in body.lines() {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let parts = ["_bucket", "_sum", "_count"];
        let of_parts = parts.iter().filter_map(|part| name.strip_suffix(part));
        let family = [name]
            .into_iter()
            .chain(of_parts)
            .find(|name| comments.contains_key(name));
        if let Some(family) = family.filter(|family| *family != last) {
            text.push_str(&comments[family]);
            last = family;
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}
