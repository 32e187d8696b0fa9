//! What is accepted and what is refused, row by row (prometheus `TXT-01..13`, `OM-01..10`).

use super::*;

pub(super) const TEXT_ACCEPTED: &[(&str, &[&str])] = &[
    ("", &[]),
    ("a 1", &["a {} 1"]),
    ("a 1\n", &["a {} 1"]),
    // TXT-01
    ("\n\n \t\na 1\n\n\tb 2\n", &["a {} 1", "b {} 2"]),
    // TXT-02
    (
        "#EOF\n# foo\n#\n# \n# UNIT a_b b\n# EOF\n#HELP a b\n# HELPa b\na 1",
        &["a {} 1"],
    ),
    // TXT-03
    (
        "# \t HELP \t a b  c\n#\tTYPE a counter\n# HELP \"a.\\\"b\" c\n# TYPE \"x y\" gauge",
        &[
            "Help { family: \"a\", text: \"b  c\" }",
            "Type { family: \"a\", kind: Counter }",
            "Help { family: \"a.\\\"b\", text: \"c\" }",
            "Type { family: \"x y\", kind: Gauge }",
        ],
    ),
    // TXT-04
    (
        "# TYPE a histogram\n# TYPE a summary\n# TYPE a untyped\n# TYPE a\tgauge",
        &[
            "Type { family: \"a\", kind: Histogram }",
            "Type { family: \"a\", kind: Summary }",
            "Type { family: \"a\", kind: Unknown }",
            "Type { family: \"a\", kind: Gauge }",
        ],
    ),
    // TXT-05
    (
        "# HELP a\n# HELP a \n# HELP a \\\\ \\n \\\" \\x é\n# HELP a.b c",
        &[
            "Help { family: \"a\", text: \"\" }",
            "Help { family: \"a\", text: \"\" }",
            "Help { family: \"a\", text: \"\\\\ \\n \\\\\\\" \\\\x é\" }",
            "Help { family: \"a\", text: \"b c\" }",
        ],
    ),
    // TXT-06
    ("a{b=\"\\\\ \\\" \\n \\x\"} 1", &["a {b=\"\\\\ \\\" \\n \\\\x\"} 1"]),
    (
        "a{b=\"1\n2\",c=\"\n\"} 1\nd 2",
        &["a {b=\"1\\n2\",c=\"\\n\"} 1", "d {} 2"],
    ),
    ("a{b=\"\0é}\"} 1", &["a {b=\"\0é}\"} 1"]),
    // TXT-07
    (
        "a\t{ b = \"1\" , c\t=\t\"2\" , }\t1 \t2 \t\na {b=\"1\"c=\"2\"}1\na{}1",
        &["a {b=\"1\",c=\"2\"} 1 @2", "a {b=\"1\",c=\"2\"} 1", "a {} 1"],
    ),
    // TXT-08
    (
        "{\"http.status\",code=\"200\"} 1\n{code=\"200\",\"http.status\"} 1\n{\"a b\"}1\na{\"x.y\"=\"1\"} 2\n{\"q\\\"\\\\\\n\",} 1",
        &[
            "http.status {code=\"200\"} 1",
            "http.status {code=\"200\"} 1",
            "a b {} 1",
            "a {\"x.y\"=\"1\"} 2",
            "q\"\\\n {} 1",
        ],
    ),
    ("a:b{_c1=\"2\"} 3", &["a:b {_c1=\"2\"} 3"]),
    // TXT-09
    (
        "a Inf\na +inf\na -INFINITY\na nan\na 1e-400\na -.5e+1\na 5e-324",
        &[
            "a {} inf",
            "a {} inf",
            "a {} -inf",
            "a {} NaN",
            "a {} 0",
            "a {} -5",
            "a {} 0.000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000005",
        ],
    ),
    // TXT-10
    (
        "a 1 0\na 1 9223372036854775807",
        &["a {} 1 @0", "a {} 1 @9223372036854775807"],
    ),
    // TXT-11: the empty label stays for the caller to remove.
    ("a{b=\"\"} 1", &["a {b=\"\"} 1"]),
    // TXT-12
    (
        "a 1\n# TYPE b gauge\na 2\n# TYPE b counter\n# HELP a x",
        &[
            "a {} 1",
            "Type { family: \"b\", kind: Gauge }",
            "a {} 2",
            "Type { family: \"b\", kind: Counter }",
            "Help { family: \"a\", text: \"x\" }",
        ],
    ),
    // TXT-13, first half
    ("a 1\n\0garbage\nb", &["a {} 1"]),
    ("a 1\n \0", &["a {} 1"]),
    // Detected after relabelling, by `Labels::validate`.
    ("a{x=\"1\",x=\"2\"} 1", &["a {x=\"1\",x=\"2\"} 1"]),
];

