//! Secrets, written to an API server over TLS.

use std::fs;
use std::sync::Arc;

use autocertd::config::delivery::KubernetesEntry;
use autocertd::deliver::kubernetes::KubernetesDelivery;
use autocertd::deliver::{Delivery, DeliveryOutcome, DeliveryPayload};
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::runtime::clock::ManualClock;
use autocertd_support::kubernetes::{Kubernetes, Refusal};
use base64::prelude::{BASE64_STANDARD, Engine};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::Duration;

use crate::payloads::{START, payload};

#[tokio::test]
async fn a_secret_is_created_changed_and_left_alone_once_it_is_right() {
    let bench = KubernetesFixture::start().await;
    let first = payload("www");
    assert!(!bench.delivery.is_in_place(&first, None).await.unwrap());
    assert_eq!(bench.delivery.deliver(&first, None).await.unwrap(), DeliveryOutcome::default());

    let secret = bench.secret("www-tls");
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["labels"], json!({ "app.kubernetes.io/managed-by": "autocertd" }));
    assert_eq!(
        secret["metadata"]["annotations"],
        json!({
            "autocertd/auto-certificate": first.recipient.id.to_string(),
            "autocertd/label": "www",
            "autocertd/serial-number": first.leaf.serial_number,
            "autocertd/not-after": "2027-02-20T12:00:00Z",
        })
    );
    assert_eq!(decoded(&secret, "tls.crt"), first.full_chain_pem());
    assert_eq!(decoded(&secret, "tls.key"), first.private_key.expose_secret());
    assert!(bench.delivery.is_in_place(&first, None).await.unwrap());

    bench.delivery.deliver(&first, None).await.unwrap();
    assert_eq!(bench.writes(), ["POST fieldManager=autocertd"], "what is right is not written again");

    let second = payload("www");
    assert!(!bench.delivery.is_in_place(&second, None).await.unwrap());
    bench.delivery.deliver(&second, None).await.unwrap();
    assert_eq!(decoded(&bench.secret("www-tls"), "tls.key"), second.private_key.expose_secret());
    assert_eq!(bench.writes()[1..], ["PATCH fieldManager=autocertd&force=true"]);
}

#[tokio::test]
async fn drift_is_healed_and_what_others_add_stays() {
    let bench = KubernetesFixture::start().await;
    let parcel = payload("www");
    bench.delivery.deliver(&parcel, None).await.unwrap();

    let mut drifted = bench.secret("www-tls");
    drifted["metadata"]["annotations"]["reflector/allowed"] = "true".into();
    drifted["data"]["ca.crt"] = "eA==".into();
    bench.cluster.put(drifted.clone());
    assert!(bench.delivery.is_in_place(&parcel, None).await.unwrap(), "additions do no harm");

    drifted["data"]["tls.key"] = "eA==".into();
    bench.cluster.put(drifted);
    assert!(!bench.delivery.is_in_place(&parcel, None).await.unwrap());
    bench.delivery.deliver(&parcel, None).await.unwrap();

    let healed = bench.secret("www-tls");
    assert_eq!(decoded(&healed, "tls.key"), parcel.private_key.expose_secret());
    assert_eq!(
        (&healed["data"]["ca.crt"], &healed["metadata"]["annotations"]["reflector/allowed"]),
        (&json!("eA=="), &json!("true"))
    );
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_never_overwritten() {
    let bench = KubernetesFixture::start().await;
    let parcel = payload("www");
    let foreign = foreign_secret();
    bench.cluster.put(foreign.clone());
    let failure = bench.failure(&parcel).await;
    assert_eq!(failure.disposition, Disposition::Operator);
    assert!(failure.message.contains("Secret default/www-tls is there already and not autocertd's"), "{failure}");
    assert!(!bench.delivery.is_in_place(&parcel, None).await.unwrap());
    assert_eq!(bench.secret("www-tls")["data"], foreign["data"]);
    assert!(bench.writes().is_empty());
}

#[tokio::test]
async fn somebody_who_is_faster_is_not_overwritten_either() {
    let bench = KubernetesFixture::start().await;
    let parcel = payload("www");
    bench.cluster.put_before_next_write(foreign_secret());
    let failure = bench.failure(&parcel).await;
    assert_eq!(failure.disposition, Disposition::RETRY);
    assert!(failure.message.contains("was changed by someone else"), "{failure}");
    assert_eq!(bench.secret("www-tls")["data"], foreign_secret()["data"]);

    let bench = KubernetesFixture::start().await;
    bench.delivery.deliver(&parcel, None).await.unwrap();
    bench.cluster.put_before_next_write(foreign_secret());
    assert_eq!(bench.failure(&self::payload("www")).await.disposition, Disposition::RETRY);
    assert_eq!(bench.secret("www-tls")["data"], foreign_secret()["data"]);
}

#[tokio::test]
async fn what_kubernetes_never_lets_change_is_told_before_it_is_tried() {
    let bench = KubernetesFixture::start().await;
    let parcel = payload("www");
    for (member, value, words) in [
        ("type", json!("Opaque"), "of type \"Opaque\", which can never change"),
        ("immutable", json!(true), "marked immutable"),
    ] {
        let mut ours = foreign_secret();
        ours["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": "autocertd" });
        ours[member] = value;
        bench.cluster.put(ours);
        let failure = bench.failure(&parcel).await;
        assert_eq!(failure.disposition, Disposition::Operator);
        assert!(failure.message.contains(words) && failure.message.contains("delete it"), "{failure}");
    }
    assert!(bench.writes().is_empty());

    let bench = KubernetesFixture::start().await;
    bench.delivery.deliver(&parcel, None).await.unwrap();
    let mut opaque = bench.secret("www-tls");
    opaque["type"] = "Opaque".into();
    bench.cluster.put(opaque);
    assert!(!bench.delivery.is_in_place(&parcel, None).await.unwrap(), "whatever it holds, no ingress takes it");
}

