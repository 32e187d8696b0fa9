//! The scrape protocols and the Accept header that asks for them.

use super::Format;
use core::fmt::{self, Write};

/// A scrape protocol by its configuration name (`scrape_protocols`, `fallback_scrape_protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `PrometheusProto`.
    PrometheusProto,
    /// `PrometheusText0.0.4`.
    PrometheusText004,
    /// `PrometheusText1.0.0`.
    PrometheusText100,
    /// `OpenMetricsText0.0.1`.
    OpenMetricsText001,
    /// `OpenMetricsText1.0.0`.
    OpenMetricsText100,
}

/// The default list (`SCR-107`).
pub const DEFAULT_PROTOCOLS: [Protocol; 4] = [
    Protocol::OpenMetricsText100,
    Protocol::OpenMetricsText001,
    Protocol::PrometheusText100,
    Protocol::PrometheusText004,
];

/// The default list where native histograms are wanted: only protobuf has them (`SCR-108`).
pub const PROTOBUF_FIRST: [Protocol; 5] = [
    Protocol::PrometheusProto,
    Protocol::OpenMetricsText100,
    Protocol::OpenMetricsText001,
    Protocol::PrometheusText100,
    Protocol::PrometheusText004,
];

impl Protocol {
    /// Every protocol Prometheus knows; their number sets the highest quality value (`SCR-105`).
    pub const ALL: [Self; 5] = [
        Self::PrometheusProto,
        Self::PrometheusText004,
        Self::PrometheusText100,
        Self::OpenMetricsText001,
        Self::OpenMetricsText100,
    ];

    /// The protocol with this configuration name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name)
    }

    /// Its configuration name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
            Self::PrometheusText004 => "PrometheusText0.0.4",
            Self::PrometheusText100 => "PrometheusText1.0.0",
            Self::OpenMetricsText001 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText100 => "OpenMetricsText1.0.0",
        }
    }

    /// The format its bodies are read as.
    #[must_use]
    pub const fn format(self) -> Format {
        match self {
            Self::PrometheusProto => Format::Protobuf,
            Self::PrometheusText004 | Self::PrometheusText100 => Format::Text,
            Self::OpenMetricsText001 | Self::OpenMetricsText100 => Format::OpenMetrics,
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Self::PrometheusText004 => "text/plain;version=0.0.4",
            Self::PrometheusText100 => "text/plain;version=1.0.0",
            Self::OpenMetricsText001 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetricsText100 => "application/openmetrics-text;version=1.0.0",
        }
    }
}

/// How the target is asked to write names outside the legacy alphabet (`metric_name_escaping_scheme`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapingScheme {
    /// `allow-utf-8`: as they are.
    #[default]
    AllowUtf8,
    /// `underscores`.
    Underscores,
    /// `dots`.
    Dots,
    /// `values`.
    Values,
}

impl EscapingScheme {
    /// Every scheme.
    pub const ALL: [Self; 4] = [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values];

    /// The scheme with this configuration name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    /// Its name in the configuration and in the header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}

/// Writes the value of the Accept header for `protocols`, most wanted first (`SCR-105`). At most 400 bytes for any list without repeats.
///
/// # Errors
/// `out` refused a write.
pub fn write_accept(protocols: &[Protocol], escaping: EscapingScheme, out: &mut impl Write) -> fmt::Result {
    let mut quality = Protocol::ALL.len() + 1;
    for protocol in protocols {
        out.write_str(protocol.media_type())?;
        if matches!(protocol, Protocol::PrometheusText100 | Protocol::OpenMetricsText100) {
            write!(out, ";escaping={}", escaping.name())?;
        }
        write!(out, ";q=0.{quality},")?;
        quality = quality.saturating_sub(1);
    }
    write!(out, "*/*;q=0.{quality}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn accept(protocols: &[Protocol], escaping: EscapingScheme) -> String {
        let mut out = String::new();
        write_accept(protocols, escaping, &mut out).unwrap();
        out
    }

    #[test]
    fn header_is_what_prometheus_sends() {
        assert_eq!(
            accept(&DEFAULT_PROTOCOLS, EscapingScheme::AllowUtf8),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        assert_eq!(
            accept(
                &[Protocol::OpenMetricsText100, Protocol::PrometheusText004],
                EscapingScheme::AllowUtf8
            ),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.4"
        );
        assert_eq!(
            accept(&PROTOBUF_FIRST, EscapingScheme::AllowUtf8),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        );
        let all = accept(&Protocol::ALL, EscapingScheme::Underscores);
        assert!(all.starts_with(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
        ));
        assert!(
            all.ends_with("version=1.0.0;escaping=underscores;q=0.2,*/*;q=0.1"),
            "{all}"
        );
        assert!(all.len() <= 400);
    }

    #[test]
    fn names_read_back() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::from_name(protocol.name()), Some(protocol));
        }
        for scheme in EscapingScheme::ALL {
            assert_eq!(EscapingScheme::from_name(scheme.name()), Some(scheme));
        }
        assert_eq!(Protocol::from_name("prometheustext0.0.4"), None);
        assert_eq!(EscapingScheme::from_name(""), None);
        assert_eq!(Protocol::PrometheusProto.format(), Format::Protobuf);
        assert_eq!(Protocol::PrometheusText100.format(), Format::Text);
        assert_eq!(Protocol::OpenMetricsText001.format(), Format::OpenMetrics);
    }
}
