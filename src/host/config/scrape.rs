//! `scrape_configs:`: jobs, their targets and how they are scraped.
//!
//! Every value is the effective one once the file is loaded: what a job does not set has been
//! taken over from `global`.
//!
//! Source: prometheus.md §4.2, SCR-105..112, SCR-601.

use super::http::{Authorization, BasicAuth, HttpClient, HttpHeader, OAuth2, TlsConfig};
use super::keys::List;
use super::read::{Read, record};
use super::url::{Scheme, Url};
use super::value::{Duration, FromText, Labels, Named, Secret, Size, read_from_text, read_text};
use super::yaml::{self, Yaml};
use crate::exposition::{SCHEMA_MAX, SCHEMA_MIN};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

record! {
    /// One entry of `scrape_configs`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ScrapeConfig {
        /// Unique name; becomes the label `job`.
        pub job_name: String,
        /// Time between two scrapes of a target.
        pub scrape_interval: Duration,
        /// One deadline for connecting, headers and body.
        pub scrape_timeout: Duration,
        /// What the `Accept` header offers, in order; empty: the default list.
        pub scrape_protocols: Vec<ScrapeProtocol>,
        /// Parser for a body whose `Content-Type` is missing or unknown.
        pub fallback_scrape_protocol: Option<ScrapeProtocol>,
        /// Path of the URL.
        pub metrics_path: String,
        /// http or https.
        pub scheme: Scheme,
        /// Query parameters.
        pub params: Named<Vec<String>>,
        /// Exposed labels win over target labels.
        pub honor_labels: bool,
        /// Exposed timestamps are used.
        pub honor_timestamps: bool,
        /// Series with exposed timestamps get staleness markers too.
        pub track_timestamps_staleness: bool,
        /// gzip is offered.
        pub enable_compression: bool,
        /// Uncompressed bytes of a body at which the scrape fails; 0: no limit.
        pub body_size_limit: Size,
        /// Samples after relabelling above which the scrape fails; 0: no limit.
        pub sample_limit: u32,
        /// Targets of the job above which all of them fail; 0: no limit.
        pub target_limit: u32,
        /// Labels of a series above which the scrape fails; 0: no limit.
        pub label_limit: u32,
        /// Bytes of a label name above which the scrape fails; 0: no limit.
        pub label_name_length_limit: u32,
        /// Bytes of a label value above which the scrape fails; 0: no limit.
        pub label_value_length_limit: u32,
        /// Dropped targets listed by the API; 0: all.
        pub keep_dropped_targets: u32,
        /// File for one JSON line per failed scrape; empty: none.
        pub scrape_failure_log_file: String,
        /// Scrapes report their timeout, sample limit and body size as well; `Some` once loaded.
        pub extra_scrape_metrics: Option<bool>,
        /// Native histograms are scraped; `Some` once loaded.
        pub scrape_native_histograms: Option<bool>,
        /// The classic series of a native histogram are scraped, too; `Some` once loaded.
        pub always_scrape_classic_histograms: Option<bool>,
        /// Classic histograms become native ones with custom buckets; `Some` once loaded.
        pub convert_classic_histograms_to_nhcb: Option<bool>,
        /// Buckets of a native histogram above which its resolution is reduced or, at the lowest, the scrape fails; 0: no limit.
        pub native_histogram_bucket_limit: u32,
        /// Factor from one bucket of a native histogram to the next that is kept to by reducing its resolution; 0: any.
        pub native_histogram_min_bucket_factor: Factor,
        /// Which names are legal; `Some` once loaded.
        pub metric_name_validation_scheme: Option<ValidationScheme>,
        /// How targets are asked to escape names; `Some` once loaded.
        pub metric_name_escaping_scheme: Option<EscapingScheme>,
        /// Targets written in the file.
        pub static_configs: Vec<StaticConfig>,
        /// Targets read from other files.
        pub file_sd_configs: Vec<FileSdConfig>,
        /// Rules over target labels.
        pub relabel_configs: Vec<RelabelConfig>,
        /// Rules over the labels of each sample.
        pub metric_relabel_configs: Vec<RelabelConfig>,

