//! Reader for recorded scrapes (`tests/testdata/captures/README.md`).

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use tidegate::sample::{Sample, SeriesRef};

/// Consecutive scrapes of one target.
pub struct Capture {
    /// Text of each series, by reference.
    pub series: Vec<String>,
    /// The samples of each scrape, in exposition order.
    pub scrapes: Vec<Vec<Sample>>,
}

impl Capture {
    /// Reads a gzipped capture. Panics on anything that is not one: these files are our own.
    pub fn read(path: &Path) -> Self {
        let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut text = String::new();
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .expect("capture is gzipped text");

        let mut capture = Self {
            series: Vec::new(),
            scrapes: Vec::new(),
        };
        let mut refs = HashMap::new();
        let mut rest = text.as_str();
        while let Some((header, behind)) = rest.split_once('\n') {
            let length = header.rsplit(' ').next().and_then(|bytes| bytes.parse().ok());
            let (body, behind) = behind.split_at(length.expect("header ends in the body's length"));
            capture.scrapes.push(
                body.lines()
                    .filter_map(|line| capture_line(line, &mut refs, &mut capture.series))
                    .collect(),
            );
            rest = behind.trim_start_matches('\n');
        }
        capture
    }
}

fn capture_line(line: &str, refs: &mut HashMap<String, SeriesRef>, series: &mut Vec<String>) -> Option<Sample> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    // No line of the captures has a timestamp.
    let (text, value) = line.rsplit_once(' ').expect("sample line has a value");
    let number = tidegate::value::parse(value.as_bytes()).unwrap_or_else(|| panic!("value of {line}"));
    let series = *refs.entry(text.to_owned()).or_insert_with(|| {
        series.push(text.to_owned());
        SeriesRef(u16::try_from(series.len() - 1).expect("fewer than 65,536 series"))
    });
    Some(Sample { number, series })
}
