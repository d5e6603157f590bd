//! Accounts of other ACME clients, carried in by their keys. The other client is a small one of this file's own.

use autocertd::acme::ProblemKind;
use autocertd::domain::provider::{AdoptionOutcome, ImportedAccount};
use autocertd_support::fault_proxy::Action;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::registrar_fixture::RegistrarFixture;

#[tokio::test]
async fn an_account_on_p256_is_used_as_it_is() {
    let registry = RegistrarFixture::new(Fixture::start_trusting().await).await;
    let key = ForeignKey::generate(&PKCS_ECDSA_P256_SHA256);
    let url = key.register(&registry).await;
    let adopted = registry.registrar.adopt(registry.provider, &carried(&key.pem)).await.unwrap();
    assert_eq!(adopted, AdoptionOutcome { url: url.clone(), has_new_key: false });
    assert_eq!(registry.provider().await.account_url, Some(url));
    assert!(registry.can_order(&registry.credentials().await).await);
    assert_eq!(registry.stage.proxy.count("key-change"), 0);
    assert_eq!(registry.store.earliest_provider_check().await.unwrap(), None, "nothing is left to register");
    registry.registrar.roll_over(registry.provider).await.unwrap();
    assert!(registry.can_order(&registry.credentials().await).await);
}

#[tokio::test]
async fn an_account_with_another_key_gets_one_of_ours_by_a_single_change() {
    for algorithm in [&PKCS_RSA_SHA256, &PKCS_ECDSA_P384_SHA384] {
        let registry = RegistrarFixture::new(Fixture::start_trusting().await).await;
        let key = ForeignKey::generate(algorithm);
        let url = key.register(&registry).await;
        let adopted = registry.registrar.adopt(registry.provider, &carried(&key.pem)).await.unwrap();
        assert_eq!(adopted, AdoptionOutcome { url: url.clone(), has_new_key: true });
        assert_eq!(registry.credentials().await.account_url(), url);
        assert!(registry.can_order(&registry.credentials().await).await);
        assert_eq!(registry.stage.proxy.count("key-change"), 1);
        assert!(!key.is_known(&registry).await, "the other client can use it no longer");
    }
}

#[tokio::test]
async fn certbots_web_key_is_read() {
    let registry = RegistrarFixture::new(Fixture::start_trusting().await).await;
    let key = ForeignKey::generate(&PKCS_RSA_SHA256);
    let url = key.register(&registry).await;
    let adopted = registry.registrar.adopt(registry.provider, &carried(&key.private_jwk())).await.unwrap();
    assert_eq!(adopted, AdoptionOutcome { url, has_new_key: true });
    assert!(registry.can_order(&registry.credentials().await).await);
}

#[tokio::test]
async fn another_account_is_replaced_only_where_a_person_says_so() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let own = registry.credentials().await;
    let key = ForeignKey::generate(&PKCS_RSA_SHA256);
    let url = key.register(&registry).await;
    let stop = registry.registrar.adopt(registry.provider, &carried(&key.pem)).await.unwrap_err();
    for words in [own.account_url(), url.as_str(), "--replace"] {
        assert!(stop.to_string().contains(words), "{stop}");
    }
    assert!(key.is_known(&registry).await, "nothing was changed");
    let replacing = ImportedAccount { replaces: true, ..carried(&key.pem) };
    registry.registrar.adopt(registry.provider, &replacing).await.unwrap();
    assert_eq!(registry.credentials().await.account_url(), url);
    assert!(registry.can_order(&registry.credentials().await).await);
    assert!(registry.can_order(&own).await, "the other one stays at the CA");
}

#[tokio::test]
async fn a_carried_account_that_is_unknown_does_not_cost_the_present_one() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let own = registry.credentials().await;
    let key = ForeignKey::generate(&PKCS_RSA_SHA256);
    key.register(&registry).await;
    registry.refuse("key-change", 400, "accountDoesNotExist");
    let replacing = ImportedAccount { replaces: true, ..carried(&key.pem) };
    let stop = registry.registrar.adopt(registry.provider, &replacing).await.unwrap_err();
    assert!(stop.to_string().contains("no longer knows the account"), "{stop}");
    let provider = registry.provider().await;
    assert_eq!((provider.account_url.as_deref(), provider.account_note), (Some(own.account_url()), None));
    assert!(registry.can_order(&registry.credentials().await).await);
}

