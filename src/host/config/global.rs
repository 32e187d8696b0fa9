//! `global:`: what every job inherits.
//!
//! Source: prometheus.md §4.1.

use super::read::record;
use super::scrape::{EscapingScheme, ScrapeProtocol, ValidationScheme};
use super::value::{Duration, Labels, Size};
use alloc::string::String;
use alloc::vec::Vec;

record! {
    /// The `global` section. Zero limits mean "no limit".
    #[derive(Clone, Debug, PartialEq)]
    pub struct Global {
        /// Time between two scrapes of a target.
        pub scrape_interval: Duration,
        /// One deadline for connecting, headers and body. Zero in the file: the smaller of 10 s and the interval.
        pub scrape_timeout: Duration,
        /// What the `Accept` header offers, in order; empty: the default list.
        pub scrape_protocols: Vec<ScrapeProtocol>,
        /// Native histograms are scraped.
        pub scrape_native_histograms: bool,
        /// The classic series of a native histogram are scraped, too.
        pub always_scrape_classic_histograms: bool,
        /// Classic histograms become native ones with custom buckets.
        pub convert_classic_histograms_to_nhcb: bool,
        /// Labels added to every series when it is sent; values with `$VAR` replaced.
        pub external_labels: Labels,
        /// Uncompressed bytes of a body at which the scrape fails.
        pub body_size_limit: Size,
        /// Samples after relabelling above which the scrape fails.
        pub sample_limit: u32,
        /// Targets of one job above which all of them fail.
        pub target_limit: u32,
        /// Labels of a series above which the scrape fails.
        pub label_limit: u32,
        /// Bytes of a label name above which the scrape fails.
        pub label_name_length_limit: u32,
        /// Bytes of a label value above which the scrape fails.
        pub label_value_length_limit: u32,
        /// Dropped targets listed by the API, per job.
        pub keep_dropped_targets: u32,
        /// File for one JSON line per failed scrape.
        pub scrape_failure_log_file: String,
        /// Scrapes report their timeout, sample limit and body size as well.
        pub extra_scrape_metrics: bool,
        /// Which names are legal.
        pub metric_name_validation_scheme: ValidationScheme,
        /// How targets are asked to escape names; unset: follows the validation scheme.
        pub metric_name_escaping_scheme: Option<EscapingScheme>,
    }
}

record! {
    /// The `storage` section: of a TSDB, but one of its keys is for agents, too.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Storage {
        /// The TSDB.
        pub tsdb: Tsdb,
    }
}

record! {
    /// `storage.tsdb`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Tsdb {
        /// How much older than the newest of its series a sample may be.
        pub out_of_order_time_window: Duration,
    }
}

impl Default for Global {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::default(),
            scrape_protocols: Vec::new(),
            scrape_native_histograms: false,
            always_scrape_classic_histograms: false,
            convert_classic_histograms_to_nhcb: false,
            external_labels: Labels::default(),
            body_size_limit: Size::default(),
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            scrape_failure_log_file: String::new(),
            extra_scrape_metrics: false,
            metric_name_validation_scheme: ValidationScheme::Utf8,
            metric_name_escaping_scheme: None,
        }
    }
}
