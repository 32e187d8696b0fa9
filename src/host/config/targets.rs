//! From jobs to targets: labels before and after relabelling, and where to scrape.
//!
//! Does what Prometheus does between service discovery and the first scrape (SCR-401..408). Runs at start and on
//! reload; allocates freely.
//!
//! Invariants of a [`TargetSpec`]: `body` is canonical and holds no label whose name begins with
//! `__`; the address parses; interval and timeout are positive and the timeout is not above the interval.
//!
//! Limits: [`MAX_TARGETS`] active targets over all jobs; more is an error of the configuration.

use super::error::{ConfigError, Warning};
use super::load::read;
use super::value::FromText as _;
use super::{Config, Duration, HostPort, Named, Scheme, ScrapeConfig, StaticConfig, glob};
use crate::hash::hash64;
use crate::host::regex::compile_rules;
use crate::labels::{Labels as LabelSet, LabelsFull};
use crate::limits::{MAX_SERIES_TEXT_BYTES, MAX_TARGETS};
use crate::relabel::{Scratch, Verdict};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::os::unix::fs::MetadataExt as _;

/// Applies the `relabel_configs` of the job with this index. `Ok(false)`: the target is dropped.
pub type Relabel<'a> = dyn FnMut(usize, &mut LabelSet) -> Result<bool, String> + 'a;

/// The address that means this program's own metrics, taken without HTTP. A host of this name is meant by `self:PORT`.
pub const BUILT_IN: &str = "self";

/// All targets of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// To be scraped; the position is the [`crate::sample::TargetRef`].
    pub active: Vec<TargetSpec>,
    /// Dropped by relabelling, at most `keep_dropped_targets` of each job.
    pub dropped: Vec<DroppedTarget>,
    /// Dropped targets of each job, kept or not.
    pub dropped_counts: Vec<usize>,
    /// Targets that cannot exist: counted as sync failures of their job.
    pub failed: Vec<FailedTarget>,
    /// Files of `file_sd_configs` that could not be read. On reload the caller may prefer to keep what it has.
    pub broken_files: Vec<Warning>,
    /// What the files held, for the case that they cannot be read the next time.
    pub files: Vec<TargetFile>,
    /// [`Config::file_stamp`] just before they were read.
    pub files_stamp: u64,
}

/// A file of `file_sd_configs`, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetFile {
    /// Entry of `files` it was found by.
    pattern: String,
    path: String,
    groups: Vec<StaticConfig>,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSpec {
    /// Index of its job in [`Config::scrape_configs`].
    pub job: usize,
    /// Labels before relabelling.
    pub discovered: Named<String>,
    /// Labels of every series of the target.
    pub labels: Named<String>,
    /// The same as canonical text, as the catalogue takes it.
    pub body: String,
    /// http or https.
    pub scheme: Scheme,
    /// Host and port.
    pub address: HostPort,
    /// Path and query of the request line.
    pub path_and_query: String,
    /// Path of the Unix socket to connect to instead of the address (SCR-118).
    pub unix_socket: Option<String>,
    /// Time between two scrapes.
    pub interval: Duration,
    /// Deadline of one scrape.
    pub timeout: Duration,
    /// Native histograms are scraped.
    pub native_histograms: bool,
    /// The classic series of a native histogram are scraped, too.
    pub classic_too: bool,
    /// Classic histograms become native ones with custom buckets.
    pub convert_classic: bool,
    /// The target is this program itself: its address is [`BUILT_IN`], and nothing is fetched from the network.
    pub built_in: bool,
    /// Set when the job has more targets than its `target_limit`: the target counts as down and is not scraped.
    pub limit_error: Option<String>,
}

impl TargetSpec {
    /// The scrape URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.address, self.path_and_query)
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port.unwrap_or(self.scheme.default_port())
    }
}

/// A target that relabelling dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedTarget {
    /// Index of its job.
    pub job: usize,
    /// Labels before relabelling.
    pub discovered: Named<String>,
}

/// A target that cannot be scraped at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedTarget {
    /// Index of its job.
    pub job: usize,
    /// Labels before relabelling.
    pub discovered: Named<String>,
    /// Why.
    pub error: String,
}

impl Config {
    /// Expands all jobs by their `relabel_configs`; reads the files of `file_sd_configs`.
    ///
    /// # Errors
    /// More than [`MAX_TARGETS`] targets, or rules that do not compile, which a loaded configuration does not have.
    pub fn expand(&self) -> Result<Targets, ConfigError> {
        self.expand_after(&[])
    }

