//! The bodies of a recorded capture (`tests/testdata/captures/README.md`), as they were served.

use std::io::Read;
use std::path::Path;

/// Every body of the capture at `path`, gzipped or not. Panics on anything that is not one: a person named these files.
pub fn bodies(path: &Path) -> Vec<Vec<u8>> {
    let named = |error: std::io::Error| -> ! { panic!("{}: {error}", path.display()) };
    let mut bytes = std::fs::read(path).unwrap_or_else(|error| named(error));
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let packed = std::mem::take(&mut bytes);
        let mut unpacked = flate2::read::MultiGzDecoder::new(&packed[..]);
        unpacked.read_to_end(&mut bytes).unwrap_or_else(|error| named(error));
    }
    let mut bodies = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let header = std::str::from_utf8(&rest[..end]).expect("header is text");
        let length: usize = header
            .rsplit(' ')
            .next()
            .and_then(|word| word.parse().ok())
            .expect("header ends with a length");
        let (body, behind) = rest[end + 1..].split_at(length);
        bodies.push(body.to_vec());
        rest = behind.strip_prefix(b"\n").unwrap_or(behind);
    }
    assert!(!bodies.is_empty(), "{}: no scrape", path.display());
    bodies
}
