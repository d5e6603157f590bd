//! A client that makes one TLS handshake after the other, and counts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// How many requests were answered.
    pub(crate) answered: u64,
    /// What failed.
    pub(crate) failures: Vec<String>,
    /// How often each certificate was served, by its DER.
    pub(crate) certificates: BTreeMap<Vec<u8>, u64>,
}

/// Threads that make a connection, a handshake and a request, over and over, until they are asked to stop.
pub(crate) struct Handshakes {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<()>>,
}

impl Handshakes {
    pub(crate) fn start(address: SocketAddr, name: &'static str, threads: usize) -> Self {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Tally::default())));
        let threads = (0..threads)
            .map(|_| {
                let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
                std::thread::spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        let seen = one(address, name);
                        let mut tally = tally.lock().unwrap();
                        match seen {
                            Ok(certificate) => {
                                tally.answered += 1;
                                *tally.certificates.entry(certificate).or_default() += 1;
                            }
                            Err(error) => tally.failures.push(error.to_string()),
                        }
                    }
                })
            })
            .collect();
        Self { stop, tally, threads }
    }

    /// What was seen so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits until `seen` is satisfied.
    pub(crate) fn wait_until(&self, seen: impl Fn(&Tally) -> bool) {
        for _ in 0..600 {
            if seen(&self.tally()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("not within 30 s: {:?}", self.tally().failures);
    }

    /// Stops, and gives what was seen in all.
    pub(crate) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        Arc::try_unwrap(self.tally).unwrap().into_inner().unwrap()
    }
}

/// One connection, handshake and request; gives the certificate that was served, DER.
pub(crate) fn one(address: SocketAddr, name: &'static str) -> std::io::Result<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    let socket = TcpStream::connect_timeout(&address, WAIT_TIMEOUT)?;
    socket.set_read_timeout(Some(WAIT_TIMEOUT))?;
    let mut stream = StreamOwned::new(client, socket);
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    // A server may close without close_notify; what counts is that it answered.
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error),
        _ if !answer.starts_with(b"HTTP/1.1 200") => {
            return Err(std::io::Error::other(format!("answered {:?}", String::from_utf8_lossy(&answer))));
        }
        _ => {}
    }
    let certificates = stream.conn.peer_certificates().unwrap_or_default();
    Ok(certificates.first().map(|certificate| certificate.to_vec()).unwrap_or_default())
}

/// Takes any certificate, but wants the proof that the server has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
