//! Writes metrics as the text format 0.0.4 or as OpenMetrics 1.0.
//!
//! The two differ in three places only: a counter family's name (without `_total` in OpenMetrics), the
//! content type, and the closing `# EOF`.

use core::fmt::{self, Display, Write};

/// Which of the two text formats to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
}

impl TextFormat {
    /// OpenMetrics when the `Accept` header asks for it, else the older format.
    #[must_use]
    pub fn negotiate(accept: &[u8]) -> Self {
        let wanted = b"application/openmetrics-text";
        if accept
            .windows(wanted.len())
            .any(|window| window.eq_ignore_ascii_case(wanted))
        {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The `Content-Type` of an answer in this format.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The types of our own metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts of values by size.
    Histogram,
}

/// A label value, escaped as both formats want it.
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.0.split_inclusive(['\\', '"', '\n']) {
            let (head, last) = match piece.as_bytes().last() {
                Some(b'\\') => (&piece[..piece.len() - 1], "\\\\"),
                Some(b'"') => (&piece[..piece.len() - 1], "\\\""),
                Some(b'\n') => (&piece[..piece.len() - 1], "\\n"),
                _ => (piece, ""),
            };
            f.write_str(head)?;
            f.write_str(last)?;
        }
        Ok(())
    }
}

/// Writes families and their samples.
pub struct Writer<'a, W: Write> {
    out: &'a mut W,
    format: TextFormat,
    name: &'static str,
}

impl<'a, W: Write> Writer<'a, W> {
    /// A writer of `format` to `out`.
    pub fn new(out: &'a mut W, format: TextFormat) -> Self {
        Self { out, format, name: "" }
    }

    /// Begins a family: its HELP and TYPE lines. Samples written next belong to it.
    ///
    /// # Errors
    /// The output is full.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> fmt::Result {
        self.name = name;
        let family = match (self.format, kind) {
            (TextFormat::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        writeln!(self.out, "# HELP {family} {help}")?;
        writeln!(self.out, "# TYPE {family} {kind}")
    }

    /// A sample of the current family.
    ///
    /// # Errors
    /// The output is full.
    pub fn sample(&mut self, labels: &[(&str, &dyn Display)], value: impl Display) -> fmt::Result {
        self.out.write_str(self.name)?;
        for (index, (name, label)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            write!(self.out, "{open}{name}=\"{label}\"")?;
        }
        if !labels.is_empty() {
            self.out.write_char('}')?;
        }
        writeln!(self.out, " {value}")
    }

    /// A family with a single unlabelled sample.
    ///
    /// # Errors
    /// The output is full.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) -> fmt::Result {
        self.family(name, kind, help)?;
        self.sample(&[], value)
    }

    /// A histogram without labels: each bound with how many values are within it and above the one before, how many are above all,
    /// and the sum of the values.
    ///
    /// # Errors
    /// The output is full.
    pub fn histogram<B: Display>(
        &mut self,
        name: &'static str,
        help: &str,
        buckets: impl Iterator<Item = (B, u64)>,
        above: u64,
        sum: impl Display,
    ) -> fmt::Result {
        self.family(name, Kind::Histogram, help)?;
        let mut count = 0;
        for (bound, values) in buckets {
            count += values;
            writeln!(self.out, "{name}_bucket{{le=\"{bound}\"}} {count}")?;
        }
        count += above;
        writeln!(self.out, "{name}_bucket{{le=\"+Inf\"}} {count}")?;
        writeln!(self.out, "{name}_sum {sum}\n{name}_count {count}")
    }

    /// Closes the exposition.
    ///
    /// # Errors
    /// The output is full.
    pub fn finish(self) -> fmt::Result {
        match self.format {
            TextFormat::Prometheus => Ok(()),
            TextFormat::OpenMetrics => self.out.write_str("# EOF\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Escaped, Kind, TextFormat, Writer};
    use alloc::string::String;

    fn exposition(format: TextFormat) -> String {
        let mut text = String::new();
        let mut writer = Writer::new(&mut text, format);
        writer.family("tidegate_lost_total", Kind::Counter, "Lost.").unwrap();
        writer
            .sample(&[("reason", &Escaped("a\"b\\c\nd")), ("n", &1)], 2)
            .unwrap();
        writer.single("tidegate_up", Kind::Gauge, "Up.", 0.5).unwrap();
        writer.finish().unwrap();
        text
    }

    #[test]
    fn text_format_keeps_the_total_suffix_in_the_family() {
        assert_eq!(
            exposition(TextFormat::Prometheus),
            "# HELP tidegate_lost_total Lost.\n# TYPE tidegate_lost_total counter\n\
             tidegate_lost_total{reason=\"a\\\"b\\\\c\\nd\",n=\"1\"} 2\n\
             # HELP tidegate_up Up.\n# TYPE tidegate_up gauge\ntidegate_up 0.5\n"
        );
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut text = String::new();
        let mut writer = Writer::new(&mut text, TextFormat::Prometheus);
        writer
            .histogram("t_seconds", "T.", [("0.1", 2), ("0.5", 3)].into_iter(), 4, 5)
            .unwrap();
        assert_eq!(
            text,
            "# HELP t_seconds T.\n# TYPE t_seconds histogram\nt_seconds_bucket{le=\"0.1\"} 2\n\
             t_seconds_bucket{le=\"0.5\"} 5\nt_seconds_bucket{le=\"+Inf\"} 9\nt_seconds_sum 5\nt_seconds_count 9\n"
        );
    }

    #[test]
    fn openmetrics_drops_it_and_ends_in_eof() {
        let text = exposition(TextFormat::OpenMetrics);
        assert!(text.contains("# TYPE tidegate_lost counter\ntidegate_lost_total{"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn accept_header_decides_the_format() {
        assert_eq!(
            TextFormat::negotiate(b"text/plain;version=0.0.4"),
            TextFormat::Prometheus
        );
        assert_eq!(
            TextFormat::negotiate(b"application/OpenMetrics-text;version=1.0.0;q=0.6,*/*;q=0.2"),
            TextFormat::OpenMetrics
        );
    }
}