        /// User and password.
        pub basic_auth: Option<BasicAuth>,
        /// `Authorization` header.
        pub authorization: Option<Authorization>,
        /// OAuth 2.0 client credentials.
        pub oauth2: Option<OAuth2>,
        /// Deprecated spelling of `authorization`; empty once loaded.
        pub bearer_token: Secret,
        /// Deprecated spelling of `authorization`; empty once loaded.
        pub bearer_token_file: String,
        /// Certificates and versions.
        pub tls_config: TlsConfig,
        /// 3xx answers are followed.
        pub follow_redirects: bool,
        /// Proxy for all requests.
        pub proxy_url: Option<Url>,
        /// Hosts reached without the proxy, separated by commas.
        pub no_proxy: String,
        /// Proxy from `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`.
        pub proxy_from_environment: bool,
        /// Headers of the proxy's `CONNECT` request.
        pub proxy_connect_header: Named<Vec<Secret>>,
        /// Additional request headers.
        pub http_headers: Named<HttpHeader>,
    }
    not read {
        /// Which file the job stands in and where: for messages.
        pub origin: Origin,
    }
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            job_name: String::new(),
            scrape_interval: Duration::default(),
            scrape_timeout: Duration::default(),
            scrape_protocols: Vec::new(),
            fallback_scrape_protocol: None,
            metrics_path: String::from("/metrics"),
            scheme: Scheme::Http,
            params: Named::default(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            enable_compression: true,
            body_size_limit: Size::default(),
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            scrape_failure_log_file: String::new(),
            extra_scrape_metrics: None,
            scrape_native_histograms: None,
            always_scrape_classic_histograms: None,
            convert_classic_histograms_to_nhcb: None,
            native_histogram_bucket_limit: 0,
            native_histogram_min_bucket_factor: Factor::default(),
            metric_name_validation_scheme: None,
            metric_name_escaping_scheme: None,
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            basic_auth: None,
            authorization: None,
            oauth2: None,
            bearer_token: Secret::default(),
            bearer_token_file: String::new(),
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            proxy_url: None,
            no_proxy: String::new(),
            proxy_from_environment: false,
            proxy_connect_header: Named::default(),
            http_headers: Named::default(),
            origin: Origin::default(),
        }
    }
}

impl ScrapeConfig {
    /// The keys that say how to talk HTTP.
    #[must_use]
    pub fn http_client(&self) -> HttpClient<'_> {
        HttpClient {
            basic_auth: self.basic_auth.as_ref(),
            authorization: self.authorization.as_ref(),
            oauth2: self.oauth2.as_ref(),
            sigv4: None,
            tls_config: &self.tls_config,
            follow_redirects: self.follow_redirects,
            proxy_url: self.proxy_url.as_ref(),
            no_proxy: &self.no_proxy,
            proxy_from_environment: self.proxy_from_environment,
            proxy_connect_header: &self.proxy_connect_header,
            http_headers: &self.http_headers,
        }
    }
}

/// A number that is not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Factor(f64);

impl Factor {
    /// The largest schema whose buckets grow by at least this factor, within what remote write has (Prometheus' `pickSchema`).
    #[must_use]
    pub fn max_schema(&self) -> i8 {
        if self.0 <= 1.0 {
            return SCHEMA_MAX;
        }
        let schema = (-self.0.log2().log2()).floor();
        // Between two small numbers by the line above; infinity is the lowest.
        schema.clamp(SCHEMA_MIN.into(), SCHEMA_MAX.into()) as i8
    }
}

impl FromText for Factor {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(value) if value >= 0.0 && value.is_finite() => Ok(Self(value)),
            _ => Err(format!("found {text:?}, expected a number such as 1.1, or 0")),
        }
    }
}

impl core::fmt::Display for Factor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a job was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// 0: the configuration file; n: the n-th file of `scrape_config_files`.
    pub file: usize,
    /// Position in that file's `scrape_configs`.
    pub index: usize,
}

record! {
    /// Targets that share labels.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct StaticConfig {
        /// Each `host:port`.
        pub targets: Vec<String>,
        /// Labels of all of them.
        pub labels: Labels,
    }
}

