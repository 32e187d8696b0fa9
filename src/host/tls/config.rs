//! TLS settings of a job or remote, the certificates they name, and what all clients share.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{OnceCell, RefCell};
use core::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use zeroize::Zeroizing;

use super::clock::CertClock;
use super::error::{Kind, StreamError, TlsError};
use super::stream::TlsStream;
use super::verify::NoVerification;
use crate::host::net::Socket;

/// Sessions kept per client for resumption: one server is enough, a redirect or two may follow.
const SESSIONS: usize = 8;

/// Where distributions keep the bundle of trusted certificates, most common first (the list of Go's
/// crypto/x509). The environment variable `SSL_CERT_FILE` comes before them.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// PEM text: in a file, which is watched for changes, or inline.
#[derive(Clone)]
pub enum Pem {
    /// Path of the file.
    File(PathBuf),
    /// The text itself.
    Inline(Zeroizing<String>),
}

impl Pem {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Inline(_) => None,
        }
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Inline(_) => f.write_str("inline PEM"),
        }
    }
}

/// A protocol version rustls can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// What `tls_config` says.
#[derive(Clone, Default)]
pub struct TlsSettings {
    /// Trusted certificates; none = the system's.
    pub ca: Option<Pem>,
    /// Our certificate chain; goes with `key`.
    pub certificate: Option<Pem>,
    /// Our private key.
    pub key: Option<Pem>,
    /// Name expected in the server's certificate and sent as SNI; none = the URL's host.
    pub server_name: Option<String>,
    /// Accept any certificate. Whoever sets it up logs a loud warning.
    pub insecure_skip_verify: bool,
    /// Lowest version; none = 1.2.
    pub min_version: Option<TlsVersion>,
    /// Highest version; none = 1.3.
    pub max_version: Option<TlsVersion>,
}

/// Why TLS settings cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// A file cannot be read or is not PEM.
    Pem {
        /// The file, or "inline PEM".
        what: String,
        /// Why.
        error: String,
    },
    /// The file or text holds no certificate.
    NoCertificate {
        /// The file, or "inline PEM".
        what: String,
    },
    /// None of the system's bundles exists.
    NoSystemRoots,
    /// Only one of certificate and key is given.
    HalfKeyPair,
    /// The key cannot be used, or is not the certificate's.
    Key(String),
    /// The lowest version is above the highest.
    Versions,
    /// `server_name` is neither a host name nor an address.
    ServerName,
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem { what, error } => write!(f, "read {what}: {error}"),
            Self::NoCertificate { what } => write!(f, "no certificate in {what}"),
            Self::NoSystemRoots => f.write_str("no trusted certificates on this system (set ca_file)"),
            Self::HalfKeyPair => f.write_str("cert_file and key_file must be given together"),
            Self::Key(error) => write!(f, "client certificate and key: {error}"),
            Self::Versions => f.write_str("min_version is above max_version"),
            Self::ServerName => f.write_str("server_name is neither a host name nor an address"),
        }
    }
}

impl core::error::Error for TlsConfigError {}

/// What all TLS clients share.
pub struct TlsContext {
    provider: Arc<CryptoProvider>,
    clock: Arc<CertClock>,
    system_roots: OnceCell<Arc<RootCertStore>>,
}

impl TlsContext {
    /// A context whose certificates are checked against `clock`.
    #[must_use]
    pub fn new(clock: Arc<CertClock>) -> Rc<Self> {
        Rc::new(Self {
            provider: Arc::new(ring::default_provider()),
            clock,
            system_roots: OnceCell::new(),
        })
    }

    /// The clock certificates are checked against.
    #[must_use]
    pub fn clock(&self) -> &CertClock {
        &self.clock
    }

    /// The system's roots, read at the first call that finds some.
    fn system_roots(&self) -> Result<Arc<RootCertStore>, TlsConfigError> {
        if let Some(roots) = self.system_roots.get() {
            return Ok(roots.clone());
        }
        let roots = bundles()
            .filter_map(|path| read_bundle(&path))
            .next()
            .ok_or(TlsConfigError::NoSystemRoots)?;
        Ok(self.system_roots.get_or_init(|| Arc::new(roots)).clone())
    }
}

/// Where the system's roots may be.
fn bundles() -> impl Iterator<Item = PathBuf> {
    let from_environment = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    from_environment
        .into_iter()
        .chain(SYSTEM_BUNDLES.iter().map(PathBuf::from))
}

/// The system's roots as certificates, for one-shot commands.
///
/// # Errors
/// There are none.
pub fn system_roots() -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let certificates = |path: PathBuf| -> Option<Vec<_>> {
        let found: Vec<_> = CertificateDer::pem_file_iter(path).ok()?.flatten().collect();
        (!found.is_empty()).then_some(found)
    };
    bundles()
        .filter_map(certificates)
        .next()
        .ok_or(TlsConfigError::NoSystemRoots)
}

/// The roots of one bundle, entry by entry; entries rustls cannot use are skipped. `None` without any.
fn read_bundle(path: &Path) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).ok()? {
        // One odd entry among 140 must not cost the others.
        let _ = certificate.map(|certificate| roots.add(certificate));
    }
    (!roots.is_empty()).then_some(roots)
}

