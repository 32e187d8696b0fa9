//! The effective configuration as YAML, secrets masked: `/api/v1/status/config`, `tidegate check --print`.
//!
//! Every key that has an effect is written with the value in force, defaults and inherited values included; sections and
//! lists that are empty are left out. Loading the output again gives the same configuration, but for
//! the secrets.
//!
//! Writes straight into the caller's sink: nothing is allocated but single scalars.

use super::http::{HttpClient, TlsConfig};
use super::scrape::validation_name;
use super::value::{Named, SECRET_MASK, Secret};
use super::{Config, Global, RelabelConfig, RemoteWrite, ScrapeConfig, StaticConfig, Tidegate};
use core::fmt::{self, Display, Write};

impl Config {
    /// Writes the configuration as YAML.
    ///
    /// # Errors
    /// `out` refused a write.
    pub fn write_yaml(&self, out: &mut dyn Write) -> fmt::Result {
        let mut y = Emitter {
            out,
            indent: 0,
            item: false,
        };
        y.section("global", |y| global(y, &self.global))?;
        y.items("scrape_configs", &self.scrape_configs, job)?;
        y.items("remote_write", &self.remote_write, remote)?;
        let window = self.storage.tsdb.out_of_order_time_window;
        if !window.is_zero() {
            y.section("storage", |y| {
                y.section("tsdb", |y| y.plain("out_of_order_time_window", window))
            })?;
        }
        y.section("tidegate", |y| own(y, &self.tidegate))
    }
}

/// Bytes of a key that is written in front of a mere colon: with every one escaped it is below 1,024 characters.
const LONGEST_SIMPLE_KEY: usize = 160;

/// Writes block-style YAML, two blanks a level.
struct Emitter<'a> {
    out: &'a mut dyn Write,
    indent: usize,
    /// The next key begins a list item.
    item: bool,
}

impl Emitter<'_> {
    fn start(&mut self) -> fmt::Result {
        let dash = core::mem::take(&mut self.item);
        let blanks = self.indent - if dash { 2 } else { 0 };
        write!(self.out, "{:blanks$}{}", "", if dash { "- " } else { "" })
    }

    /// The key and its colon. A long one says with a question mark that it is a key: YAML looks for the colon no further than 1,024
    /// characters.
    fn key(&mut self, key: &str) -> fmt::Result {
        self.start()?;
        if key.len() <= LONGEST_SIMPLE_KEY {
            return write!(self.out, "{}:", Text(key));
        }
        let blanks = self.indent;
        write!(self.out, "? {}\n{:blanks$}:", Text(key), "")
    }

    /// `key: value` of a number, duration, boolean or keyword.
    fn plain(&mut self, key: &str, value: impl Display) -> fmt::Result {
        self.key(key)?;
        writeln!(self.out, " {value}")
    }

    /// `key: value` of free text.
    fn text(&mut self, key: &str, value: &str) -> fmt::Result {
        self.plain(key, Text(value))
    }

    /// As [`Emitter::text`], nothing when the text is empty.
    fn filled(&mut self, key: &str, value: &str) -> fmt::Result {
        if value.is_empty() {
            Ok(())
        } else {
            self.text(key, value)
        }
    }

    fn secret(&mut self, key: &str, value: &Secret) -> fmt::Result {
        if value.is_empty() {
            Ok(())
        } else {
            self.plain(key, SECRET_MASK)
        }
    }

    fn section(&mut self, key: &str, body: impl FnOnce(&mut Self) -> fmt::Result) -> fmt::Result {
        self.key(key)?;
        self.out.write_char('\n')?;
        self.indent += 2;
        body(self)?;
        self.indent -= 2;
        Ok(())
    }

    /// A list of mappings.
    fn items<T>(&mut self, key: &str, items: &[T], each: fn(&mut Self, &T) -> fmt::Result) -> fmt::Result {
        if items.is_empty() {
            return Ok(());
        }
        self.section(key, |y| {
            for item in items {
                y.indent += 2;
                y.item = true;
                each(y, item)?;
                y.indent -= 2;
            }
            Ok(())
        })
    }

    /// A list of scalars.
    fn list<T>(&mut self, key: &str, items: &[T], show: impl Fn(&T) -> Text<'_>) -> fmt::Result {
        if items.is_empty() {
            return Ok(());
        }
        self.key(key)?;
        self.out.write_str(" [")?;
        for (n, item) in items.iter().enumerate() {
            write!(self.out, "{}{}", if n == 0 { "" } else { ", " }, show(item))?;
        }
        self.out.write_str("]\n")
    }

    fn texts(&mut self, key: &str, items: &[alloc::string::String]) -> fmt::Result {
        self.list(key, items, |text| Text(text))
    }

    fn labels(&mut self, key: &str, labels: &Named<alloc::string::String>) -> fmt::Result {
        if labels.is_empty() {
            return Ok(());
        }
        self.section(key, |y| labels.iter().try_for_each(|(name, value)| y.text(name, value)))
    }
}

