//! Reader for recorded scrapes (`tests/testdata/captures/README.md`).
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use tidegate::frame::ExplicitTime;
use tidegate::sample::{MetricType, Sample, SeriesRef};

/// Consecutive scrapes of one target.
pub struct Capture {
    /// Text of each series, by reference.
    pub series: Vec<String>,
    /// Its type as far as the capture says.
    pub kinds: Vec<MetricType>,
    /// The samples of each scrape, in exposition order.
    pub scrapes: Vec<Vec<Sample>>,
    /// Timestamps that samples carry themselves, by scrape.
    pub explicit: Vec<Vec<ExplicitTime>>,
    /// When each scrape was, Unix milliseconds.
    pub times: Vec<i64>,
}

impl Capture {
    /// Reads a capture, gzipped or not. Panics on anything that is not one: a person named these files.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut text = String::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut unpacked = flate2::read::MultiGzDecoder::new(&bytes[..]);
            unpacked.read_to_string(&mut text)
        } else {
            (&bytes[..]).read_to_string(&mut text)
        }
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));

        let mut capture = Self {
            series: Vec::new(),
            kinds: Vec::new(),
            scrapes: Vec::new(),
            explicit: Vec::new(),
            times: Vec::new(),
        };
        let mut refs = HashMap::new();
        let mut types = HashMap::new();
        let mut rest = text.as_str();
        while let Some((header, behind)) = rest.split_once('\n') {
            let mut words = header.strip_prefix("#@ ").unwrap_or_default().split(' ');
            let mut word = || words.next().and_then(|word| word.parse::<i64>().ok());
            let (Some(time), Some(length)) = (word(), word()) else {
                panic!("{}: not the header of a scrape: {header}", path.display());
            };
            let (body, behind) = behind.split_at(length as usize);
            capture.times.push(time);
            capture.scrape(body, &mut refs, &mut types);
            rest = behind.trim_start_matches('\n');
        }
        assert!(!capture.scrapes.is_empty(), "{}: no scrape", path.display());
        capture
    }

    fn scrape<'a>(
        &mut self,
        body: &'a str,
        refs: &mut HashMap<&'a str, SeriesRef>,
        types: &mut HashMap<&'a str, MetricType>,
    ) {
        let (mut samples, mut explicit) = (Vec::new(), Vec::new());
        for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix('#') {
                note_type(comment, types);
                continue;
            }
            // A label value may hold braces and blanks; behind the labels there is neither.
            let text_end = line
                .rfind('}')
                .map_or_else(|| line.find(' ').unwrap_or(line.len()), |at| at + 1);
            let (text, behind) = line.split_at(text_end);
            let mut words = behind.split_ascii_whitespace();
            let value = words.next().unwrap_or_else(|| panic!("no value: {line}"));
            let number = tidegate::value::parse(value.as_bytes()).unwrap_or_else(|| panic!("value of {line}"));
            if let Some(time) = words.next() {
                explicit.push(ExplicitTime {
                    position: samples.len() as u16,
                    unix_ms: time.parse().unwrap_or_else(|_| panic!("time of {line}")),
                });
            }
            let series = *refs.entry(text).or_insert_with(|| {
                self.series.push(text.trim().to_owned());
                self.kinds.push(kind_of(text, types));
                SeriesRef(u16::try_from(self.series.len() - 1).expect("fewer than 65,536 series"))
            });
            samples.push(Sample { number, series });
        }
        self.scrapes.push(samples);
        self.explicit.push(explicit);
    }

    /// Samples over all scrapes.
    pub fn samples(&self) -> usize {
        self.scrapes.iter().map(Vec::len).sum()
    }
}

fn note_type<'a>(comment: &'a str, types: &mut HashMap<&'a str, MetricType>) {
    let mut words = comment.split_ascii_whitespace();
    if words.next() == Some("TYPE")
        && let (Some(family), Some(kind)) = (words.next(), words.next())
    {
        let kind = match kind {
            "counter" => MetricType::Counter,
            "gauge" => MetricType::Gauge,
            "histogram" => MetricType::Histogram,
            "summary" => MetricType::Summary,
            _ => MetricType::Unknown,
        };
        types.insert(family, kind);
    }
}

fn kind_of(text: &str, types: &HashMap<&str, MetricType>) -> MetricType {
    let name = text.split('{').next().unwrap_or_default().trim();
    let families = [
        Some(name),
        name.strip_suffix("_bucket"),
        name.strip_suffix("_sum"),
        name.strip_suffix("_count"),
    ];
    let found = families.into_iter().flatten().find_map(|family| types.get(family));
    found.copied().unwrap_or(MetricType::Unknown)
}

/// Name and canonical labels (sorted, as written) of a series as it stands in an exposition.
pub fn canonical(text: &str) -> (String, String) {
    let Some((name, labels)) = text.split_once('{') else {
        return (text.trim().to_owned(), String::new());
    };
    let (mut found, mut rest) = (Vec::new(), labels);
    while let Some((label, behind)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = behind
            .find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })
            .unwrap_or_else(|| panic!("labels of {text}"));
        found.push((label.trim_matches([' ', ',']), &behind[..end]));
        rest = &behind[end + 1..];
    }
    found.retain(|(_, value)| !value.is_empty());
    found.sort_unstable();
    let labels: Vec<String> = found
        .iter()
        .map(|(label, value)| format!("{label}=\"{value}\""))
        .collect();
    (name.trim().to_owned(), labels.join(","))
}

/// The captures that are part of the repository, in the order of their names; with `TIDEGATE_CAPTURES=DIRECTORY` all in that directory.
pub fn checked_in() -> Vec<std::path::PathBuf> {
    let directory = std::env::var_os("TIDEGATE_CAPTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/captures"),
        std::path::PathBuf::from,
    );
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("directory can be read").path())
        .collect();
    files.retain(|file| {
        let name = file.to_string_lossy();
        // Those of protobuf have no text.
        !name.contains("-protobuf.") && (name.ends_with(".cap") || name.ends_with(".cap.gz"))
    });
    files.sort();
    assert!(!files.is_empty(), "{}: no captures", directory.display());
    files
}