    /// As [`Config::expand`]; a file that cannot be read has the content it had in `previous`.
    ///
    /// # Errors
    /// As [`Config::expand`].
    pub fn expand_after(&self, previous: &[TargetFile]) -> Result<Targets, ConfigError> {
        let mut rules = Vec::new();
        for (job, config) in self.scrape_configs.iter().enumerate() {
            let scheme = config.metric_name_validation_scheme.unwrap_or_default();
            let compiled = compile_rules(&config.relabel_configs, scheme).map_err(|(n, error)| {
                ConfigError::new(error.to_string()).key(format!("scrape_configs[{job}].relabel_configs[{n}]"))
            })?;
            rules.push(compiled);
        }
        let mut scratch = Scratch::new(MAX_SERIES_TEXT_BYTES);
        self.targets_after(previous, &mut |job, labels| match rules
            .get(job)
            .map(|rules| rules.apply(labels, &mut scratch))
        {
            Some(Ok(Verdict::Drop)) => Ok(false),
            Some(Ok(Verdict::Keep)) | None => Ok(!labels.is_empty()),
            Some(Err(full)) => Err(full.to_string()),
        })
    }

    /// Expands all jobs with relabelling by the caller; reads the files of `file_sd_configs`.
    ///
    /// # Errors
    /// More than [`MAX_TARGETS`] targets.
    pub fn targets(&self, relabel: &mut Relabel<'_>) -> Result<Targets, ConfigError> {
        self.targets_after(&[], relabel)
    }

    fn targets_after(&self, previous: &[TargetFile], relabel: &mut Relabel<'_>) -> Result<Targets, ConfigError> {
        let mut all = Targets {
            files_stamp: self.file_stamp(),
            ..Targets::default()
        };
        let mut set = LabelSet::new(MAX_SERIES_TEXT_BYTES);
        for (job, config) in self.scrape_configs.iter().enumerate() {
            let first = all.active.len();
            all.dropped_counts.push(0);
            for (file, group) in groups(config, previous, &mut all) {
                for address in &group.targets {
                    let candidate = Candidate {
                        job,
                        config,
                        group: &group,
                        file: file.as_deref(),
                        address,
                    };
                    candidate.add_to(&mut all, &mut set, relabel);
                }
            }
            let new = all.active.get_mut(first..).unwrap_or_default();
            let count = new.len();
            if config.target_limit != 0 && count > config.target_limit as usize {
                let limit = config.target_limit;
                let error = format!("target_limit exceeded (number of targets: {count}, limit: {limit})");
                new.iter_mut()
                    .for_each(|target| target.limit_error = Some(error.clone()));
            }
        }
        if all.active.len() > MAX_TARGETS {
            let message = format!("found {} targets, expected at most {MAX_TARGETS}", all.active.len());
            return Err(ConfigError::new(message).key("scrape_configs"));
        }
        Ok(all)
    }
}

impl Config {
    /// Changes when a file of `file_sd_configs` comes, goes or is written: from names, sizes, inodes and times of change. Reads none.
    #[must_use]
    pub fn file_stamp(&self) -> u64 {
        let all = self.scrape_configs.iter().flat_map(|job| &job.file_sd_configs);
        all.flat_map(|sd| &sd.files).fold(0, |stamp, pattern| {
            let files = glob::expand(pattern).unwrap_or_default();
            files.iter().fold(hash64(stamp, pattern.as_bytes()), |stamp, file| {
                let stamp = hash64(stamp, file.as_bytes());
                let Ok(found) = std::fs::metadata(file) else {
                    return stamp;
                };
                let words = [
                    found.mtime() as u64,
                    found.mtime_nsec() as u64,
                    found.len(),
                    found.ino(),
                ];
                words
                    .iter()
                    .fold(stamp, |stamp, word| hash64(stamp, &word.to_le_bytes()))
            })
        })
    }
}