/// A string scalar, quoted where YAML would read it as something else.
struct Text<'a>(&'a str);

/// Words that other YAML readers take for booleans or null.
const RESERVED: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];

fn is_plain(text: &str) -> bool {
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'/' | b'_' | b'<'));
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/_.-:<>@+=$;".contains(&b));
    first && rest && !text.ends_with(':') && !RESERVED.iter().any(|word| word.eq_ignore_ascii_case(text))
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                    write!(f, "\\u{:04x}", u32::from(c))?;
                }
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

fn global(y: &mut Emitter<'_>, g: &Global) -> fmt::Result {
    y.plain("scrape_interval", g.scrape_interval)?;
    y.plain("scrape_timeout", g.scrape_timeout)?;
    y.list("scrape_protocols", &g.scrape_protocols, |p| Text(p.name()))?;
    if !g.external_labels.is_empty() {
        // A dollar sign that is left was written as two.
        y.section("external_labels", |y| {
            g.external_labels
                .iter()
                .try_for_each(|(name, value)| y.text(name, &value.replace('$', "$$")))
        })?;
    }
    y.plain("scrape_native_histograms", g.scrape_native_histograms)?;
    y.plain("always_scrape_classic_histograms", g.always_scrape_classic_histograms)?;
    y.plain(
        "convert_classic_histograms_to_nhcb",
        g.convert_classic_histograms_to_nhcb,
    )?;
    y.plain("body_size_limit", g.body_size_limit)?;
    y.plain("sample_limit", g.sample_limit)?;
    y.plain("target_limit", g.target_limit)?;
    y.plain("label_limit", g.label_limit)?;
    y.plain("label_name_length_limit", g.label_name_length_limit)?;
    y.plain("label_value_length_limit", g.label_value_length_limit)?;
    y.plain("keep_dropped_targets", g.keep_dropped_targets)?;
    y.filled("scrape_failure_log_file", &g.scrape_failure_log_file)?;
    y.plain("extra_scrape_metrics", g.extra_scrape_metrics)?;
    y.plain(
        "metric_name_validation_scheme",
        validation_name(g.metric_name_validation_scheme),
    )?;
    g.metric_name_escaping_scheme
        .map_or(Ok(()), |scheme| y.plain("metric_name_escaping_scheme", scheme.name()))
}

fn job(y: &mut Emitter<'_>, job: &ScrapeConfig) -> fmt::Result {
    y.text("job_name", &job.job_name)?;
    y.plain("scrape_interval", job.scrape_interval)?;
    y.plain("scrape_timeout", job.scrape_timeout)?;
    y.list("scrape_protocols", &job.scrape_protocols, |p| Text(p.name()))?;
    y.filled(
        "fallback_scrape_protocol",
        job.fallback_scrape_protocol.map_or("", |p| p.name()),
    )?;
    y.text("metrics_path", &job.metrics_path)?;
    y.plain("scheme", job.scheme)?;
    if !job.params.is_empty() {
        y.section("params", |y| {
            job.params.iter().try_for_each(|(name, values)| y.texts(name, values))
        })?;
    }
    y.plain("honor_labels", job.honor_labels)?;
    y.plain("honor_timestamps", job.honor_timestamps)?;
    y.plain("track_timestamps_staleness", job.track_timestamps_staleness)?;
    y.plain("enable_compression", job.enable_compression)?;
    y.plain("body_size_limit", job.body_size_limit)?;
    y.plain("sample_limit", job.sample_limit)?;
    y.plain("target_limit", job.target_limit)?;
    y.plain("label_limit", job.label_limit)?;
    y.plain("label_name_length_limit", job.label_name_length_limit)?;
    y.plain("label_value_length_limit", job.label_value_length_limit)?;
    y.plain("keep_dropped_targets", job.keep_dropped_targets)?;
    if let Some(native) = job.scrape_native_histograms {
        y.plain("scrape_native_histograms", native)?;
    }
    if let Some(classic) = job.always_scrape_classic_histograms {
        y.plain("always_scrape_classic_histograms", classic)?;
    }
    if let Some(convert) = job.convert_classic_histograms_to_nhcb {
        y.plain("convert_classic_histograms_to_nhcb", convert)?;
    }
    y.plain("native_histogram_bucket_limit", job.native_histogram_bucket_limit)?;
    y.plain(
        "native_histogram_min_bucket_factor",
        job.native_histogram_min_bucket_factor,
    )?;
    y.filled("scrape_failure_log_file", &job.scrape_failure_log_file)?;
    y.plain("extra_scrape_metrics", job.extra_scrape_metrics.unwrap_or_default())?;
    if let Some(scheme) = job.metric_name_validation_scheme {
        y.plain("metric_name_validation_scheme", validation_name(scheme))?;
    }
    if let Some(scheme) = job.metric_name_escaping_scheme {
        y.plain("metric_name_escaping_scheme", scheme.name())?;
    }
    y.items("static_configs", &job.static_configs, |y, group: &StaticConfig| {
        // A group without targets still needs a key to hold its place.
        if group.targets.is_empty() {
            y.plain("targets", "[]")?
        } else {
            y.texts("targets", &group.targets)?
        }
        y.labels("labels", &group.labels)
    })?;
    y.items("file_sd_configs", &job.file_sd_configs, |y, sd| {
        y.texts("files", &sd.files)?;
        y.plain("refresh_interval", sd.refresh_interval)
    })?;
    y.items("relabel_configs", &job.relabel_configs, rule)?;
    y.items("metric_relabel_configs", &job.metric_relabel_configs, rule)?;
    http(y, &job.http_client())
}

