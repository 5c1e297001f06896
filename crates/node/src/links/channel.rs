//! An encrypted channel to somebody, and the secret by which the hellos are bound to it.
//!
//! TLS 1.3 alone, ALPN `quipu/1` on both ends, no tickets, no resumption, no early data. The acceptor shows a raw
//! ed25519 key (RFC 7250) made at the start and kept in memory only: without certificates there is nothing to parse,
//! and nothing that could be taken for an identity. The dialer shows none; both prove themselves in the hello.

use std::io;
use std::sync::Arc;

use quipu_net::hello::{BINDING_SIZE, Binding};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme, version};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::error::LinkError;
use crate::error::NodeError;

/// What is spoken on a link.
const ALPN: &[u8] = b"quipu/1";
/// RFC 9266.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// PKCS#8 of an ed25519 key up to its 32 bytes (RFC 8410, 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Makes channels.
pub(super) struct Channel {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    provider: Arc<CryptoProvider>,
}

impl Channel {
    /// With a throw-away key of its own.
    pub(super) fn new() -> Result<Self, NodeError> {
        let failed = |error: rustls::Error| NodeError::system("preparing TLS", error);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut pkcs8 = PKCS8_PREFIX.to_vec();
        let mut seed = [0; 32];
        let filled = provider.secure_random.fill(&mut seed);
        filled.map_err(|_| NodeError::system("preparing TLS", "no randomness"))?;
        pkcs8.extend_from_slice(&seed);
        let key = rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8));
        let key = key.map_err(failed)?;
        let public = key.public_key().expect("an ed25519 key knows its public half").to_vec();
        let shown = CertifiedKey::new(vec![CertificateDer::from(public)], key);
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(shown))));
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        let anyone = Anyone { algorithms: provider.signature_verification_algorithms };
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anyone))
            .with_no_client_auth();
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        client.enable_sni = false;
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let connector = TlsConnector::from(Arc::new(client));
        Ok(Self { acceptor, connector, provider })
    }

    /// The channel of who connected to us, and its binding.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Binding), LinkError> {
        let stream = self.acceptor.accept(stream).await;
        bound(stream.map_err(|reason| LinkError::Tls { reason })?.into())
    }

    /// The channel to whom we connected, and its binding.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Binding), LinkError> {
        let name = ServerName::try_from("quipu").expect("the name is a DNS label; nobody reads it");
        let stream = self.connector.connect(name, stream).await;
        bound(stream.map_err(|reason| LinkError::Tls { reason })?.into())
    }

    /// A number by chance, for jitter.
    pub(super) fn chance(&self) -> u8 {
        let mut byte = [0];
        // Without randomness there is no jitter, and that is all.
        drop(self.provider.secure_random.fill(&mut byte));
        u8::from_le_bytes(byte)
    }
}

/// The channel with its binding, if both ends said what they speak.
fn bound(stream: TlsStream<TcpStream>) -> Result<(TlsStream<TcpStream>, Binding), LinkError> {
    let tls = |text: String| LinkError::Tls { reason: io::Error::other(text) };
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(tls("the other end does not ask for quipu/1".into()));
    }
    let (binding, context) = ([0; BINDING_SIZE], Some(&[][..]));
    let exported = match &stream {
        TlsStream::Client(stream) => {
            stream.get_ref().1.export_keying_material(binding, EXPORTER_LABEL, context)
        }
        TlsStream::Server(stream) => {
            stream.get_ref().1.export_keying_material(binding, EXPORTER_LABEL, context)
        }
    };
    let binding = exported.map_err(|error| tls(error.to_string()))?;
    Ok((stream, binding))
}

/// Takes any raw key, and checks that the handshake is signed by it.
#[derive(Debug)]
struct Anyone {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 alone is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
