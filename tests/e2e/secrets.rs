//! No secret leaves its place: neither logs at trace level, nor the database file, nor any answer of the API holds a
//! private key, an external account's secret or a token, in any form. The same search finds what is planted.

use std::path::Path;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::fixture::{Fixture, KEY_ID, KEY_SECRET, auto_certificate, id_of, open_store};

/// Something that must be nowhere, with all its forms.
struct Secret {
    what: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn new(what: &'static str, raw: &[u8]) -> Self {
        let hex: Vec<String> = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.concat();
        let mut forms = vec![raw.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
            forms.extend((0..3).map(|shift| in_the_middle(engine, raw, shift)));
        }
        Self { what, forms }
    }

    fn is_in(&self, text: &[u8]) -> bool {
        self.forms.iter().any(|form| text.windows(form.len()).any(|window| window == form))
    }
}

/// How `raw` looks within something longer that is encoded, beginning `shift` bytes behind a boundary of three: without
/// the characters at either end that depend on what stands beside it.
fn in_the_middle(engine: &GeneralPurpose, raw: &[u8], shift: usize) -> Vec<u8> {
    let padded = [&vec![0; shift], raw].concat();
    let encoded = engine.encode(&padded);
    let begin = (shift * 4).div_ceil(3);
    let end = padded.len() * 4 / 3;
    encoded.as_bytes()[begin..end].to_vec()
}

/// A private key by its PEM text, its DER, and the secret number within.
fn of_private_key(what: &'static str, pem: &str) -> Vec<Secret> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let der = der.secret_der();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let scalar = &der[36..68];
    vec![Secret::new(what, der), Secret::new(what, body.as_bytes()), Secret::new(what, scalar)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_leaves_its_place() {
    let world = Fixture::with_binding().await;
    world.dns.add_zone("secret.example");
    let mut setup = world.setup();
    setup.log = "trace".to_owned();
    let daemon = autocertd_support::daemon::Daemon::start(&setup).await.unwrap();
    let binding = json!({ "keyId": KEY_ID, "keySecret": KEY_SECRET });
    let properties = json!({ "name": "Pebble", "email": "ops@example.com", "server": world.directory(), "externalAccountBinding": binding });
    let provider = daemon.api.create("/providers", properties).await.unwrap();
    let path = auto_certificate(&daemon, &id_of(&provider), "secp256r1", &["www.secret.example"]).await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    let upload = rcgen::generate_simple_self_signed(["upload.example".to_owned()]).unwrap();
    let (certificate, key) = (upload.cert.pem(), upload.signing_key.serialize_pem());
    let properties =
        json!({ "name": "up", "certificate": certificate, "certificateChain": certificate, "privateKey": key });
    let mut answers = daemon.api.create("/certificates", properties).await.unwrap().to_string();
    let wrong = json!({ "name": "up", "certificate": "no", "certificateChain": certificate, "privateKey": key });
    answers += &daemon.api.create("/certificates", wrong).await.unwrap_err().to_string();
    for path in ["/providers", "/auto-certificates", "/certificates", "/openapi.json", "/healthz", "/readyz"] {
        answers += &daemon.api.get(path).await.unwrap().to_string();
    }
    let issued = auto["metadata"]["lastIssuedCertificate"].as_str().unwrap().parse().unwrap();
    let logs = daemon.log();
    assert!(logs.contains("TRACE"), "the log is not at trace level");

    let store = open_store(&setup).await;
    let mut secrets = vec![
        Secret::new("the external account's secret", KEY_SECRET.as_bytes()),
        Secret::new("the external account's key", &BASE64_URL_SAFE_NO_PAD.decode(KEY_SECRET).unwrap()),
        Secret::new("the token of Cloud DNS", setup.cloud_dns_token.as_bytes()),
        Secret::new("the API token", daemon.api.token.as_bytes()),
        Secret::new("the secret part of the API token", secret_part(&daemon.api.token)),
    ];
    secrets.extend(of_private_key("the uploaded key", &key));
    let private_key = store.certificate_private_key(issued).await.unwrap().unwrap();
    secrets.extend(of_private_key("the issued certificate's key", private_key.expose_secret()));
    let account = store.account(id_of(&provider).parse().unwrap()).await.unwrap().unwrap().registered.unwrap();
    let credentials: serde_json::Value = serde_json::from_str(account.credentials.expose_secret()).unwrap();
    let account_key = BASE64_URL_SAFE_NO_PAD.decode(credentials["key_pkcs8"].as_str().unwrap()).unwrap();
    secrets.push(Secret::new("the account key", &account_key));
    secrets.push(Secret::new("the account key's number", &account_key[36..68]));
    store.close().await;

    let mut places: Vec<(String, Vec<u8>)> =
        vec![("logs".into(), logs.into_bytes()), ("answers".into(), answers.into_bytes())];
    places.extend(files_of_the_database(&setup.state()));
    assert!(places.len() >= 3, "no database file was searched");
    for secret in &secrets {
        for (place, text) in &places {
            assert!(!secret.is_in(text), "{} is in {place}", secret.what);
        }
    }
    the_search_finds_what_is_planted(&secrets);
}

/// The text of a token is `autocertd_<id>_<secret>`. The secret is base64url, and may hold an underscore itself.
fn secret_part(token: &str) -> &[u8] {
    let (_, secret) = token.strip_prefix("autocertd_").unwrap().split_once('_').unwrap();
    assert_eq!(secret.len(), 43, "256 bits in base64url");
    secret.as_bytes()
}

fn files_of_the_database(state: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    let database =
        files.filter(|path| path.is_file() && path.file_name().unwrap().to_string_lossy().starts_with("autocertd.db"));
    database.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

fn the_search_finds_what_is_planted(secrets: &[Secret]) {
    let noise = digest::digest(&digest::SHA256, b"noise");
    for secret in secrets {
        assert!(!secret.is_in(noise.as_ref()));
        for form in &secret.forms {
            assert!(secret.is_in(&[noise.as_ref(), form, noise.as_ref()].concat()), "{}", secret.what);
        }
        for shift in 0..3 {
            let longer = [&noise.as_ref()[..shift], &secret.forms[0], noise.as_ref()].concat();
            assert!(secret.is_in(BASE64_STANDARD.encode(&longer).as_bytes()), "{} at {shift}", secret.what);
            assert!(secret.is_in(BASE64_URL_SAFE.encode(&longer).as_bytes()), "{} at {shift}", secret.what);
        }
    }
}
