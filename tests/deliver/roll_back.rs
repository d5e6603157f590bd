//! When the previous version goes back into service, and when not.

use std::path::Path;
use std::sync::Arc;

use autocertd::config::delivery::DeliveryEntry;
use autocertd::deliver::dispatcher::DeliveryTarget;
use autocertd::deliver::targets::build_targets;
use autocertd::deliver::{DeliveryPayload, FilesDelivery};
use autocertd::domain::failure::disposition::Failure;
use autocertd::domain::value::moment::Moment;
use autocertd::runtime::clock::{ManualClock, SharedClock};
use autocertd::runtime::randomness::Randomness;

use crate::payloads::{START, payload};

#[tokio::test]
async fn only_the_try_that_replaced_another_certificate_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path(), "placeholder = false", START);
    let [first, second] = [certificate(), certificate()];
    assert!(!failure(&target, &first).await.message.contains("previous"), "there is nothing before the first");
    for _ in 0..2 {
        let failure = failure(&target, &second).await;
        assert!(failure.message.ends_with("; the previous version went back"), "{failure}");
        assert_eq!(live(folder.path()), first.full_chain_pem());
    }

    // Live for long; then the delivery's settings change, or somebody looks at a moment at which nothing answers.
    publish(folder.path(), &second).await;
    for settings in ["placeholder = false", "combined = true", "combined = true"] {
        let target = self::target(folder.path(), settings, START);
        let failure = failure(&target, &second).await;
        assert!(!failure.message.contains("previous"), "{failure}");
        assert_eq!(live(folder.path()), second.full_chain_pem());
    }
}

#[tokio::test]
async fn an_expired_certificate_does_not_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let [expired, next] = [certificate(), certificate()];
    publish(folder.path(), &expired).await;
    let end = expired.leaf.not_after;
    let failure = failure(&target(folder.path(), "placeholder = false", end), &next).await;
    let words = format!("; the previous version expired at {end}, so the new one stays");
    assert!(failure.message.ends_with(&words), "{failure}");
    assert_eq!(live(folder.path()), next.full_chain_pem());
}

#[tokio::test]
async fn what_is_remembered_of_settings_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let [one, again, other] = ["placeholder = false", "placeholder = false", "combined = true"]
        .map(|settings| entry(folder.path(), settings, "127.0.0.1:1"))
        .map(|entry| made(entry, START).settings);
    assert!(one == again && one != other, "{one}, {again}, {other}");
    assert!(one.len() == 64 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
}

async fn failure(target: &DeliveryTarget, parcel: &DeliveryPayload) -> Failure {
    target.delivery.deliver(parcel, None).await.unwrap_err()
}

/// A delivery of files to a service that does not answer.
fn target(directory: &Path, settings: &str, now: Moment) -> DeliveryTarget {
    let nowhere = autocertd_support::loopback::own_address();
    made(entry(directory, settings, &nowhere.to_string()), now)
}

fn entry(directory: &Path, settings: &str, address: &str) -> DeliveryEntry {
    toml::from_str(&format!(
        "key = 'web'\nrollback = true\nfiles = {{ directory = '{}', {settings} }}\n\
         verify = {{ address = '{address}', timeout = '100ms' }}",
        directory.display()
    ))
    .unwrap()
}

fn made(entry: DeliveryEntry, now: Moment) -> DeliveryTarget {
    let clock: SharedClock = Arc::new(ManualClock::starting_at(now));
    build_targets(&[entry], &[], "local", &clock, &Randomness::from_seed(1)).unwrap().remove(0)
}

async fn publish(directory: &Path, parcel: &DeliveryPayload) {
    let entry = entry(directory, "placeholder = false", "127.0.0.1:1");
    FilesDelivery::new(&entry.files.unwrap()).publish(parcel).await.unwrap();
}

/// One of the same auto-certificate.
fn certificate() -> DeliveryPayload {
    DeliveryPayload { certificate: Randomness::from_system().unwrap().uuid().into(), ..payload("www") }
}

fn live(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("www/fullchain.pem")).unwrap()
}
