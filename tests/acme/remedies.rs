//! What is told where a CA's server cannot be spoken to: each fault has words and a remedy of its own. Real servers, real
//! handshakes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use autocertd::acme::AcmeError;
use autocertd::runtime::network_fault::NetworkFault;
use autocertd_support::tls_server::{answer, serve_pair};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::fixture::{client, server, settings};

#[tokio::test]
async fn each_fault_of_a_servers_certificate_has_its_own_remedy() {
    let root = Root::new();
    let loopback = "127.0.0.1";
    let cases: [(&str, CertificateParams, NetworkFault, &str); 5] = [
        ("name", leaf("elsewhere.example"), NetworkFault::WrongName, "use a name that the server's certificate has"),
        ("expired", dated(loopback, 2020, 2021), NetworkFault::Expired, "renew the server's certificate"),
        ("early", dated(loopback, 2090, 2091), NetworkFault::NotYetValid, "check the clock"),
        ("ca", authority(loopback), NetworkFault::CaCertificate, "a CA certificate is no server certificate"),
        ("good", leaf(loopback), NetworkFault::UnknownIssuer, "add the CA's root to extra_roots in [acme]"),
    ];
    for (case, params, expected, words) in cases {
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &root.issuer).unwrap().der().to_vec();
        let address = serve_pair(der, key.serialize_der()).await.unwrap();
        let trusted = if case == "good" { Vec::new() } else { vec![root.folder.path().join("root.pem")] };
        let error = ask(trusted, address).await;
        let AcmeError::Unreachable(unreachable) = &error else { panic!("{case}: {error:?}") };
        assert_eq!(unreachable.fault, expected, "{case}: {error}");
        assert!(error.to_string().contains(words), "{case}: {error}");
    }
    // A self-signed CA certificate as the server's own, trusted as it is: what people make with one line of openssl.
    let key = KeyPair::generate().unwrap();
    let own = authority(loopback).self_signed(&key).unwrap();
    let trusted = root.folder.path().join("own.pem");
    std::fs::write(&trusted, own.pem()).unwrap();
    let address = serve_pair(own.der().to_vec(), key.serialize_der()).await.unwrap();
    let error = ask(vec![trusted], address).await;
    assert!(error.to_string().contains("it shows a CA certificate as its own"), "{error}");
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_told_as_such() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    answer(listener, |stream| async move {
        let _ = stream.writable().await;
        let _ = stream.try_write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        // The client has to see the answer before the connection ends.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    });
    let error = ask(Vec::new(), address).await;
    assert!(error.to_string().contains("speaks no TLS"), "{error}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told_as_such() {
    let registration = registration("https://ca.invalid/dir");
    let error = client(&settings(Vec::new())).prepare_registration(&registration).await.unwrap_err();
    assert!(error.to_string().contains("ca.invalid could not be reached: its name does not resolve"), "{error}");
}

#[tokio::test]
async fn a_dead_proxy_is_told_apart_from_the_service_behind_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let refusing = listener.local_addr().unwrap();
    answer(listener, |stream| async move { drop(stream) });
    for proxy in [format!("http://{refusing}"), "http://proxy.invalid:3128".to_owned()] {
        let http = autocertd_support::timed::http().proxy(reqwest::Proxy::https(&proxy).unwrap()).build().unwrap();
        let error = http.get("https://ca.invalid/dir").send().await.unwrap_err();
        let fault = NetworkFault::from_reqwest(&error);
        assert!(matches!(fault, NetworkFault::Proxy { .. }), "{proxy}: {error:?}");
        assert!(fault.remedy("roots").unwrap().contains("_PROXY") || fault.remedy("roots").unwrap().contains("_proxy"));
    }
}

async fn ask(trusted: Vec<std::path::PathBuf>, address: SocketAddr) -> AcmeError {
    let registration = registration(&format!("https://{address}/dir"));
    client(&settings(trusted)).prepare_registration(&registration).await.unwrap_err()
}

fn registration(url: &str) -> autocertd::acme::Registration {
    autocertd::acme::Registration {
        server: server(url),
        email: "ops@example.com".parse().unwrap(),
        external_account: None,
    }
}

struct Root {
    folder: TempDir,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

impl Root {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority("root.example");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Arc::new(Issuer::new(params, key)) }
    }
}

fn leaf(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

fn dated(name: &str, from: i32, to: i32) -> CertificateParams {
    let mut params = leaf(name);
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = leaf(name);
    params.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}