fn rule(y: &mut Emitter<'_>, rule: &RelabelConfig) -> fmt::Result {
    let default = RelabelConfig::default();
    y.plain("action", rule.action.name())?;
    y.texts("source_labels", &rule.source_labels)?;
    y.filled("target_label", &rule.target_label)?;
    if rule.separator != default.separator {
        y.text("separator", &rule.separator)?;
    }
    if rule.regex != default.regex {
        y.text("regex", &rule.regex)?;
    }
    if rule.modulus != 0 {
        y.plain("modulus", rule.modulus)?;
    }
    if rule.replacement != default.replacement {
        y.text("replacement", &rule.replacement)?;
    }
    Ok(())
}

fn http(y: &mut Emitter<'_>, client: &HttpClient<'_>) -> fmt::Result {
    if let Some(auth) = client.basic_auth {
        y.section("basic_auth", |y| {
            y.text("username", &auth.username)?;
            y.filled("username_file", &auth.username_file)?;
            y.secret("password", &auth.password)?;
            y.filled("password_file", &auth.password_file)
        })?;
    }
    if let Some(auth) = client.authorization {
        y.section("authorization", |y| {
            y.text("type", &auth.r#type)?;
            y.secret("credentials", &auth.credentials)?;
            y.filled("credentials_file", &auth.credentials_file)
        })?;
    }
    if let Some(oauth2) = client.oauth2 {
        y.section("oauth2", |y| {
            y.text("client_id", &oauth2.client_id)?;
            y.secret("client_secret", &oauth2.client_secret)?;
            y.filled("client_secret_file", &oauth2.client_secret_file)?;
            y.text("token_url", &alloc::format!("{}", oauth2.token_url))?;
            y.texts("scopes", &oauth2.scopes)?;
            y.labels("endpoint_params", &oauth2.endpoint_params)?;
            y.section("tls_config", |y| tls(y, &oauth2.tls_config))?;
            proxy(y, &oauth2.http_client())
        })?;
    }
    if let Some(sigv4) = client.sigv4 {
        y.section("sigv4", |y| {
            y.text("region", &sigv4.region)?;
            y.filled("access_key", &sigv4.access_key)?;
            y.secret("secret_key", &sigv4.secret_key)?;
            y.filled("secret_key_file", &sigv4.secret_key_file)?;
            y.filled("profile", &sigv4.profile)?;
            y.filled("service_name", &sigv4.service_name)
        })?;
    }
    y.section("tls_config", |y| tls(y, client.tls_config))?;
    y.plain("follow_redirects", client.follow_redirects)?;
    proxy(y, client)?;
    if client.http_headers.is_empty() {
        return Ok(());
    }
    y.section("http_headers", |y| {
        client.http_headers.iter().try_for_each(|(name, header)| {
            y.section(name, |y| {
                y.texts("values", &header.values)?;
                y.list("secrets", &header.secrets, |_| Text(SECRET_MASK))?;
                y.texts("files", &header.files)
            })
        })
    })
}

fn proxy(y: &mut Emitter<'_>, client: &HttpClient<'_>) -> fmt::Result {
    if let Some(url) = client.proxy_url {
        y.plain("proxy_url", Text(&alloc::format!("{url}")))?;
    }
    y.filled("no_proxy", client.no_proxy)?;
    y.plain("proxy_from_environment", client.proxy_from_environment)?;
    if client.proxy_connect_header.is_empty() {
        return Ok(());
    }
    y.section("proxy_connect_header", |y| {
        client
            .proxy_connect_header
            .iter()
            .try_for_each(|(name, values)| y.list(name, values, |_| Text(SECRET_MASK)))
    })
}

fn tls(y: &mut Emitter<'_>, tls: &TlsConfig) -> fmt::Result {
    y.filled("ca", &tls.ca)?;
    y.filled("ca_file", &tls.ca_file)?;
    y.filled("cert", &tls.cert)?;
    y.filled("cert_file", &tls.cert_file)?;
    y.secret("key", &tls.key)?;
    y.filled("key_file", &tls.key_file)?;
    y.filled("server_name", &tls.server_name)?;
    y.filled("min_version", tls.min_version.map_or("", |v| v.as_str()))?;
    y.filled("max_version", tls.max_version.map_or("", |v| v.as_str()))?;
    y.plain("insecure_skip_verify", tls.insecure_skip_verify)
}

fn remote(y: &mut Emitter<'_>, remote: &RemoteWrite) -> fmt::Result {
    y.text("url", &alloc::format!("{}", remote.url))?;
    y.text("name", &remote.name)?;
    y.filled("protobuf_message", remote.protobuf_message.map_or("", |m| m.as_str()))?;
    y.plain("remote_timeout", remote.remote_timeout)?;
    y.labels("headers", &remote.headers)?;
    y.items("write_relabel_configs", &remote.write_relabel_configs, rule)?;
    y.plain("send_exemplars", remote.send_exemplars)?;
    y.plain("send_native_histograms", remote.send_native_histograms)?;
    y.plain("best_effort", remote.best_effort)?;
    y.plain("accepts_out_of_order", remote.accepts_out_of_order)?;
    y.section("queue_config", |y| {
        let queue = &remote.queue_config;
        y.plain("max_samples_per_send", queue.max_samples_per_send)?;
        y.plain("batch_send_deadline", queue.batch_send_deadline)?;
        y.plain("min_backoff", queue.min_backoff)?;
        y.plain("max_backoff", queue.max_backoff)?;
        y.plain("retry_on_http_429", queue.retry_on_http_429)?;
        y.plain("sample_age_limit", queue.sample_age_limit)
    })?;
    y.section("metadata_config", |y| {
        let metadata = &remote.metadata_config;
        y.plain("send", metadata.send)?;
        y.plain("send_interval", metadata.send_interval)?;
        y.plain("max_samples_per_send", metadata.max_samples_per_send)
    })?;
    http(y, &remote.http_client())
}

fn own(y: &mut Emitter<'_>, own: &Tidegate) -> fmt::Result {
    y.text("listen_address", &own.listen_address)?;
    y.plain("start_timestamps", own.start_timestamps)?;
    y.section("ring", |y| {
        y.text("path", &own.ring.path)?;
        y.plain("size", own.ring.size)?;
        y.plain("segment_size", own.ring.segment_size)?;
        y.plain("block_size", own.ring.block_size)?;
        y.plain("commit_interval", own.ring.commit_interval)?;
        y.plain("when_full", own.ring.when_full)
    })?;
    y.section("memory", |y| {
        y.plain("limit", own.memory.limit)?;
        y.plain("max_series", own.memory.max_series)?;
        y.plain("max_concurrent_scrapes", own.memory.max_concurrent_scrapes)?;
        y.plain("metadata", own.memory.metadata)
    })?;
    y.section("uplink", |y| {
        y.plain("flush_interval", own.uplink.flush_interval)?;
        y.plain("max_sample_age", own.uplink.max_sample_age)?;
        y.plain("rate_limit", own.uplink.rate_limit)?;
        y.plain("slow_start", own.uplink.slow_start)?;
        y.plain("live_share", own.uplink.live_share)
    })?;
    y.section("clock", |y| {
        y.plain("trust", own.clock.trust)?;
        y.plain("unknown_boot", own.clock.unknown_boot)?;
        y.plain("max_skew", own.clock.max_skew)
    })
}
