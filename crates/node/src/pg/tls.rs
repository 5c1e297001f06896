//! TLS of the PostgreSQL listener: the certificate that clients see, and what binds a password to it.
//!
//! TLS 1.3 alone. A client asks with `SSLRequest`, or begins with TLS at once (PostgreSQL 17), saying by ALPN that it
//! means this protocol.
//!
//! ```text
//!  Certificate ::= SEQUENCE { tbs SEQUENCE, algorithm SEQUENCE { OID, … }, signature }    RFC 5280, 4.1
//!  tls-server-end-point = hash of the whole certificate, by the hash of its algorithm     RFC 5929, 4.1
//! ```

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use ring::digest;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use tokio_rustls::TlsAcceptor;

use crate::error::NodeError;

/// What a client names that begins with TLS at once.
pub(crate) const ALPN: &[u8] = b"postgresql";
/// The permissions that a key file may give to others: none.
const MODE_OF_OTHERS: u32 = 0o077;
const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 6;

/// Takes TLS connections.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// The certificate's `tls-server-end-point`, if its algorithm has one.
    pub(crate) binding: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("binds", &self.binding.is_some()).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads a chain of certificates, its first the server's, and that one's key; both PEM.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, NodeError> {
        let wrong_key = |reason: String| NodeError::Key { path: key.to_path_buf(), reason };
        let mode = std::fs::metadata(key).map_err(|error| wrong_key(error.to_string()))?;
        let mode = mode.permissions().mode();
        if mode & MODE_OF_OTHERS != 0 {
            let mode = mode & 0o7777;
            return Err(wrong_key(format!("its mode is {mode:04o}; make it 0600: chmod 600")));
        }
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| NodeError::Config {
                path: certificate.to_path_buf(),
                reason: format!("no certificate in PEM: {error}"),
            })?;
        let secret =
            PrivateKeyDer::from_pem_file(key).map_err(|error| wrong_key(error.to_string()))?;
        let binding = chain.first().and_then(|first| end_point(first)).map(Arc::from);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| NodeError::system("preparing TLS", error))?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(|error| wrong_key(format!("it is not the certificate's: {error}")))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), binding })
    }
}

/// The certificate's `tls-server-end-point`; none when its algorithm has no single hash.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (whole, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(whole, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (name, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    let hash = match name {
        // RSA and ECDSA with SHA-256; with MD5 or SHA-1 RFC 5929 means SHA-256 too.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4 | 5 | 11] => &digest::SHA256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => {
            &digest::SHA256
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => &digest::SHA384,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4] => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}

/// The contents of the DER element that `bytes` begin with, and what follows it.
fn element(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (size, rest) = match first.checked_sub(0x80) {
        None => (usize::from(*first), rest),
        Some(count @ 1..=4) => {
            let (digits, rest) = rest.split_at_checked(usize::from(count))?;
            let size = digits.iter().fold(0_u32, |size, digit| size << 8 | u32::from(*digit));
            (usize::try_from(size).ok()?, rest)
        }
        Some(_) => return None,
    };
    let (contents, rest) = rest.split_at_checked(size)?;
    (*tag == wanted).then_some((contents, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = end_point(&bytes);
            let _ = end_point(&[&[SEQUENCE, 0x40, SEQUENCE, 3][..], &bytes].concat());
        }
    }
}
