//! Random series printed and parsed back; arbitrary bytes.

use super::*;
use crate::value;
use alloc::collections::BTreeSet;
use fastrand::Rng;

/// A label set and its text in a random spelling of the format.
fn random_series(rng: &mut Rng, format: Format) -> (Vec<(String, String)>, String) {
    fn word(rng: &mut Rng, letters: &[char], len: core::ops::Range<usize>) -> String {
        (0..rng.usize(len))
            .map(|_| letters[rng.usize(..letters.len())])
            .collect()
    }
    fn quote(text: &str) -> String {
        let mut out = String::from("\"");
        crate::labels::write_escaped(text, &mut out).unwrap();
        out + "\""
    }
    const ANY: &[char] = &[
        'a',
        'Z',
        '0',
        '_',
        '.',
        ' ',
        '{',
        '}',
        '=',
        ',',
        '#',
        '"',
        '\\',
        '\n',
        'é',
        '\0',
        '\u{1F600}',
    ];
    const LEGACY: &[char] = &['a', 'b', '_', 'Z'];
    let odd = rng.bool();
    let name = if odd {
        word(rng, ANY, 1..8)
    } else {
        word(rng, LEGACY, 1..8)
    };
    let space = |rng: &mut Rng| {
        if format == Format::Text {
            word(rng, &[' ', '\t'], 0..3)
        } else {
            String::new()
        }
    };
    let mut pairs = alloc::vec![("__name__".to_string(), name.clone())];
    let mut parts = Vec::new();
    for index in 0..rng.usize(..5) {
        let (label, shown) = if rng.bool() {
            let label = format!("{}{index}", word(rng, ANY, 1..5));
            (label.clone(), quote(&label))
        } else {
            let label = format!("{}{index}", word(rng, LEGACY, 1..5));
            (label.clone(), label)
        };
        let value = word(rng, ANY, 0..12);
        parts.push(format!("{shown}{}={}{}", space(rng), space(rng), quote(&value)));
        pairs.push((label, value));
    }
    if odd {
        parts.insert(rng.usize(..=parts.len()), quote(&name));
    }
    let mut text = if odd { String::new() } else { name + &space(rng) };
    if odd || !parts.is_empty() || rng.bool() {
        text.push('{');
        for (index, part) in parts.iter().enumerate() {
            text += if index == 0 { "" } else { "," };
            text += &space(rng);
            text += part;
            text += &space(rng);
        }
        text += if parts.is_empty() || rng.bool() { "}" } else { ",}" };
    }
    pairs.sort();
    (pairs, text)
}

#[test]
fn printed_samples_parse_back() {
    let mut rng = Rng::with_seed(17);
    let mut labels = Labels::new(4096);
    for round in 0..4000 {
        let format = if round % 2 == 0 {
            Format::Text
        } else {
            Format::OpenMetrics
        };
        let (pairs, series) = random_series(&mut rng, format);
        let number = match rng.u8(..3) {
            0 => rng.i32(..).to_string(),
            1 => format!("{:e}", f64::from_bits(rng.u64(..) >> 2)),
            _ => format!("{}.{}", rng.i16(..), rng.u32(..)),
        };
        let millis = rng.bool().then(|| rng.i64(0..1 << 42));
        let timestamp = millis.map_or(String::new(), |millis| match format {
            Format::Text => format!(" {millis}"),
            _ => format!(" {}", millis / 1000),
        });
        let body = format!("{series} {number}{timestamp}\n# EOF\n");
        let mut parser = Parser::new(4096);
        parser.start(format);
        let mut rest = body.as_bytes();
        let (raw, value, time) = loop {
            match parser.next().unwrap_or_else(|error| panic!("{error} in {body:?}")) {
                Some(Event::Sample {
                    series,
                    value,
                    timestamp_ms,
                    ..
                }) => break (series.to_vec(), value, timestamp_ms),
                Some(other) => panic!("{other:?} in {body:?}"),
                None => {
                    let taken = parser.feed(&rest[..rng.usize(1..=rest.len())]);
                    rest = &rest[taken..];
                }
            }
        };
        assert_eq!(raw, series.trim_ascii_end().as_bytes(), "{body:?}");
        assert_eq!(Some(value), value::parse(number.as_bytes()), "{body:?}");
        let expected = millis.map(|millis| match format {
            Format::Text => millis,
            _ => millis / 1000 * 1000,
        });
        assert_eq!(time, expected, "{body:?}");
        parse_series(format, &raw, &mut labels).unwrap_or_else(|error| panic!("{error} in {body:?}"));
        let got: Vec<_> = labels
            .iter()
            .map(|label| (label.name.to_string(), label.value.to_string()))
            .collect();
        assert_eq!(got, pairs, "{body:?}");
    }
}