record! {
    /// Target groups in files of their own, read again when they change.
    #[derive(Clone, Debug, PartialEq)]
    pub struct FileSdConfig {
        /// Paths ending in .json, .yml or .yaml; the last part may hold one `*`.
        pub files: Vec<String>,
        /// Longest time after which they are read again, changed or not.
        pub refresh_interval: Duration,
    }
}

impl Default for FileSdConfig {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            refresh_interval: Duration::from_secs(300),
        }
    }
}

record! {
    /// One relabelling rule, as text; compiled by the caller of the loader.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RelabelConfig {
        /// Labels whose values are joined.
        pub source_labels: Vec<String>,
        /// What joins them.
        pub separator: String,
        /// Label that is set.
        pub target_label: String,
        /// RE2 syntax, matched against the whole text.
        pub regex: String,
        /// For `hashmod`.
        pub modulus: u64,
        /// Template of the new value or name.
        pub replacement: String,
        /// What the rule does.
        pub action: Action,
    }
}

/// `regex` unless set.
pub const DEFAULT_REGEX: &str = "(.*)";
/// `separator` unless set.
pub const DEFAULT_SEPARATOR: &str = ";";
/// `replacement` unless set.
pub const DEFAULT_REPLACEMENT: &str = "$1";

impl Default for RelabelConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: DEFAULT_SEPARATOR.into(),
            target_label: String::new(),
            regex: DEFAULT_REGEX.into(),
            modulus: 0,
            replacement: DEFAULT_REPLACEMENT.into(),
            action: Action::Replace,
        }
    }
}

pub use crate::exposition::{EscapingScheme, Protocol as ScrapeProtocol};
pub use crate::labels::NameScheme as ValidationScheme;
pub use crate::relabel::Action;

/// The word for a validation scheme.
pub(super) const fn validation_name(scheme: ValidationScheme) -> &'static str {
    match scheme {
        ValidationScheme::Utf8 => "utf8",
        ValidationScheme::Legacy => "legacy",
    }
}

impl FromText for ValidationScheme {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "utf8" => Ok(Self::Utf8),
            "legacy" => Ok(Self::Legacy),
            _ => Err(format!("found {text:?}, expected one of utf8, legacy")),
        }
    }
}

impl FromText for Action {
    /// Letters in any case.
    fn from_text(text: &str) -> Result<Self, String> {
        Self::from_name(text)
            .ok_or_else(|| format!("found {text:?}, expected {}", List(&Self::NAMES.map(|(name, _)| name))))
    }
}

impl FromText for ScrapeProtocol {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::from_name(text).ok_or_else(|| format!("found {text:?}, expected {}", List(&Self::ALL.map(Self::name))))
    }
}

impl FromText for EscapingScheme {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::from_name(text).ok_or_else(|| format!("found {text:?}, expected {}", List(&Self::ALL.map(Self::name))))
    }
}

read_from_text!(Factor, EscapingScheme, ValidationScheme, Action);

impl Read for ScrapeProtocol {
    fn read(yaml: &mut Yaml<'_>) -> yaml::Result<Self> {
        read_text(yaml)
    }

    /// Empty text is none, too: `fallback_scrape_protocol: ""`.
    fn read_option(yaml: &mut Yaml<'_>) -> yaml::Result<Option<Self>> {
        match yaml.text()? {
            text if text.is_empty() => Ok(None),
            text => Self::from_text(&text).map(Some).map_err(yaml::Error::new),
        }
    }

    /// Where the list is written at all, it must not be empty and must not repeat itself.
    fn read_list(yaml: &mut Yaml<'_>) -> yaml::Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::new();
        yaml.list(&mut |yaml| {
            all.push(Self::read(yaml)?);
            Ok(())
        })?;
        // What is wrong with the list is said of the list.
        let twice = |(at, next): (usize, &Self)| all.iter().take(at).any(|one| one == next);
        if let Some((_, next)) = all.iter().enumerate().find(|&entry| twice(entry)) {
            return Err(yaml::Error::new(format!(
                "found {next:?} twice, expected each at most once"
            )));
        }
        if all.is_empty() {
            return Err(yaml::Error::new(
                "found an empty list, expected at least one entry".into(),
            ));
        }
        Ok(all)
    }
}
