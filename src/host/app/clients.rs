//! The HTTP side of targets and remotes: a client each, with the headers that every request carries.

use super::demand::Demand;
use super::shared::{RemoteClient, ScrapeClient};
use crate::exposition::{EscapingScheme, Protocol, write_accept};
use crate::host::config::{HttpClient, RemoteWrite, Scheme, ScrapeConfig, TargetSpec};
use crate::host::dns::Resolver;
use crate::host::http::{Authorization, Client, Header, HttpError, Secret, TokenSource, Url};
use crate::host::runtime::now;
use crate::host::tls::{TlsClient, TlsContext};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use smol::lock::Mutex;

/// `User-Agent` of scrapes and of remote write.
const USER_AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));

/// Why a client cannot be made from the configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is none that can be spoken to.
    Url,
    /// A header cannot be sent.
    Http(HttpError),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("expected an http or https URL with a host"),
            Self::Http(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ClientError {}

impl From<HttpError> for ClientError {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

/// What all clients are made with.
pub struct Factory {
    /// Roots, provider and clock of all TLS clients.
    pub tls: Rc<TlsContext>,
    /// Names to addresses.
    pub resolver: Rc<Resolver>,
}

fn header(name: &str, value: &str) -> Header {
    Header {
        name: name.into(),
        value: Secret::inline(value),
        sensitive: false,
    }
}

impl Factory {
    /// TLS of one job or remote; what is wrong with its files now may be right when a connection needs them.
    #[must_use]
    pub fn tls(&self, http: &HttpClient<'_>, owner: &str, needed: bool) -> Rc<TlsClient> {
        let tls = http.tls_client(self.tls.clone());
        if !needed {
            return tls;
        }
        if let Err(error) = tls.load() {
            log::warn!(owner, error:% = error; "TLS cannot be set up yet");
        }
        if http.tls_config.insecure_skip_verify {
            log::warn!(
                owner;
                "insecure_skip_verify is set: ANY certificate is accepted, whoever answers gets the samples and credentials"
            );
        }
        tls
    }

    /// Where the tokens of a job or remote come from; `None` where it has no `oauth2`.
    ///
    /// # Errors
    /// The endpoint cannot be spoken to.
    pub fn tokens(&self, http: &HttpClient<'_>) -> Result<Option<Rc<TokenSource>>, ClientError> {
        if http.oauth2.is_none() {
            return Ok(None);
        }
        let (mut config, asked) = http.token_request(self.tls.clone()).ok_or(ClientError::Url)?;
        config.headers.push(header("user-agent", USER_AGENT));
        let client = Client::new(config, self.resolver.clone())?;
        Ok(Some(Rc::new(TokenSource::new(client, asked))))
    }

    fn client(
        &self,
        url: Url,
        http: &HttpClient<'_>,
        (tls, timeout_ms): (Rc<TlsClient>, u64),
        headers: Vec<Header>,
    ) -> Result<Client, ClientError> {
        let mut config = http.client_config(url, tls);
        config.socket.user_timeout_ms = u32::try_from(timeout_ms / 2).ok();
        if let Some(tokens) = self.tokens(http)? {
            config.authorization = Authorization::Token(tokens);
        }
        config.headers.extend(headers);
        Ok(Client::new(config, self.resolver.clone())?)
    }

    /// The HTTP side of a target of `job`, which has `targets_of_job` targets.
    ///
    /// # Errors
    /// A header or URL of the configuration cannot be used.
    pub fn scraper(
        &self,
        job: &ScrapeConfig,
        target: &TargetSpec,
        (tls, tokens): (Rc<TlsClient>, Option<Rc<TokenSource>>),
        (protocols, escaping): (&[Protocol], EscapingScheme),
        targets_of_job: usize,
    ) -> Result<ScrapeClient, ClientError> {
        let mut accept = String::new();
        // A string takes whatever is written to it.
        let _ = write_accept(protocols, escaping, &mut accept);
        let timeout_ms = target.timeout.ms;
        let headers = Vec::from([
            header("accept", &accept),
            header(
                "accept-encoding",
                if job.enable_compression { "gzip" } else { "identity" },
            ),
            header("user-agent", USER_AGENT),
            header("x-prometheus-scrape-timeout-seconds", &seconds(timeout_ms)),
        ]);
        let http = job.http_client();
        let mut config = http.client_config(target.to_http().ok_or(ClientError::Url)?, tls);
        config.headers.extend(headers);
        if let Some(tokens) = tokens {
            config.authorization = Authorization::Token(tokens);
        }
        config.unix_socket = target.unix_socket.as_ref().map(Into::into);
        Ok(ScrapeClient {
            client: Mutex::new(Client::new(config, self.resolver.clone())?),
            timeout_ms,
            target_limit: target
                .limit_error
                .as_ref()
                .map(|_| (targets_of_job, job.target_limit as usize)),
            failure_log: (!job.scrape_failure_log_file.is_empty()).then(|| (&job.scrape_failure_log_file).into()),
            built_in: target.built_in,
        })
    }

    /// The HTTP side of a remote. A URL of another scheme than http and https gets none: as under Prometheus, it does
    /// not keep the other remotes from being served.
    ///
    /// # Errors
    /// A header or URL of the configuration cannot be used.
    pub fn remote(&self, remote: &RemoteWrite) -> Result<RemoteClient, ClientError> {
        let client = match remote.url.scheme {
            Scheme::Other => None,
            _ => Some(Mutex::new(self.remote_client(remote)?)),
        };
        Ok(RemoteClient {
            name: remote.name.clone(),
            url: remote.url.to_string(),
            client,
            demand: RefCell::new(Demand::new(now())),
            signs: remote.sigv4.is_some(),
            timeout_ms: remote.remote_timeout.ms,
            last_error: RefCell::default(),
            hold: Cell::new(None),
            last_success: Cell::new(None),
            failures: Cell::new(0),
            failing: Cell::new(false),
        })
    }

    fn remote_client(&self, remote: &RemoteWrite) -> Result<Client, ClientError> {
        let url = remote.url.to_http().ok_or(ClientError::Url)?;
        let http = remote.http_client();
        let tls = self.tls(&http, &remote.name, url.scheme().as_str() == "https");
        #[cfg(feature = "sigv4")]
        if let Some(Err(error)) = http.signer().map(|signer| signer.look()) {
            log::warn!(owner = remote.name.as_str(), error:% = error; "requests cannot be signed yet");
        }
        let mut headers = Vec::from([header("user-agent", USER_AGENT)]);
        headers.extend(remote.headers.iter().map(|(name, value)| Header {
            sensitive: true,
            ..header(name, value)
        }));
        // An uplink that swallows everything shows itself earlier than by the answer that does not come: it can be probed
        // again that much sooner.
        self.client(url, &http, (tls, remote.remote_timeout.ms), headers)
    }
}

/// Seconds as the shortest decimal (SCR-104).
fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1_000) {
        return (ms / 1_000).to_string();
    }
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
        .trim_end_matches('0')
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn timeouts_are_shortest_decimals() {
        for (ms, text) in [
            (10_000, "10"),
            (500, "0.5"),
            (1_500, "1.5"),
            (1_050, "1.05"),
            (7, "0.007"),
        ] {
            assert_eq!(seconds(ms), text);
        }
    }
}
