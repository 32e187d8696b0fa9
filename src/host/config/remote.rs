//! `remote_write:`: receivers.
//!
//! Source: prometheus.md §4.3, RW-08.

use super::http::{Authorization, BasicAuth, HttpClient, HttpHeader, OAuth2, SigV4, TlsConfig};
use super::plan::DEFAULT_SAMPLES_PER_SEND;
use super::read::record;
use super::scrape::RelabelConfig;
use super::url::Url;
use super::value::{Duration, FromText, Labels, Named, Secret, words};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

record! {
    /// One entry of `remote_write`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RemoteWrite {
        /// Where requests go.
        pub url: Url,
        /// Message of the first request; the sender may fall back to the other one (RW-30).
        pub protobuf_message: Option<ProtobufMessage>,
        /// Deadline of one attempt.
        pub remote_timeout: Duration,
        /// Additional request headers.
        pub headers: Labels,
        /// Rules over each series, after external labels were added.
        pub write_relabel_configs: Vec<RelabelConfig>,
        /// Unique; `Some`-like once loaded: the first 6 hexadecimal digits of an MD5 unless set.
        pub name: String,
        /// Exemplars are sent.
        pub send_exemplars: bool,
        /// Native histograms are sent.
        pub send_native_histograms: bool,
        /// Batching and back-off.
        pub queue_config: QueueConfig,
        /// Types, units and help texts.
        pub metadata_config: MetadataConfig,
        /// tidegate's own: this remote does not hold samples in the ring until it has taken them.
        pub best_effort: bool,
        /// tidegate's own: the receiver takes samples that are older than what it has of a series, as far back as the ring reaches.
        pub accepts_out_of_order: bool,

        /// User and password.
        pub basic_auth: Option<BasicAuth>,
        /// `Authorization` header.
        pub authorization: Option<Authorization>,
        /// OAuth 2.0 client credentials.
        pub oauth2: Option<OAuth2>,
        /// AWS signatures.
        pub sigv4: Option<SigV4>,
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
}

impl Default for RemoteWrite {
    fn default() -> Self {
        Self {
            url: Url::default(),
            protobuf_message: None,
            remote_timeout: Duration::from_secs(30),
            headers: Labels::default(),
            write_relabel_configs: Vec::new(),
            name: String::new(),
            send_exemplars: false,
            send_native_histograms: false,
            queue_config: QueueConfig::default(),
            metadata_config: MetadataConfig::default(),
            best_effort: false,
            accepts_out_of_order: false,
            basic_auth: None,
            authorization: None,
            oauth2: None,
            sigv4: None,
            bearer_token: Secret::default(),
            bearer_token_file: String::new(),
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            proxy_url: None,
            no_proxy: String::new(),
            proxy_from_environment: false,
            proxy_connect_header: Named::default(),
            http_headers: Named::default(),
        }
    }
}

impl RemoteWrite {
    /// The keys that say how to talk HTTP.
    #[must_use]
    pub fn http_client(&self) -> HttpClient<'_> {
        HttpClient {
            basic_auth: self.basic_auth.as_ref(),
            authorization: self.authorization.as_ref(),
            oauth2: self.oauth2.as_ref(),
            sigv4: self.sigv4.as_ref(),
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

words! {
    /// The protobuf message of a request.
    ProtobufMessage,
    /// Remote write 1.0.
    V1 = "prometheus.WriteRequest",
    /// Remote write 2.0.
    V2 = "io.prometheus.write.v2.Request",
}

record! {
    /// `queue_config`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct QueueConfig {
        /// Samples of one request; sizes the batch buffers.
        pub max_samples_per_send: u32,
        /// Longest time a sample waits for its batch to fill; unset: `tidegate.uplink.flush_interval`.
        pub batch_send_deadline: Duration,
        /// First pause after a failure.
        pub min_backoff: Duration,
        /// Longest pause.
        pub max_backoff: Duration,
        /// Status 429 is retried. On by default, unlike Prometheus: dropping is worse on a box that was offline.
        pub retry_on_http_429: bool,
        /// Age at which samples are given up; unset: `tidegate.uplink.max_sample_age`; zero: never.
        pub sample_age_limit: Duration,
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max_samples_per_send: DEFAULT_SAMPLES_PER_SEND,
            batch_send_deadline: Duration::default(),
            min_backoff: Duration::from_ms(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: true,
            sample_age_limit: Duration::default(),
        }
    }
}

record! {
    /// `metadata_config`: separate metadata requests of remote write 1.0.
    #[derive(Clone, Debug, PartialEq)]
    pub struct MetadataConfig {
        /// Metadata is sent.
        pub send: bool,
        /// How often.
        pub send_interval: Duration,
        /// Families of one request.
        pub max_samples_per_send: u32,
    }
}

impl Default for MetadataConfig {
    fn default() -> Self {
        Self {
            send: true,
            send_interval: Duration::from_secs(60),
            max_samples_per_send: 2_000,
        }
    }
}