#[test]
fn text_accepts() {
    for (body, events) in TEXT_ACCEPTED {
        assert_eq!(text(body), lines(events), "{body:?}");
    }
}

pub(super) const TEXT_REFUSED: &[(&str, Problem)] = &[
    ("a", Problem::ExpectedValue),
    ("a{b='c'} 1", Problem::ExpectedLabelValue),
    ("a{b=\n", Problem::OpenBrace),
    ("a{b=\"c\"\n} 1", Problem::OpenBrace),
    ("{\"a\", \"b = \"c\"}", Problem::OpenQuote),
    ("{\"a\", \"b = \"c\"} 1", Problem::OpenQuote),
    ("{\"a\",b\\nc=\"d\"} 1", Problem::ExpectedEqual),
    ("a true", Problem::Value),
    ("a StaleNaN", Problem::Value),
    ("a{b=\"c} 1", Problem::OpenQuote),
    ("a{b=\"c} 1\nd 2\n", Problem::OpenQuote),
    ("a{b=\"c\\\nd\"} 1", Problem::OpenQuote),
    ("m{=\"\"} 0", Problem::ExpectedLabelName),
    ("{A} 0", Problem::ExpectedEqual),
    ("foo 1_2", Problem::Value),
    ("foo 0x1p-3", Problem::Value),
    ("foo 0 1_2", Problem::TimestampMillis),
    ("{a=\"ok\"} 1", Problem::NoMetricName),
    ("{} 1", Problem::NoMetricName),
    ("a{\"b\"} 1", Problem::MetricNameTwice),
    ("{\"a\",\"b\"} 1", Problem::MetricNameTwice),
    ("a{,b=\"c\"} 1", Problem::ExpectedLabelName),
    ("a{b=\"c\",,d=\"e\"} 1", Problem::ExpectedLabelName),
    ("# TYPE #", Problem::ExpectedMetricName),
    ("# HELP #", Problem::ExpectedMetricName),
    ("# HELP ", Problem::ExpectedMetricName),
    ("# TYPE a", Problem::MetricType),
    ("# TYPE a unknown", Problem::MetricType),
    ("# TYPE a info", Problem::MetricType),
    ("# TYPE a counter ", Problem::MetricType),
    ("# TYPE a  counter", Problem::MetricType),
    ("# TYPE a counter\r\n", Problem::MetricType),
    ("# TYPE \"a counter", Problem::OpenQuote),
    ("m 1 -5", Problem::TimestampMillis),
    ("m 1 +5", Problem::TimestampMillis),
    ("m 1 1.5", Problem::TimestampMillis),
    ("m 1 1e3", Problem::TimestampMillis),
    ("m 1 9223372036854775808", Problem::TimestampMillis),
    ("m 1 2 3", Problem::ExpectedLineEnd),
    ("m 1\r\n", Problem::Value),
    ("m 1 5\r\n", Problem::TimestampMillis),
    ("m 1e999", Problem::Value),
    ("m 1 # {a=\"b\"} 1", Problem::TimestampMillis),
    ("m{a=\"b\"}{c=\"d\"} 1", Problem::Value),
    ("1a 1", Problem::ExpectedMetricName),
    ("a.b 1", Problem::ExpectedValue),
    ("a{b.c=\"d\"} 1", Problem::ExpectedEqual),
    ("a{b:c=\"d\"} 1", Problem::ExpectedEqual),
    ("a\0 1", Problem::ExpectedValue),
    ("a{\0b=\"c\"} 1", Problem::ExpectedLabelName),
    ("a 1\0", Problem::Value),
];

