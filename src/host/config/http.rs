//! HTTP client keys, shared by jobs and remotes.
//!
//! Files named here are read when a connection needs them, so that certificates and passwords can
//! be exchanged without a restart; the loader only makes their paths absolute.
//!
//! Source: prometheus.md §4.5.

use super::read::record;
use super::url::Url;
use super::value::{FromText, Labels, Named, Secret, words};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The HTTP client keys of a job or a remote.
#[derive(Clone, Copy, Debug)]
pub struct HttpClient<'a> {
    /// User and password.
    pub basic_auth: Option<&'a BasicAuth>,
    /// `Authorization` header.
    pub authorization: Option<&'a Authorization>,
    /// OAuth 2.0 client credentials.
    pub oauth2: Option<&'a OAuth2>,
    /// AWS signatures.
    pub sigv4: Option<&'a SigV4>,
    /// Certificates and versions.
    pub tls_config: &'a TlsConfig,
    /// 3xx answers are followed.
    pub follow_redirects: bool,
    /// Proxy for all requests.
    pub proxy_url: Option<&'a Url>,
    /// Hosts reached without the proxy, separated by commas.
    pub no_proxy: &'a str,
    /// Proxy from the environment.
    pub proxy_from_environment: bool,
    /// Headers of the proxy's `CONNECT` request.
    pub proxy_connect_header: &'a Named<Vec<Secret>>,
    /// Additional request headers.
    pub http_headers: &'a Named<HttpHeader>,
}

record! {
    /// `basic_auth`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct BasicAuth {
        /// User.
        pub username: String,
        /// File that holds the user; blanks around it are cut off.
        pub username_file: String,
        /// Password.
        pub password: Secret,
        /// File that holds the password.
        pub password_file: String,
    }
}

record! {
    /// `authorization`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Authorization {
        /// First word of the header.
        pub r#type: String,
        /// The rest of the header.
        pub credentials: Secret,
        /// File that holds it.
        pub credentials_file: String,
    }
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            r#type: "Bearer".into(),
            credentials: Secret::default(),
            credentials_file: String::new(),
        }
    }
}

record! {
    /// `oauth2`: client credentials.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct OAuth2 {
        /// Id of the client.
        pub client_id: String,
        /// Its secret.
        pub client_secret: Secret,
        /// File that holds it.
        pub client_secret_file: String,
        /// Where tokens are fetched.
        pub token_url: Url,
        /// What they are asked for.
        pub scopes: Vec<String>,
        /// Further fields of the form.
        pub endpoint_params: Labels,
        /// Only `client_credentials`, which is meant when unset.
        pub grant_type: Option<GrantType>,
        /// Certificates and versions for the token's endpoint.
        pub tls_config: TlsConfig,
        /// Proxy on the way to it.
        pub proxy_url: Option<Url>,
        /// Hosts reached without the proxy, separated by commas.
        pub no_proxy: String,
        /// Proxy from the environment.
        pub proxy_from_environment: bool,
        /// Headers of the proxy's `CONNECT` request.
        pub proxy_connect_header: Named<Vec<Secret>>,
    }
}

impl OAuth2 {
    /// How its endpoint is spoken to.
    #[must_use]
    pub fn http_client(&self) -> HttpClient<'_> {
        static NONE: Named<HttpHeader> = Named(Vec::new());
        HttpClient {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            sigv4: None,
            tls_config: &self.tls_config,
            follow_redirects: true,
            proxy_url: self.proxy_url.as_ref(),
            no_proxy: &self.no_proxy,
            proxy_from_environment: self.proxy_from_environment,
            proxy_connect_header: &self.proxy_connect_header,
            http_headers: &NONE,
        }
    }
}

words! {
    /// How a token is asked for.
    GrantType,
    /// With the client's own id and secret.
    ClientCredentials = "client_credentials",
    /// With a signed assertion: known, and refused.
    JwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer",
}

record! {
    /// `sigv4`: AWS signatures. What is empty comes from where AWS' own programs look.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct SigV4 {
        /// Region of the receiver.
        pub region: String,
        /// Id of the key.
        pub access_key: String,
        /// The key.
        pub secret_key: Secret,
        /// File that holds it.
        pub secret_key_file: String,
        /// Profile of the shared files.
        pub profile: String,
        /// The service; `aps` when empty.
        pub service_name: String,
    }
}

record! {
    /// `tls_config`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct TlsConfig {
        /// Trusted certificates, PEM.
        pub ca: String,
        /// File with trusted certificates, PEM.
        pub ca_file: String,
        /// Own certificate chain, PEM.
        pub cert: String,
        /// File with it.
        pub cert_file: String,
        /// Own key, PEM.
        pub key: Secret,
        /// File with it.
        pub key_file: String,
        /// Name to verify and to send instead of the host's.
        pub server_name: String,
        /// Accept any certificate.
        pub insecure_skip_verify: bool,
        /// Lowest version; unset: TLS 1.2.
        pub min_version: Option<TlsVersion>,
        /// Highest version; unset: TLS 1.3.
        pub max_version: Option<TlsVersion>,
    }
}

words! {
    /// A TLS version by Prometheus' name.
    TlsVersion,
    /// Never offered; as `min_version` it means 1.2.
    Tls10 = "TLS10",
    /// Never offered; as `min_version` it means 1.2.
    Tls11 = "TLS11",
    /// TLS 1.2.
    Tls12 = "TLS12",
    /// TLS 1.3.
    Tls13 = "TLS13",
}

record! {
    /// Values of one additional header, sent in this order.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct HttpHeader {
        /// Plain values.
        pub values: Vec<String>,
        /// Values that are never shown.
        pub secrets: Vec<Secret>,
        /// Files that hold a value each.
        pub files: Vec<String>,
    }
}