/// Target groups of a job; those from files with the file's path.
fn groups(config: &ScrapeConfig, previous: &[TargetFile], out: &mut Targets) -> Vec<(Option<String>, StaticConfig)> {
    let mut all: Vec<_> = config
        .static_configs
        .iter()
        .map(|group| (None, group.clone()))
        .collect();
    let first = out.files.len();
    let patterns = config.file_sd_configs.iter().flat_map(|sd| &sd.files);
    for pattern in patterns {
        let files = match glob::expand(pattern) {
            Ok(files) => files,
            Err(message) => {
                out.broken_files.push(Warning {
                    file: pattern.clone(),
                    position: None,
                    key: String::new(),
                    message,
                });
                out.files
                    .extend(previous.iter().filter(|file| file.pattern == *pattern).cloned());
                continue;
            }
        };
        for path in files {
            let groups = match read::<Vec<StaticConfig>>(&path, &mut Vec::new()) {
                Ok(groups) => groups,
                Err(ConfigError {
                    file,
                    position,
                    key,
                    message,
                }) => {
                    let before = previous
                        .iter()
                        .find(|file| file.pattern == *pattern && file.path == path);
                    // One that was there and is gone has no targets any more.
                    let gone = before.is_some() && !std::path::Path::new(&path).exists();
                    if !gone {
                        out.broken_files.push(Warning {
                            file,
                            position,
                            key,
                            message,
                        });
                    }
                    let kept = before.filter(|_| !gone);
                    kept.map_or_else(Vec::new, |file| file.groups.clone())
                }
            };
            out.files.push(TargetFile {
                pattern: pattern.clone(),
                path,
                groups,
            });
        }
    }
    let from_files = out.files.get(first..).unwrap_or_default();
    all.extend(from_files.iter().flat_map(|file| {
        let groups = file.groups.iter().cloned();
        groups.map(|group| (Some(file.path.clone()), group))
    }));
    all
}

/// Label names that steer the scrape (SCR-402).
const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PARAM: &str = "__param_";
const UNIX_SOCKET: &str = "__unix_socket__";
const CONVERT_TO_NHCB: &str = "__convert_classic_histograms_to_nhcb__";
const CLASSIC_TOO: &str = "__always_scrape_classic_histograms__";
const NATIVE: &str = "__scrape_native_histograms__";

/// A target as found, before relabelling.
struct Candidate<'a> {
    job: usize,
    config: &'a ScrapeConfig,
    group: &'a StaticConfig,
    /// The file of `file_sd_configs` it stands in.
    file: Option<&'a str>,
    address: &'a str,
}

impl Candidate<'_> {
    /// Its labels (SCR-401, SCR-402).
    fn discover(&self, set: &mut LabelSet) -> Result<(), LabelsFull> {
        set.clear();
        if let Some(file) = self.file {
            set.set("__meta_filepath", file)?;
        }
        // An empty value is no label, and `__param_x: ""` no parameter.
        for (name, value) in self.group.labels.iter().filter(|(_, value)| !value.is_empty()) {
            set.set(name, value)?;
        }
        set.set(ADDRESS, self.address)?;
        let mut default = |name: &str, value: &str| match set.get(name) {
            None | Some("") => set.set(name, value),
            Some(_) => Ok(()),
        };
        default("job", &self.config.job_name)?;
        default(INTERVAL, &self.config.scrape_interval.to_string())?;
        default(TIMEOUT, &self.config.scrape_timeout.to_string())?;
        default(METRICS_PATH, &self.config.metrics_path)?;
        default(SCHEME, self.config.scheme.as_str())?;
        let flag = |on: Option<bool>| if on == Some(true) { "true" } else { "false" };
        default(CONVERT_TO_NHCB, flag(self.config.convert_classic_histograms_to_nhcb))?;
        default(CLASSIC_TOO, flag(self.config.always_scrape_classic_histograms))?;
        default(NATIVE, flag(self.config.scrape_native_histograms))?;
        for (name, values) in self.config.params.iter() {
            if let Some(first) = values.first() {
                default(&format!("{PARAM}{name}"), first)?;
            }
        }
        Ok(())
    }

    fn add_to(&self, all: &mut Targets, set: &mut LabelSet, relabel: &mut Relabel<'_>) {
        let job = self.job;
        let found = self.discover(set).map_err(|e| e.to_string());
        let discovered = snapshot(set, |_| true);
        let keep = found.and_then(|()| relabel(job, set));
        match keep.and_then(|keep| {
            if keep {
                target(set, self, &discovered).map(Some)
            } else {
                Ok(None)
            }
        }) {
            Ok(Some(target)) => {
                // The same labels and URL twice are one target (SCR-408).
                let same = |other: &TargetSpec| other.labels == target.labels && other.url() == target.url();
                if !all.active.iter().any(same) {
                    all.active.push(target);
                }
            }
            Ok(None) => {
                let kept = all.dropped.iter().filter(|dropped| dropped.job == job).count();
                let limit = self.config.keep_dropped_targets as usize;
                if limit == 0 || kept < limit {
                    all.dropped.push(DroppedTarget { job, discovered });
                }
                if let Some(count) = all.dropped_counts.get_mut(job) {
                    *count += 1;
                }
            }
            Err(error) => all.failed.push(FailedTarget { job, discovered, error }),
        }
    }
}