#[test]
fn text_refuses() {
    for (body, problem) in TEXT_REFUSED {
        assert_eq!(text(body).map_err(|error| error.problem), Err(*problem), "{body:?}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_where_they_stand() {
    for (format, body, column) in [
        (Format::Text, &b"a{\xff=\"b\"} 1\n"[..], 3),
        (Format::Text, b"a{b=\"\xff\"} 1\n", 6),
        (Format::Text, b"\xff 1\n", 1),
        (Format::Text, b"# HELP a b\xff\n", 11),
        (Format::Text, b"# TYPE \"\xff\" gauge\n", 9),
        (Format::OpenMetrics, b"a 1 # {b=\"\xff\"} 1\n", 11),
        (Format::OpenMetrics, b"# UNIT a_\xff \xff\n", 8),
    ] {
        let error = whole(format, body).unwrap_err();
        let expected = if column == 8 {
            Problem::ExpectedText
        } else {
            Problem::NotUtf8
        };
        assert_eq!(error.problem, expected, "{}", body.escape_ascii());
        assert!(error.line == 1 && (error.column == column || column == 8), "{error}");
    }
}

pub(super) const OPEN_METRICS_ACCEPTED: &[(&str, &[&str])] = &[
    // OM-01
    ("# EOF", &["Eof"]),
    ("# EOF\n", &["Eof"]),
    // OM-03
    (
        "# TYPE a counter\n# TYPE a gauge\n# TYPE a histogram\n# TYPE a gaugehistogram\n# TYPE a summary\n# TYPE a info\n# TYPE a stateset\n# TYPE a unknown\n# EOF",
        &[
            "Type { family: \"a\", kind: Counter }",
            "Type { family: \"a\", kind: Gauge }",
            "Type { family: \"a\", kind: Histogram }",
            "Type { family: \"a\", kind: GaugeHistogram }",
            "Type { family: \"a\", kind: Summary }",
            "Type { family: \"a\", kind: Info }",
            "Type { family: \"a\", kind: Stateset }",
            "Type { family: \"a\", kind: Unknown }",
            "Eof",
        ],
    ),
    // OM-04
    (
        "# UNIT a_seconds seconds\n# UNIT a \n# HELP a \n# HELP a \\\\ \\\" \\n \\x\n# HELP \"a b\" c\n# EOF",
        &[
            "Unit { family: \"a_seconds\", unit: \"seconds\" }",
            "Unit { family: \"a\", unit: \"\" }",
            "Help { family: \"a\", text: \"\" }",
            "Help { family: \"a\", text: \"\\\\ \\\" \\n \\\\x\" }",
            "Help { family: \"a b\", text: \"c\" }",
            "Eof",
        ],
    ),
    // OM-05, OM-08
    (
        "a_total{b=\"c\",} -1\nb 2\na_total{} 3\n# EOF\n",
        &["a_total {b=\"c\"} -1", "b {} 2", "a_total {} 3", "Eof"],
    ),
    // OM-06
    (
        "a 1 1\na 1 -1.5\na 1 1.7718363051e+09\na 1 1520879607.789\na 1 0.0019\na 1 1e300\n# EOF",
        &[
            "a {} 1 @1000",
            "a {} 1 @-1500",
            "a {} 1 @1771836305100",
            "a {} 1 @1520879607789",
            "a {} 1 @1",
            "a {} 1 @9223372036854775807",
            "Eof",
        ],
    ),
    // OM-07
    (
        "a 1 # {} 2\na{b=\"c\"} 1 2 # {d=\"}\",\"e f\"=\"\\\"\"} 3.5 4.5\n# EOF",
        &[
            "a {} 1 # {} 2 None",
            "a {b=\"c\"} 1 @2000 # {d=\"}\",\"e f\"=\"\\\"\"} 3.5 Some(4500)",
            "Eof",
        ],
    ),
    // OM-09
    (
        "{\"http.status\",code=\"200\"} 1\n{code=\"\0\",\"a\\nb\"} NaN\n# EOF",
        &["http.status {code=\"200\"} 1", "a\nb {code=\"\0\"} NaN", "Eof"],
    ),
];

#[test]
fn open_metrics_accepts() {
    for (body, events) in OPEN_METRICS_ACCEPTED {
        assert_eq!(open_metrics(body), lines(events), "{body:?}");
    }
}

pub(super) const OPEN_METRICS_REFUSED: &[(&str, Problem)] = &[
    ("", Problem::MissingEof),
    ("\n", Problem::ExpectedMetricName),
    ("metric", Problem::ExpectedValue),
    ("metric 1", Problem::MissingEof),
    ("metric 1\n", Problem::MissingEof),
    ("metric 1 \n", Problem::TimestampSeconds),
    ("a\n#EOF\n", Problem::ExpectedValue),
    ("a 1\n#EOF\n", Problem::ExpectedKeyword),
    (" a 1\n# EOF\n", Problem::ExpectedMetricName),
    ("9\n# EOF\n", Problem::ExpectedValue),
    ("9 1\n# EOF\n", Problem::ExpectedMetricName),
    ("a 1\n\n# EOF\n", Problem::ExpectedMetricName),
    ("# comment\n# EOF\n", Problem::ExpectedKeyword),
    ("# TYPE c counter \n# EOF\n", Problem::MetricType),
    ("#  TYPE c counter\n# EOF\n", Problem::ExpectedKeyword),
    ("# TYPE  c counter\n# EOF\n", Problem::ExpectedMetricName),
    ("# TYPE\tc counter\n# EOF\n", Problem::ExpectedKeyword),
    ("# TYPE c\tcounter\n# EOF\n", Problem::ExpectedText),
    ("# TYPE c untyped\n# EOF\n", Problem::MetricType),
    ("# TYPE m\n# EOF\n", Problem::ExpectedText),
    ("# HELP m\n# EOF\n", Problem::ExpectedText),
    ("# UNIT m\n# EOF\n", Problem::ExpectedText),
    ("# UNIT metricsuffix suffix\n# EOF\n", Problem::Unit),
    ("# UNIT suffix suffix\n# EOF\n", Problem::Unit),
    ("a\t1\n# EOF\n", Problem::ExpectedValue),
    ("a 1\t2\n# EOF\n", Problem::ExpectedLineEnd),
    ("a  1\n# EOF\n", Problem::ExpectedValue),
    ("a 1 2 \n# EOF\n", Problem::ExpectedExemplar),
    ("a 1 2 #\n# EOF\n", Problem::ExpectedExemplar),
    ("a 1 #\n# EOF\n", Problem::ExpectedExemplar),
    ("a 1 1z\n# EOF\n", Problem::TimestampSeconds),
    ("a 1 NaN\n# EOF\n", Problem::TimestampSeconds),
    ("a 1 Inf\n# EOF\n", Problem::TimestampSeconds),
    ("a 1 -Inf\n# EOF\n", Problem::TimestampSeconds),
    (" # EOF\n", Problem::ExpectedMetricName),
    ("# EOF\na 1", Problem::TextAfterEof),
    ("# EOF\n\n", Problem::TextAfterEof),
    ("# EOFa 1", Problem::TextAfterEof),
    ("a 1 1 1\n# EOF\n", Problem::ExpectedExemplar),
    ("a{,b=\"c\"} 1\n# EOF\n", Problem::ExpectedLabelName),
    ("a{b=\"c\"d=\"e\"} 1\n# EOF\n", Problem::ExpectedCommaOrBrace),
    ("a{b=\"c\",,d=\"e\"} 1\n# EOF\n", Problem::ExpectedLabelName),
    ("a{b= \"c\"} 1\n# EOF\n", Problem::ExpectedLabelValue),
    ("a{ b=\"c\"} 1\n# EOF\n", Problem::ExpectedLabelName),
    ("a {b=\"c\"} 1\n# EOF\n", Problem::Value),
    ("a{b=\"c\nd\"} 1\n# EOF\n", Problem::OpenQuote),
    ("a{b=\"c\"}1\n# EOF\n", Problem::ExpectedValue),
    ("a{b=\"c\n", Problem::OpenQuote),
    ("x_total 1 # {aa=bb}\n# EOF\n", Problem::ExpectedLabelValue),
    ("x_total 1 # {aa=\"bb\"}\n# EOF\n", Problem::ExpectedExemplar),
    ("x_total 1 # {bb}\n# EOF\n", Problem::ExpectedEqual),
    ("x_total 1 # {\"bb\"} 1\n# EOF\n", Problem::ExpectedEqual),
    ("x_total 1 # {aa=\"bb\"} 1_2\n# EOF\n", Problem::Value),
    ("x_total 1 # aa=\"bb\" 1\n# EOF\n", Problem::ExpectedExemplar),
    ("x_total 1 # {aa=\"bb\"} 1 NaN\n# EOF\n", Problem::TimestampSeconds),
    ("x_total 1 # {aa=\"bb\"} 1 -Inf\n# EOF\n", Problem::TimestampSeconds),
    ("x_total 1 # {aa=\"bb\"} 1 1 1\n# EOF\n", Problem::ExpectedLineEnd),
    ("a 1\r\n# EOF\n", Problem::Value),
    ("a 1\n# EOF\r\n", Problem::TextAfterEof),
    ("{a=\"ok\"} 1\n# EOF\n", Problem::NoMetricName),
    ("{A} 0\n# EOF\n", Problem::ExpectedEqual),
    ("foo 1_2\n# EOF\n", Problem::Value),
    ("foo 0x1p-3\n# EOF\n", Problem::Value),
    ("a\0 1\n# EOF\n", Problem::ExpectedValue),
    ("\0\n# EOF\n", Problem::ExpectedValue),
];

#[test]
fn open_metrics_refuses() {
    for (body, problem) in OPEN_METRICS_REFUSED {
        assert_eq!(
            open_metrics(body).map_err(|error| error.problem),
            Err(*problem),
            "{body:?}"
        );
    }
}
