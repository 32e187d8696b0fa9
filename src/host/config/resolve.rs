//! Fills in what the file leaves out: inherited values, absolute paths, names, variables.
//!
//! Runs before [`super::check`], which relies on it. Source: prometheus.md §4.1-4.3, RW-52.

use super::http::{Authorization, BasicAuth, HttpHeader, OAuth2, TlsConfig};
use super::load::{Environment, Fault};
use super::scrape::{EscapingScheme, ScrapeProtocol, ValidationScheme};
use super::value::{Duration, Named, Secret, Size};
use super::{Config, Global, RemoteWrite, ScrapeConfig};
use crate::exposition::{DEFAULT_PROTOCOLS, PROTOBUF_FIRST};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use md5::{Digest, Md5};

/// `global.scrape_interval` and the upper bound of `global.scrape_timeout` unless set.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes `path` relative to the directory of the file it stands in.
fn absolute(path: &mut String, file: &str) {
    let Some((dir, _)) = file.rsplit_once('/') else {
        return;
    };
    if !path.is_empty() && !path.starts_with('/') {
        *path = format!("{dir}/{path}");
    }
}

fn absolute_http(
    file: &str,
    basic_auth: &mut Option<BasicAuth>,
    authorization: &mut Option<Authorization>,
    oauth2: &mut Option<OAuth2>,
    tls: &mut TlsConfig,
    headers: &mut Named<HttpHeader>,
) {
    if let Some(auth) = basic_auth {
        absolute(&mut auth.username_file, file);
        absolute(&mut auth.password_file, file);
    }
    if let Some(auth) = authorization {
        absolute(&mut auth.credentials_file, file);
    }
    if let Some(oauth2) = oauth2 {
        absolute(&mut oauth2.client_secret_file, file);
        absolute_tls(&mut oauth2.tls_config, file);
    }
    absolute_tls(tls, file);
    for (_, header) in &mut headers.0 {
        header.files.iter_mut().for_each(|path| absolute(path, file));
    }
}

fn absolute_tls(tls: &mut TlsConfig, file: &str) {
    absolute(&mut tls.ca_file, file);
    absolute(&mut tls.cert_file, file);
    absolute(&mut tls.key_file, file);
}

/// Paths of one job, relative to the file it stands in.
pub(super) fn absolute_job_paths(job: &mut ScrapeConfig, file: &str) {
    absolute_http(
        file,
        &mut job.basic_auth,
        &mut job.authorization,
        &mut job.oauth2,
        &mut job.tls_config,
        &mut job.http_headers,
    );
    absolute(&mut job.bearer_token_file, file);
    absolute(&mut job.scrape_failure_log_file, file);
    for sd in &mut job.file_sd_configs {
        sd.files.iter_mut().for_each(|path| absolute(path, file));
    }
}

/// Paths outside jobs, relative to the configuration file.
pub(super) fn absolute_paths(config: &mut Config, file: &str) {
    for remote in &mut config.remote_write {
        absolute_http(
            file,
            &mut remote.basic_auth,
            &mut remote.authorization,
            &mut remote.oauth2,
            &mut remote.tls_config,
            &mut remote.http_headers,
        );
        absolute(&mut remote.bearer_token_file, file);
        if let Some(sigv4) = &mut remote.sigv4 {
            absolute(&mut sigv4.secret_key_file, file);
        }
    }
    config
        .scrape_config_files
        .iter_mut()
        .for_each(|path| absolute(path, file));
    absolute(&mut config.tidegate.ring.path, file);
    absolute(&mut config.global.scrape_failure_log_file, file);
}

/// Fills in inherited values.
///
/// # Errors
/// What cannot be filled in without deciding between two contradictory keys.
pub(super) fn defaults(config: &mut Config, env: Environment<'_>, notes: &mut Vec<Fault>) -> Result<(), Fault> {
    global(&mut config.global, env, notes)?;
    for job in &mut config.scrape_configs {
        inherit(job, &config.global).map_err(|(key, message)| job_fault(job, key, message))?;
        authorize(
            &mut job.basic_auth,
            &mut job.authorization,
            (job.oauth2.is_some(), false),
            &mut job.bearer_token,
            &mut job.bearer_token_file,
        )
        .map_err(|(key, message)| job_fault(job, key, message))?;
    }
    for (n, remote) in config.remote_write.iter_mut().enumerate() {
        let fault = |(key, message)| Fault::new(format!("remote_write[{n}].{key}"), message);
        authorize(
            &mut remote.basic_auth,
            &mut remote.authorization,
            (remote.oauth2.is_some(), remote.sigv4.is_some()),
            &mut remote.bearer_token,
            &mut remote.bearer_token_file,
        )
        .map_err(fault)?;
        let none = remote.basic_auth.is_none()
            && remote.authorization.is_none()
            && remote.oauth2.is_none()
            && remote.sigv4.is_none();
        if let (Some((user, password)), true) = (&remote.url.userinfo, none) {
            remote.basic_auth = Some(BasicAuth {
                username: user.clone(),
                password: password.clone(),
                ..BasicAuth::default()
            });
        }
        let queue = &mut remote.queue_config;
        or(&mut queue.batch_send_deadline, config.tidegate.uplink.flush_interval);
        or(&mut queue.sample_age_limit, config.tidegate.uplink.max_sample_age);
        if remote.name.is_empty() {
            remote.name = default_name(remote);
        }
    }
    Ok(())
}