#[tokio::test]
async fn an_adoption_whose_answer_is_lost_is_carried_through() {
    let registry = RegistrarFixture::new(Fixture::start_trusting().await).await;
    let key = ForeignKey::generate(&PKCS_RSA_SHA256);
    let url = key.register(&registry).await;
    registry.meet("key-change", || Action::KillAfter(Box::new(|| {})));
    let adopted = registry.registrar.adopt(registry.provider, &carried(&key.pem)).await.unwrap();
    assert_eq!(adopted.url, url);
    assert!(registry.can_order(&registry.credentials().await).await);
}

#[tokio::test]
async fn an_adoption_that_was_cut_off_is_found_at_the_next_use() {
    let registry = RegistrarFixture::new(Fixture::start_trusting().await).await;
    let key = ForeignKey::generate(&PKCS_RSA_SHA256);
    let url = key.register(&registry).await;
    let lease = registry.lease().await;
    let (client, server) = (&registry.stage.client, registry.stage.server());
    let old = autocertd::acme::AccountKey::parse(&key.pem).unwrap();
    let prepared = client.prepare_key_change(&server, &url, old).await.unwrap();
    registry.store.store_key_change(&lease, prepared.credentials()).await.unwrap();
    client.send_key_change(&prepared).await.unwrap();
    let sent = registry.stage.proxy.count("new-account");

    registry.registrar.register(&lease).await.unwrap();
    assert_eq!(registry.provider().await.account_url, Some(url));
    assert_eq!(registry.stage.proxy.count("new-account"), sent + 1, "it was asked for, and none was registered");
    assert!(registry.can_order(&registry.credentials().await).await);
}

#[tokio::test]
async fn a_known_url_is_checked_against_the_key() {
    let registry = RegistrarFixture::new(Fixture::start_trusting().await).await;
    let (key, other) = (ForeignKey::generate(&PKCS_ECDSA_P256_SHA256), ForeignKey::generate(&PKCS_ECDSA_P256_SHA256));
    let (url, other_url) = (key.register(&registry).await, other.register(&registry).await);
    let known = |url: &str| ImportedAccount { url: Some(url.to_owned()), ..carried(&key.pem) };
    registry.registrar.adopt(registry.provider, &known(&other_url)).await.unwrap_err();
    assert!(registry.provider().await.account_url.is_none());
    let adopted = registry.registrar.adopt(registry.provider, &known(&url)).await.unwrap();
    assert_eq!(adopted.url, url);
    assert!(registry.can_order(&registry.credentials().await).await);
}

#[tokio::test]
async fn keys_without_a_living_account_are_refused() {
    let registry = RegistrarFixture::new(Fixture::start_trusting().await).await;
    let key = ForeignKey::generate(&PKCS_RSA_SHA256);
    let stop = registry.registrar.adopt(registry.provider, &carried(&key.pem)).await.unwrap_err();
    assert!(stop.to_string().contains("knows no account with this key"), "{stop}");
    for nonsense in ["", "{}", "no key"] {
        let stop = registry.registrar.adopt(registry.provider, &carried(nonsense)).await.unwrap_err();
        assert!(stop.to_string().contains("holds no key"), "{stop}");
    }
    let url = key.register(&registry).await;
    key.post(&registry, &url, Some(&url), json!({ "status": "deactivated" })).await.unwrap();
    let stop = registry.registrar.adopt(registry.provider, &carried(&key.pem)).await.unwrap_err();
    assert!(stop.to_string().contains("deactivated"), "{stop}");
    assert!(registry.provider().await.account_url.is_none());
    assert!(!stop.to_string().contains(key.pem.lines().nth(1).unwrap()));
}

fn carried(key: &str) -> ImportedAccount {
    ImportedAccount { key: key.to_owned().into(), url: None, replaces: false }
}

/// A key of another client, which signs requests by itself.
struct ForeignKey {
    pem: String,
    pkcs8: PrivatePkcs8KeyDer<'static>,
    algorithm: &'static SignatureAlgorithm,
}

impl ForeignKey {
    fn generate(algorithm: &'static SignatureAlgorithm) -> Self {
        let pem = KeyPair::generate_for(algorithm).unwrap().serialize_pem();
        let PrivateKeyDer::Pkcs8(pkcs8) = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap() else {
            panic!("rcgen writes PKCS#8");
        };
        Self { pem, pkcs8, algorithm }
    }

    async fn register(&self, registry: &RegistrarFixture) -> String {
        let url = format!("{}/sign-me-up", registry.stage.proxy.url());
        let wish = json!({ "termsOfServiceAgreed": true, "contact": ["mailto:other@example.com"] });
        self.post(registry, &url, None, wish).await.unwrap()
    }