#[test]
fn arbitrary_bytes_never_panic_and_chunks_agree() {
    let mut rng = Rng::with_seed(23);
    let seeds: Vec<&str> = [TEXT_ACCEPTED, OPEN_METRICS_ACCEPTED]
        .concat()
        .iter()
        .map(|row| row.0)
        .collect();
    let letters = b"a1_:{}=\",\\n# \t\n\r\0\xff.eEOFHLPTYUNI+-";
    for _ in 0..6000 {
        let mut body = if rng.bool() {
            (0..rng.usize(..60))
                .map(|_| letters[rng.usize(..letters.len())])
                .collect()
        } else {
            seeds[rng.usize(..seeds.len())].as_bytes().to_vec()
        };
        for _ in 0..rng.usize(..4) {
            let at = rng.usize(..=body.len());
            let byte = letters[rng.usize(..letters.len())];
            match rng.u8(..3) {
                0 => body.insert(at, byte),
                1 if at < body.len() => body[at] = byte,
                _ if at < body.len() => drop(body.remove(at)),
                _ => {}
            }
        }
        let format = if rng.bool() { Format::Text } else { Format::OpenMetrics };
        let line_bytes = rng.usize(1..40);
        let limit = if rng.bool() { 4096 } else { line_bytes };
        let (events, error) = read_with(&mut Parser::new(limit), format, &body, &mut || usize::MAX);
        let (events_cut, error_cut) = read_with(&mut Parser::new(limit), format, &body, &mut || rng.usize(1..9));
        assert_eq!(events, events_cut, "{}", body.escape_ascii());
        assert_eq!(
            error.is_some(),
            error_cut.is_some(),
            "{} ({error:?})",
            body.escape_ascii()
        );
        if limit == 4096 {
            let place = |error: ParseError| (error.problem, error.line, error.column);
            assert_eq!(error.map(place), error_cut.map(place), "{}", body.escape_ascii());
        }
    }
}

/// Lines of every event, the event, and the error. Texts go into `cut`; those in `known` are asked for first.
fn read_known(
    (format, body): (Format, &[u8]),
    known: &BTreeSet<Vec<u8>>,
    cut: &mut BTreeSet<Vec<u8>>,
    rng: &mut Rng,
) -> (Vec<(u32, String)>, Option<ParseError>, usize) {
    let mut parser = Parser::new(64);
    parser.start(format);
    let (mut events, mut rest, mut quick) = (Vec::new(), body, 0);
    let mut ahead = heapless::Vec::<_, AHEAD>::new();
    loop {
        parser.look_ahead(&mut ahead, |text| known.get(text));
        for found in &ahead {
            let Some(series) = found.key else { break };
            quick += 1;
            parser.pass(found);
            let event = Event::Sample {
                series,
                value: found.value,
                timestamp_ms: found.timestamp_ms,
                exemplar: None,
                start_ms: None,
            };
            events.push((parser.line(), format!("{event:?}")));
        }
        let finished = parser.finished();
        match parser.next() {
            Ok(Some(event)) => {
                if let Event::Sample { series, .. } = event {
                    cut.insert(series.to_vec());
                }
                let event = format!("{event:?}");
                events.push((parser.line(), event));
            }
            Ok(None) if rest.is_empty() && finished => return (events, None, quick),
            Ok(None) if rest.is_empty() => parser.finish(),
            Ok(None) => {
                let taken = parser.feed(&rest[..rng.usize(1..=rest.len())]);
                rest = &rest[taken..];
            }
            Err(error) => return (events, Some(error), quick),
        }
    }
}

/// A line whose series is one of `texts`, mostly, and what stands between and behind, mostly right.
fn random_line(rng: &mut Rng, texts: &[Vec<u8>]) -> Vec<u8> {
    const GAPS: &[&str] = &[" ", "  ", "\t", "", " \t", "\n", "#", "{"];
    const NUMBERS: &[&str] = &[
        "1",
        "1700000000000",
        "-2.50",
        "1e3",
        "NaN",
        "+Inf",
        "1.5",
        "",
        "x",
        "1x",
        "{",
        "\0",
    ];
    const ENDS: &[&str] = &["\n", "\r\n", " \n", " # {a=\"b c\"} 1 2\n", "", "\n\n", "\n \n\t"];
    fn pick(rng: &mut Rng, list: &'static [&str]) -> &'static [u8] {
        let odd = rng.u8(..15) == 0;
        list[if odd { rng.usize(..list.len()) } else { 0 }].as_bytes()
    }
    let mut line = texts[rng.usize(..texts.len())].clone();
    match rng.u8(..40) {
        0 => line.truncate(rng.usize(..=line.len())),
        1 => line.insert(rng.usize(..=line.len()), b" \n}\"{\\#\0"[rng.usize(..8)]),
        2 => line = b"# HELP a b 1".to_vec(),
        _ => {}
    }
    for _ in 0..rng.usize(1..3) {
        line.extend(pick(rng, GAPS));
        line.extend(pick(rng, NUMBERS));
    }
    line.extend(pick(rng, ENDS));
    line
}

#[test]
fn asking_for_known_texts_first_changes_nothing() {
    let mut rng = Rng::with_seed(29);
    let (mut quick, mut failed) = (0, 0);
    for round in 0..1500 {
        let format = if round % 2 == 0 {
            Format::Text
        } else {
            Format::OpenMetrics
        };
        let texts: Vec<Vec<u8>> = (0..6)
            .map(|_| random_series(&mut rng, format).1.into_bytes())
            .chain([&b"a"[..], b"ab", b"a {b=\"c\"}", b"a{b=\" 1\"}", b"a{b=\"\n\"}"].map(<[u8]>::to_vec))
            .collect();
        let mut known = BTreeSet::new();
        for _ in 0..12 {
            let body: Vec<u8> = (0..rng.usize(1..6))
                .flat_map(|_| random_line(&mut rng, &texts))
                .collect();
            let mut cut = BTreeSet::new();
            let (events, error, none) = read_known((format, &body), &BTreeSet::new(), &mut cut, &mut rng);
            assert_eq!(none, 0);
            // Those of this body, too: what is known may have come a line before.
            known.append(&mut cut);
            let found = read_known((format, &body), &known, &mut cut, &mut rng);
            assert_eq!(found.0, events, "{}", body.escape_ascii());
            let place = |error: ParseError| (error.problem, error.line, error.column);
            failed += usize::from(error.is_some());
            assert_eq!(found.1.map(place), error.map(place), "{}", body.escape_ascii());
            quick += found.2;
        }
    }
    assert!(quick > 5_000 && failed > 1_000, "{quick} {failed}");
}
