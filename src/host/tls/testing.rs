//! A certificate authority and a TLS server for tests.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::server::{ServerConfig, ServerConnection, WebPkiClientVerifier};
use rustls::{RootCertStore, SupportedProtocolVersion, crypto::ring, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::*;
use crate::host::net::Socket;

/// The server's end of a TLS connection.
pub(crate) type ServerStream = TlsStream<ServerConnection>;

/// A certificate authority made for one test.
pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

/// A certificate and its key.
pub(crate) struct TestCert {
    der: CertificateDer<'static>,
    key: KeyPair,
    pem: String,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("ring has entropy");
        let certificate = params.self_signed(&key).expect("valid parameters");
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The authority's certificate as `ca` setting.
    pub(crate) fn pem(&self) -> Pem {
        Pem::Inline(Zeroizing::new(self.pem.clone()))
    }

    /// A certificate for `names`, changed by `change` before it is signed.
    pub(crate) fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> TestCert {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        params.extended_key_usages =
            alloc::vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("ring has entropy");
        let certificate = params.signed_by(&key, &self.issuer).expect("valid parameters");
        TestCert {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            key,
        }
    }

    /// A server of these versions only.
    pub(crate) fn server_of(
        &self,
        certificate: &TestCert,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        self.server_with(certificate, false, versions)
    }

    /// A server that shows `certificate`, and with `mutual` wants one of this authority from its clients.
    pub(crate) fn server(&self, certificate: &TestCert, mutual: bool) -> Arc<ServerConfig> {
        self.server_with(certificate, mutual, &[&version::TLS12, &version::TLS13])
    }

    fn server_with(
        &self,
        certificate: &TestCert,
        mutual: bool,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("ring has suites for them");
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(self.der.clone()).expect("a valid certificate");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
            builder.with_client_cert_verifier(verifier.build().expect("has a root"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certificate.key.serialize_der()));
        Arc::new(
            builder
                .with_single_cert(alloc::vec![certificate.der.clone()], key)
                .expect("a matching pair"),
        )
    }
}

impl TestCert {
    pub(crate) fn pem(&self) -> Pem {
        Pem::Inline(Zeroizing::new(self.pem.clone()))
    }

    pub(crate) fn key_pem(&self) -> Pem {
        Pem::Inline(Zeroizing::new(self.key.serialize_pem()))
    }
}

/// Takes a TLS connection on `socket`.
pub(crate) async fn accept(config: &Arc<ServerConfig>, socket: Socket) -> Result<ServerStream, StreamError> {
    let connection = ServerConnection::new(config.clone()).expect("a valid configuration");
    let mut stream = TlsStream::new(connection, socket);
    stream.handshake().await?;
    stream.try_flush()?;
    Ok(stream)
}

/// A client that trusts `ca`, changed by `change`.
pub(crate) fn client(ca: &TestCa, change: impl FnOnce(&mut TlsSettings)) -> Rc<TlsClient> {
    let mut settings = TlsSettings {
        ca: Some(ca.pem()),
        ..TlsSettings::default()
    };
    change(&mut settings);
    Rc::new(TlsClient::new(TlsContext::new(CertClock::new()), settings))
}