/// Modification time and length: enough to see that a file was replaced.
type Stamp = Option<(SystemTime, u64)>;

struct Loaded {
    config: Arc<ClientConfig>,
    stamps: [Stamp; 3],
}

/// TLS for one job or remote.
pub struct TlsClient {
    context: Rc<TlsContext>,
    settings: TlsSettings,
    loaded: RefCell<Option<Loaded>>,
}

impl TlsClient {
    /// Keeps the settings; nothing is read before [`Self::load`] or the first connection.
    #[must_use]
    pub fn new(context: Rc<TlsContext>, settings: TlsSettings) -> Self {
        Self {
            context,
            settings,
            loaded: RefCell::new(None),
        }
    }

    /// Reads and checks everything the settings name, the system's roots included when they are needed.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] says which file or setting is wrong.
    pub fn load(&self) -> Result<(), TlsConfigError> {
        self.config().map(|_| ())
    }

    /// Opens a TLS connection to `host` over `socket`.
    ///
    /// # Errors
    ///
    /// The handshake failed, or the settings cannot be loaded.
    pub async fn connect(&self, socket: Socket, host: &str) -> Result<TlsStream, StreamError> {
        let config = self.config().map_err(TlsError::from)?;
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name)
            .map_err(|_| TlsError(Kind::ServerName))?
            .to_owned();
        let mut stream = TlsStream::new(ClientConnection::new(config, name)?, socket);
        stream.handshake().await?;
        Ok(stream)
    }

    /// The current configuration, read again when a file has changed.
    fn config(&self) -> Result<Arc<ClientConfig>, TlsConfigError> {
        let stamps = self.stamps();
        let mut loaded = self.loaded.borrow_mut();
        if let Some(loaded) = loaded.as_ref().filter(|loaded| loaded.stamps == stamps) {
            return Ok(loaded.config.clone());
        }
        match (self.build(), loaded.as_mut()) {
            (Ok(config), _) => {
                *loaded = Some(Loaded {
                    config: config.clone(),
                    stamps,
                });
                Ok(config)
            }
            (Err(error), Some(old)) => {
                log::warn!("changed TLS files are not used: {error}");
                // Said once per change.
                old.stamps = stamps;
                Ok(old.config.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    fn stamps(&self) -> [Stamp; 3] {
        let TlsSettings {
            ca, certificate, key, ..
        } = &self.settings;
        [ca, certificate, key].map(|pem| {
            let metadata = std::fs::metadata(pem.as_ref()?.path()?).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }

    fn build(&self) -> Result<Arc<ClientConfig>, TlsConfigError> {
        let settings = &self.settings;
        if let Some(name) = &settings.server_name {
            ServerName::try_from(name.as_str()).map_err(|_| TlsConfigError::ServerName)?;
        }
        let provider = self.context.provider.clone();
        let builder = ClientConfig::builder_with_details(provider.clone(), self.context.clock.clone())
            .with_protocol_versions(&versions(settings)?)
            .map_err(|_| TlsConfigError::Versions)?;
        let builder = if settings.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(NoVerification(provider)))
        } else {
            builder.with_root_certificates(match &settings.ca {
                Some(ca) => Arc::new(roots(ca)?),
                None => self.context.system_roots()?,
            })
        };
        let mut config = match (&settings.certificate, &settings.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|error| TlsConfigError::Key(alloc::format!("{error}")))?,
            _ => return Err(TlsConfigError::HalfKeyPair),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Arc::new(config))
    }
}

fn versions(settings: &TlsSettings) -> Result<Vec<&'static SupportedProtocolVersion>, TlsConfigError> {
    let min = settings.min_version.unwrap_or(TlsVersion::Tls12);
    let max = settings.max_version.unwrap_or(TlsVersion::Tls13);
    let all = [
        (TlsVersion::Tls13, &version::TLS13),
        #[cfg(feature = "tls12")]
        (TlsVersion::Tls12, &version::TLS12),
    ];
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|(one, _)| (min..=max).contains(one))
        .map(|(_, supported)| supported)
        .collect();
    if chosen.is_empty() {
        Err(TlsConfigError::Versions)
    } else {
        Ok(chosen)
    }
}

fn roots(ca: &Pem) -> Result<RootCertStore, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| bad_pem(ca, &error))?;
    }
    Ok(roots)
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let found: Result<Vec<_>, pem::Error> = match pem {
        Pem::File(path) => CertificateDer::pem_file_iter(path).and_then(Iterator::collect),
        Pem::Inline(text) => CertificateDer::pem_slice_iter(text.as_bytes()).collect(),
    };
    let found = found.map_err(|error| bad_pem(pem, &error))?;
    if found.is_empty() {
        Err(TlsConfigError::NoCertificate {
            what: alloc::format!("{pem}"),
        })
    } else {
        Ok(found)
    }
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    match pem {
        Pem::File(path) => PrivateKeyDer::from_pem_file(path),
        Pem::Inline(text) => PrivateKeyDer::from_pem_slice(text.as_bytes()),
    }
    .map_err(|error| bad_pem(pem, &error))
}

fn bad_pem(pem: &Pem, error: &dyn fmt::Display) -> TlsConfigError {
    TlsConfigError::Pem {
        what: alloc::format!("{pem}"),
        error: alloc::format!("{error}"),
    }
}