    async fn is_known(&self, registry: &RegistrarFixture) -> bool {
        let url = format!("{}/sign-me-up", registry.stage.proxy.url());
        match self.post(registry, &url, None, json!({ "onlyReturnExisting": true })).await {
            Ok(_) => true,
            Err(problem) => {
                assert_eq!(ProblemKind::from_urn(problem["type"].as_str().unwrap()), ProblemKind::AccountDoesNotExist);
                false
            }
        }
    }

    /// Sends a signed request; gives the `Location` of the answer, or its problem.
    async fn post(
        &self,
        registry: &RegistrarFixture,
        url: &str,
        account: Option<&str>,
        payload: Value,
    ) -> Result<String, Value> {
        let root = std::fs::read(registry.stage.proxy.root_pem_path()).unwrap();
        let http = autocertd_support::timed::http()
            .user_agent("another client")
            .tls_certs_only([reqwest::Certificate::from_pem(&root).unwrap()])
            .no_proxy()
            .build()
            .unwrap();
        let nonce = http.head(format!("{}/nonce-plz", registry.stage.proxy.url())).send().await.unwrap();
        let nonce = nonce.headers()["replay-nonce"].to_str().unwrap().to_owned();
        let mut header = json!({ "alg": self.name(), "nonce": nonce, "url": url });
        match account {
            Some(account) => header["kid"] = account.into(),
            None => header["jwk"] = self.public_jwk(),
        }
        let (header, payload) = (text(header.to_string().as_bytes()), text(payload.to_string().as_bytes()));
        let signature = text(&self.sign(format!("{header}.{payload}").as_bytes()));
        let jws = json!({ "protected": header, "payload": payload, "signature": signature });
        let request = http.post(url).header("content-type", "application/jose+json").body(jws.to_string());
        let answer = request.send().await.unwrap();
        if !answer.status().is_success() {
            return Err(answer.json().await.unwrap());
        }
        let location = answer.headers().get("location");
        Ok(location.map(|url| url.to_str().unwrap().to_owned()).unwrap_or_default())
    }

    fn name(&self) -> &'static str {
        match self.algorithm {
            algorithm if *algorithm == PKCS_RSA_SHA256 => "RS256",
            algorithm if *algorithm == PKCS_ECDSA_P384_SHA384 => "ES384",
            _ => "ES256",
        }
    }

    fn rsa(&self) -> RsaKeyPair {
        RsaKeyPair::from_pkcs8(self.pkcs8.secret_pkcs8_der()).unwrap()
    }

    fn ecdsa(&self) -> EcdsaKeyPair {
        let wide = self.name() == "ES384";
        let curve = if wide { &ECDSA_P384_SHA384_FIXED_SIGNING } else { &ECDSA_P256_SHA256_FIXED_SIGNING };
        EcdsaKeyPair::from_pkcs8(curve, self.pkcs8.secret_pkcs8_der()).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        if self.name() != "RS256" {
            return self.ecdsa().sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        }
        let key = self.rsa();
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    fn public_jwk(&self) -> Value {
        if self.name() == "RS256" {
            let numbers = numbers(self.rsa().public_key().as_ref());
            return json!({ "kty": "RSA", "n": numbers[0], "e": numbers[1] });
        }
        let key = self.ecdsa();
        let (x, y) = key.public_key().as_ref()[1..].split_at((key.public_key().as_ref().len() - 1) / 2);
        let curve = if self.name() == "ES384" { "P-384" } else { "P-256" };
        json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
    }

    /// An RSA key as certbot writes it (RFC 7518 section 6.3.2).
    fn private_jwk(&self) -> String {
        let pkcs1 = yasna::parse_der(self.pkcs8.secret_pkcs8_der(), |reader| {
            reader.read_sequence(|reader| {
                reader.next().read_i64()?;
                reader.next().read_tagged_der()?;
                reader.next().read_bytes()
            })
        });
        let numbers = numbers(&pkcs1.unwrap());
        let members = ["", "n", "e", "d", "p", "q", "dp", "dq", "qi"];
        let mut jwk: serde_json::Map<String, Value> =
            members.into_iter().zip(numbers).skip(1).map(|(name, number)| (name.to_owned(), number.into())).collect();
        jwk.insert("kty".to_owned(), "RSA".into());
        Value::Object(jwk).to_string()
    }
}

/// The whole numbers of a DER sequence, in base64url.
fn numbers(der: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    yasna::parse_der(der, |reader| {
        reader.read_sequence_of(|reader| {
            let (number, _) = reader.read_bigint_bytes()?;
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            found.push(text(&number[zeros..]));
            Ok(())
        })
    })
    .unwrap();
    found
}

fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