/// A [`Fault`] at a key of a job.
pub(super) fn job_fault(job: &ScrapeConfig, key: &str, message: impl Into<String>) -> Fault {
    let key = if key.is_empty() {
        String::new()
    } else {
        format!(".{key}")
    };
    Fault {
        file: job.origin.file,
        key: format!("scrape_configs[{}]{key}", job.origin.index),
        message: message.into(),
    }
}

fn global(global: &mut Global, env: Environment<'_>, notes: &mut Vec<Fault>) -> Result<(), Fault> {
    or(&mut global.scrape_interval, DEFAULT_INTERVAL);
    or(&mut global.scrape_timeout, DEFAULT_TIMEOUT.min(global.scrape_interval));
    let validation = global.metric_name_validation_scheme;
    let escaping = *global.metric_name_escaping_scheme.get_or_insert(follows(validation));
    agree(validation, escaping).map_err(|(key, message)| Fault::new(format!("global.{key}"), message))?;
    for (name, value) in &mut global.external_labels.0 {
        if value.contains('$') {
            *value = expand(value, env, |variable| {
                notes.push(Fault::new(
                    format!("global.external_labels.{name}"),
                    format!("environment variable {variable:?} is not set: it becomes empty"),
                ));
            });
        }
    }
    Ok(())
}