fn snapshot(set: &LabelSet, keep: impl Fn(&str) -> bool) -> Named<String> {
    let labels = set.iter().filter(|label| !label.value.is_empty() && keep(label.name));
    Named(
        labels
            .map(|label| (label.name.to_string(), label.value.to_string()))
            .collect(),
    )
}

/// What a relabelled label set says about the scrape (SCR-404..407).
fn target(set: &mut LabelSet, from: &Candidate<'_>, discovered: &Named<String>) -> Result<TargetSpec, String> {
    let text = |name: &str| set.get(name).unwrap_or_default();
    let address = text(ADDRESS).to_string();
    if address.is_empty() {
        return Err("no address".into());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    let unix_socket = (!text(UNIX_SOCKET).is_empty()).then(|| text(UNIX_SOCKET).to_string());
    let positive = |name: &str| match Duration::from_text(text(name)) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!(
            "label {name} has value {:?}, expected a duration above 0",
            text(name)
        )),
    };
    let (interval, timeout) = (positive(INTERVAL)?, positive(TIMEOUT)?);
    if timeout > interval {
        return Err(format!(
            "scrape timeout {timeout} is above the scrape interval {interval}"
        ));
    }
    for flag in [CONVERT_TO_NHCB, CLASSIC_TOO, NATIVE] {
        if !matches!(text(flag), "" | "false" | "true") {
            return Err(format!(
                "label {flag} has value {:?}, expected true or false",
                text(flag)
            ));
        }
    }
    let on = |flag: &str| text(flag) == "true";
    let (native_histograms, classic_too, convert_classic) = (on(NATIVE), on(CLASSIC_TOO), on(CONVERT_TO_NHCB));
    let scheme = Scheme::from_text(text(SCHEME)).map_err(|e| format!("label {SCHEME}: {e}"))?;
    let parsed = HostPort::parse(&address).map_err(|why| format!("address {address:?}: {why}"))?;
    let path_and_query = path_and_query(set, from.config);
    if set.get("instance").unwrap_or_default().is_empty() {
        set.set("instance", &address).map_err(|e| e.to_string())?;
    }
    set.retain(|label| !label.name.starts_with("__") && !label.value.is_empty());
    let names = from.config.metric_name_validation_scheme.unwrap_or_default();
    if let Some(label) = set.iter().find(|label| !names.allows_label(label.name)) {
        return Err(format!("{:?} is not a valid label name", label.name));
    }
    let mut body = String::new();
    set.write_body(&mut body)
        .map_err(|_| "labels cannot be written as text")?;
    Ok(TargetSpec {
        job: from.job,
        discovered: discovered.clone(),
        labels: snapshot(set, |_| true),
        body,
        native_histograms,
        classic_too,
        convert_classic,
        built_in: address == BUILT_IN && scheme == Scheme::Http && unix_socket.is_none(),
        scheme,
        address: parsed,
        path_and_query,
        unix_socket,
        interval,
        timeout,
        limit_error: None,
    })
}

/// `/metrics?a=b`: the path and the job's parameters with the labels' word on the first value of each (SCR-114).
fn path_and_query(set: &LabelSet, config: &ScrapeConfig) -> String {
    let mut out = String::new();
    let path = set.get(METRICS_PATH).unwrap_or_default();
    if !path.starts_with('/') {
        out.push('/');
    }
    escape(path, b"$&+,/:;=@", &mut out);
    let mut params: Vec<(&str, Vec<&str>)> = config
        .params
        .iter()
        .map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect()))
        .collect();
    for label in set.iter() {
        let Some(name) = label.name.strip_prefix(PARAM) else {
            continue;
        };
        match params.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => match values.first_mut() {
                Some(first) => *first = label.value,
                None => values.push(label.value),
            },
            None => params.push((name, alloc::vec![label.value])),
        }
    }
    params.sort_unstable_by_key(|(name, _)| *name);
    let mut separator = '?';
    for (name, values) in &params {
        for value in values {
            out.push(separator);
            separator = '&';
            escape_query(name, &mut out);
            out.push('=');
            escape_query(value, &mut out);
        }
    }
    out
}

/// Go's `url.QueryEscape`.
fn escape_query(text: &str, out: &mut String) {
    for (n, part) in text.split(' ').enumerate() {
        if n > 0 {
            out.push('+');
        }
        escape(part, b"", out);
    }
}

/// Percent-encodes all bytes but unreserved ones and `also`.
pub(super) fn escape(text: &str, also: &[u8], out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}