#[tokio::test]
async fn two_certificates_do_not_share_a_secret() {
    let bench = KubernetesFixture::with("secret = 'tls'\n").await;
    let (one, other) = (payload("one"), payload("other"));
    bench.delivery.deliver(&one, None).await.unwrap();
    let failure = bench.failure(&other).await;
    assert_eq!(failure.disposition, Disposition::Operator);
    assert!(
        failure.message.contains("holds the certificate \"one\"") && failure.message.contains("{name}"),
        "{failure}"
    );
    assert!(!bench.delivery.is_in_place(&other, None).await.unwrap());
    assert!(bench.delivery.is_in_place(&one, None).await.unwrap());
}

#[tokio::test]
async fn labels_that_are_no_names_become_names() {
    let bench = KubernetesFixture::start().await;
    for label in ["_.example.com", "*.example.com", "Web_1", &"x".repeat(300)] {
        bench.delivery.deliver(&payload(label), None).await.unwrap_or_else(|failure| panic!("{label}: {failure}"));
    }
    assert_eq!(bench.writes().len(), 4);
}

#[tokio::test]
async fn the_service_account_is_read_anew_each_time() {
    let bench = KubernetesFixture::start().await;
    bench.delivery.deliver(&payload("www"), None).await.unwrap();
    bench.cluster.exchange_token("service-account-token-2");
    let failure = bench.failure(&payload("www")).await;
    assert_eq!(failure.disposition, Disposition::Operator);
    assert!(failure.message.contains("status 401") && failure.message.contains("token of this cluster"), "{failure}");
    assert!(!failure.message.contains("service-account-token"), "{failure}");

    bench.cluster.mount_service_account(bench.folder.path()).unwrap();
    bench.delivery.deliver(&payload("www"), None).await.unwrap();

    for file in ["token", "ca.crt", "namespace"] {
        let path = bench.folder.path().join(file);
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let failure = bench.failure(&payload("www")).await;
        assert_eq!(failure.disposition, Disposition::RETRY, "{failure}");
        assert!(failure.message.contains(path.to_str().unwrap()), "{failure}");
        fs::write(path, content).unwrap();
    }
    bench.delivery.deliver(&payload("www"), None).await.unwrap();
}