/// What is wrong at which key, below the one at hand.
type Wrong = (&'static str, String);

fn inherit(job: &mut ScrapeConfig, global: &Global) -> Result<(), Wrong> {
    or(&mut job.scrape_interval, global.scrape_interval);
    or(&mut job.scrape_timeout, global.scrape_timeout.min(job.scrape_interval));
    if job.scrape_protocols.is_empty() {
        job.scrape_protocols.clone_from(&global.scrape_protocols);
    }
    let native = *job
        .scrape_native_histograms
        .get_or_insert(global.scrape_native_histograms);
    job.always_scrape_classic_histograms
        .get_or_insert(global.always_scrape_classic_histograms);
    job.convert_classic_histograms_to_nhcb
        .get_or_insert(global.convert_classic_histograms_to_nhcb);
    if job.scrape_protocols.is_empty() {
        let protocols: &[ScrapeProtocol] = if native && cfg!(feature = "protobuf") {
            &PROTOBUF_FIRST
        } else {
            &DEFAULT_PROTOCOLS
        };
        job.scrape_protocols = protocols.into();
    }
    or(&mut job.body_size_limit, global.body_size_limit);
    or(&mut job.sample_limit, global.sample_limit);
    or(&mut job.target_limit, global.target_limit);
    or(&mut job.label_limit, global.label_limit);
    or(&mut job.label_name_length_limit, global.label_name_length_limit);
    or(&mut job.label_value_length_limit, global.label_value_length_limit);
    or(&mut job.keep_dropped_targets, global.keep_dropped_targets);
    if job.scrape_failure_log_file.is_empty() {
        job.scrape_failure_log_file.clone_from(&global.scrape_failure_log_file);
    }
    job.extra_scrape_metrics.get_or_insert(global.extra_scrape_metrics);
    let own_validation = job.metric_name_validation_scheme;
    let validation = *job
        .metric_name_validation_scheme
        .get_or_insert(global.metric_name_validation_scheme);
    let inherited = match own_validation {
        // A job that leaves the global validation scheme leaves its escaping as well.
        Some(own) if own != global.metric_name_validation_scheme => follows(own),
        _ => global.metric_name_escaping_scheme.unwrap_or(follows(validation)),
    };
    let escaping = *job.metric_name_escaping_scheme.get_or_insert(inherited);
    agree(validation, escaping)
}

const fn follows(validation: ValidationScheme) -> EscapingScheme {
    match validation {
        ValidationScheme::Utf8 => EscapingScheme::AllowUtf8,
        ValidationScheme::Legacy => EscapingScheme::Underscores,
    }
}

fn agree(validation: ValidationScheme, escaping: EscapingScheme) -> Result<(), Wrong> {
    if (validation, escaping) == (ValidationScheme::Legacy, EscapingScheme::AllowUtf8) {
        return Err((
            "metric_name_escaping_scheme",
            "found allow-utf-8 together with metric_name_validation_scheme legacy, expected one of underscores, dots, values"
                .into(),
        ));
    }
    Ok(())
}

/// At most one way to authorize; the deprecated spelling becomes the present one.
fn authorize(
    basic_auth: &mut Option<BasicAuth>,
    authorization: &mut Option<Authorization>,
    (oauth2, sigv4): (bool, bool),
    bearer_token: &mut Secret,
    bearer_token_file: &mut String,
) -> Result<(), Wrong> {
    let bearer = !bearer_token.is_empty() || !bearer_token_file.is_empty();
    let given = [basic_auth.is_some(), authorization.is_some(), oauth2, sigv4, bearer];
    if given.iter().filter(|g| **g).count() > 1 {
        let key = if authorization.is_some() {
            "authorization"
        } else if oauth2 {
            "oauth2"
        } else if sigv4 {
            "sigv4"
        } else {
            "basic_auth"
        };
        return Err((
            key,
            "found several of basic_auth, authorization, oauth2, sigv4, bearer_token, expected at most one".into(),
        ));
    }
    if !bearer_token.is_empty() && !bearer_token_file.is_empty() {
        return Err((
            "bearer_token",
            "found bearer_token and bearer_token_file, expected at most one".into(),
        ));
    }
    if bearer {
        *authorization = Some(Authorization {
            credentials: core::mem::take(bearer_token),
            credentials_file: core::mem::take(bearer_token_file),
            ..Authorization::default()
        });
    }
    Ok(())
}

/// Types whose zero means "not set".
trait Unset: Copy {
    fn unset(&self) -> bool;
}

impl Unset for Duration {
    fn unset(&self) -> bool {
        self.is_zero()
    }
}

impl Unset for Size {
    fn unset(&self) -> bool {
        self.is_zero()
    }
}

impl Unset for u32 {
    fn unset(&self) -> bool {
        *self == 0
    }
}

fn or<T: Unset>(value: &mut T, inherited: T) {
    if value.unset() {
        *value = inherited;
    }
}

/// First 6 hexadecimal digits of the MD5 of what tells two unnamed remotes apart: address and headers.
///
/// Prometheus hashes the whole entry; here a changed timeout or password must not make a remote a
/// new one, since the ring remembers acknowledgements by name.
fn default_name(remote: &RemoteWrite) -> String {
    let mut md5 = Md5::new();
    md5.update(format!("{}", remote.url));
    for (name, value) in remote.headers.iter() {
        md5.update(format!("\n{name}: {value}"));
    }
    let digest = md5.finalize();
    digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

/// `text` with `$NAME` and `${NAME}` replaced; `$$` is a dollar sign. `missing` hears of unset variables.
fn expand(text: &str, env: Environment<'_>, mut missing: impl FnMut(&str)) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(braced) => braced,
            None => after.split_at(
                after
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(after.len()),
            ),
        };
        if name.is_empty() {
            // A dollar sign that begins nothing stays.
            out.push('$');
        } else {
            match env(name) {
                Some(value) => out.push_str(&value),
                None => missing(name),
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_as_in_prometheus() {
        let env = |name: &str| (name == "SITE").then(|| String::from("north"));
        let mut unset = Vec::new();
        for (text, expected) in [
            ("plain", "plain"),
            ("$SITE", "north"),
            ("a-${SITE}-b", "a-north-b"),
            ("$SITE-b", "north-b"),
            ("$$SITE", "$SITE"),
            ("$", "$"),
            ("${NOPE}x", "x"),
        ] {
            assert_eq!(expand(text, &env, |name| unset.push(String::from(name))), expected);
        }
        assert_eq!(unset, ["NOPE"]);
    }

    #[test]
    fn paths_become_relative_to_the_file() {
        for (path, expected) in [("a.pem", "/etc/tg/a.pem"), ("/x/a.pem", "/x/a.pem"), ("", "")] {
            let mut path = String::from(path);
            absolute(&mut path, "/etc/tg/tidegate.yml");
            assert_eq!(path, expected);
        }
    }
}
