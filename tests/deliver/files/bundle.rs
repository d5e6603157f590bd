//! PKCS#12, read by OpenSSL. (Java reads it in the `dist` tests.)

use autocertd_support::timed::Timed;
use std::path::Path;
use std::process::Command;

use secrecy::ExposeSecret;

use crate::files::fixture::Fixture;
use crate::files::payloads::{payload, payload_from};

#[tokio::test]
async fn openssl_reads_the_bundle_with_each_form_of_key() {
    let folder = tempfile::tempdir().unwrap();
    for (form, make_key) in [
        ("BEGIN PRIVATE KEY", vec!["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("BEGIN PRIVATE KEY", vec!["genpkey", "-algorithm", "ed25519"]),
        ("BEGIN RSA PRIVATE KEY", vec!["genrsa", "-traditional", "2048"]),
        ("BEGIN EC PRIVATE KEY", vec!["ecparam", "-genkey", "-noout", "-name", "prime256v1"]),
        ("BEGIN EC PARAMETERS", vec!["ecparam", "-genkey", "-name", "secp384r1"]),
        ("BEGIN EC PRIVATE KEY", vec!["ecparam", "-genkey", "-noout", "-name", "secp521r1"]),
    ] {
        let key = openssl(&make_key, folder.path());
        assert!(key.contains(form), "{make_key:?}");
        std::fs::write(folder.path().join("key.pem"), &key).unwrap();
        let certificate =
            openssl(&["req", "-x509", "-key", "key.pem", "-subj", "/CN=www", "-days", "1"], folder.path());
        let stand = with_password("pässwörd");
        let parcel = payload_from(certificate, key);
        stand.files().publish(&parcel).await.unwrap();

        let bundle = stand.path("bundle.p12");
        let read = ["pkcs12", "-in", bundle.to_str().unwrap(), "-passin", &password(&stand)];
        let open = |arguments: &[&str]| openssl(&[&read[..], arguments].concat(), folder.path());
        let certificates = open(&["-nokeys"]);
        let expected = parcel.full_chain_pem();
        assert_eq!(blocks(&certificates), blocks(&expected), "{form}");
        std::fs::write(folder.path().join("read.pem"), open(&["-nocerts", "-nodes"])).unwrap();
        let as_pkcs8 = |file| openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", file], folder.path());
        assert_eq!(as_pkcs8("read.pem"), as_pkcs8("key.pem"), "{form}");
        assert!(certificates.contains("friendlyName: www"), "{certificates}");
    }
}

#[tokio::test]
async fn the_bundle_is_encrypted_as_it_is_today_and_bound_to_its_password() {
    let stand = with_password("first");
    let parcel = payload();
    stand.files().publish(&parcel).await.unwrap();
    let bundle = stand.path("bundle.p12");
    let about = Command::new("openssl")
        .args(["pkcs12", "-info", "-noout", "-in", bundle.to_str().unwrap(), "-passin", &password(&stand)])
        .timed_output()
        .expect("openssl");
    let about = String::from_utf8(about.stderr).unwrap();
    for part in [
        "MAC: sha256, Iteration 10000",
        "PKCS7 Encrypted data: PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256",
        "Shrouded Keybag: PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256",
    ] {
        assert!(about.contains(part), "{about}");
    }
    assert_eq!(stand.mode("bundle.p12"), 0o600);
    assert!(stand.files().is_current(&parcel).await.unwrap());

    std::fs::write(stand.folder.path().join("password"), "second\n").unwrap();
    assert!(!stand.files().is_current(&parcel).await.unwrap());
    stand.files().publish(&parcel).await.unwrap();
    let old = ["pkcs12", "-noout", "-in", bundle.to_str().unwrap(), "-passin", "pass:first"];
    assert!(!Command::new("openssl").args(old).timed_output().unwrap().status.success());
    openssl(&["pkcs12", "-noout", "-in", bundle.to_str().unwrap(), "-passin", "pass:second"], stand.folder.path());
}

#[tokio::test]
async fn a_password_that_cannot_be_read_is_named() {
    let stand = with_password("x");
    std::fs::remove_file(stand.folder.path().join("password")).unwrap();
    let failure = stand.files().publish(&payload()).await.unwrap_err();
    assert!(failure.message.contains("files.pkcs12_password_file: cannot read"), "{failure}");
    assert!(!failure.message.contains(payload().private_key.expose_secret()));
}

fn with_password(password: &str) -> Fixture {
    let mut stand = Fixture::new();
    let file = stand.folder.path().join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    stand.entry.pkcs12_password_file = Some(file);
    stand
}

fn password(stand: &Fixture) -> String {
    format!("file:{}", stand.folder.path().join("password").display())
}

fn openssl(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(folder).timed_output();
    let output = output.expect("the program openssl; tools/install-strace installs it");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The bodies of PEM blocks, without what stands between them.
fn blocks(pem: &str) -> Vec<Vec<u8>> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.unwrap().to_vec()).collect()
}