#[tokio::test]
async fn only_the_clusters_own_root_is_trusted() {
    let (bench, other) = (KubernetesFixture::start().await, KubernetesFixture::start().await);
    let root = other.folder.path().join("ca.crt");
    fs::copy(root, bench.folder.path().join("ca.crt")).unwrap();
    let failure = bench.failure(&payload("www")).await;
    assert_eq!(failure.disposition, Disposition::RETRY);
    assert!(failure.message.contains("got no answer") && failure.message.contains("certificate"), "{failure}");
    assert!(bench.cluster.requests().is_empty(), "no token was shown to a stranger");
}

#[tokio::test]
async fn a_missing_right_is_told_with_the_role_that_gives_it() {
    for (verb, delivered_before) in [("get", false), ("create", false), ("patch", true)] {
        let bench = KubernetesFixture::start().await;
        if delivered_before {
            bench.delivery.deliver(&payload("www"), None).await.unwrap();
        }
        bench.cluster.deny(verb);
        let failure = bench.failure(&payload("www")).await;
        assert_eq!(failure.disposition, Disposition::Operator, "{failure}");
        for words in [
            &format!("cannot {verb} resource \"secrets\"") as &str,
            "Role in namespace default that allows get, create and patch of secrets",
        ] {
            assert!(failure.message.contains(words), "{words}: {failure}");
        }
    }
}

#[tokio::test]
async fn passing_faults_are_tried_again_when_the_server_says() {
    let bench = KubernetesFixture::start().await;
    for (status, retry_after, not_before) in [
        (429, Some("20"), Some(START + Duration::seconds(20))),
        (503, Some("Sun, 22 Nov 2026 12:01:00 GMT"), Some(START + Duration::MINUTE)),
        (500, None, None),
    ] {
        bench.cluster.refuse_next(Refusal { status, retry_after: retry_after.map(str::to_owned) });
        assert_eq!(bench.failure(&payload("www")).await.disposition, Disposition::Retry { not_before });
        bench.cluster.refuse_next(Refusal { status, retry_after: retry_after.map(str::to_owned) });
        let failure = bench.delivery.is_in_place(&payload("www"), None).await.unwrap_err();
        assert_eq!(failure.disposition, Disposition::Retry { not_before });
    }
}

#[tokio::test]
async fn a_missing_namespace_is_for_a_person() {
    let bench = KubernetesFixture::with("namespace = 'shop'\n").await;
    let failure = bench.failure(&payload("www")).await;
    assert_eq!(failure.disposition, Disposition::Operator);
    assert!(failure.message.contains("there is no namespace shop"), "{failure}");
}

/// An API server, a pod's service account, and a delivery.
struct KubernetesFixture {
    cluster: Kubernetes,
    folder: TempDir,
    delivery: KubernetesDelivery,
}

impl KubernetesFixture {
    async fn start() -> Self {
        Self::with("").await
    }

    /// With further settings.
    async fn with(more: &str) -> Self {
        let cluster = Kubernetes::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        cluster.mount_service_account(folder.path()).unwrap();
        let settings = format!("{more}server = '{}'\nservice_account = '{}'\n", cluster.url(), folder.path().display());
        let entry: KubernetesEntry = toml::from_str(&settings).unwrap();
        let delivery = KubernetesDelivery::new(&entry, Arc::new(ManualClock::starting_at(START))).unwrap();
        Self { cluster, folder, delivery }
    }

    async fn failure(&self, parcel: &DeliveryPayload) -> Failure {
        self.delivery.deliver(parcel, None).await.unwrap_err()
    }

    fn secret(&self, name: &str) -> Value {
        self.cluster.secret(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Methods and queries of all changes that were asked for.
    fn writes(&self) -> Vec<String> {
        let requests = self.cluster.requests().into_iter().filter(|request| request.method != "GET");
        requests.map(|request| format!("{} {}", request.method, request.query)).collect()
    }
}

fn foreign_secret() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "www-tls" },
        "data": { "tls.crt": "Zm9yZWlnbg==", "tls.key": "Zm9yZWlnbg==" },
    })
}

fn decoded(secret: &Value, key: &str) -> String {
    String::from_utf8(BASE64_STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()).unwrap()
}
