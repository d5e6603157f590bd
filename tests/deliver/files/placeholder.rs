//! The pair that stands in for a first certificate.

use autocertd::deliver::{PublishOutcome, RollBackOutcome};
use autocertd::domain::certificate::leaf::Leaf;

use crate::files::fixture::Fixture;
use crate::files::payloads::payload;
use crate::payloads::START;

#[tokio::test]
async fn a_placeholder_is_readable_as_one_and_serves_the_names() {
    let stand = Fixture::with(|entry| entry.combined = true);
    let parcel = payload();
    stand.files().publish_placeholder(&parcel.recipient).await.unwrap();
    let leaf = Leaf::from_pem(&stand.text("fullchain.pem")).unwrap();
    assert_eq!(
        (leaf.common_name.as_str(), leaf.issuer.as_str()),
        ("autocertd placeholder", "CN=autocertd placeholder")
    );
    assert_eq!(leaf.subject_alternative_names, ["www.example.com", "*.xn--bcher-kva.example"]);
    assert_eq!((leaf.not_before.to_string(), leaf.not_after.to_string()), validity());
    assert_eq!(leaf.check_key(&stand.text("privkey.pem")), Ok(()));
    assert_eq!(stand.text("chain.pem"), "");
    assert_eq!(stand.text("combined.pem"), stand.text("fullchain.pem") + &stand.text("privkey.pem"));
    assert_eq!(stand.link(".current").unwrap(), ".versions/placeholder");
    assert!(!stand.files().is_current(&parcel).await.unwrap());
}

#[tokio::test]
async fn a_placeholder_is_replaced_and_never_comes_back() {
    let stand = Fixture::new();
    let (files, first, second) = (stand.files(), payload(), payload());
    files.publish_placeholder(&first.recipient).await.unwrap();
    let placed = stand.snapshot();
    files.publish_placeholder(&first.recipient).await.unwrap();
    assert_eq!(stand.snapshot(), placed, "what is live stays");

    assert_eq!(files.publish(&first).await.unwrap(), PublishOutcome::Changed);
    stand.assert_serves(&first);
    assert_eq!(files.roll_back(&first.recipient, START).await.unwrap(), RollBackOutcome::NoPrevious);
    assert_eq!(stand.assert_tidy().len(), 1);
    files.publish_placeholder(&first.recipient).await.unwrap();
    stand.assert_serves(&first);
    files.publish(&second).await.unwrap();
    assert_eq!(files.roll_back(&first.recipient, START).await.unwrap(), RollBackOutcome::Done);
    stand.assert_serves(&first);
}

#[tokio::test]
async fn a_placeholder_follows_the_settings() {
    let mut stand = Fixture::new();
    let parcel = payload();
    stand.files().publish_placeholder(&parcel.recipient).await.unwrap();
    stand.entry.key_mode = Some(autocertd::config::delivery::FileMode(0o640));
    stand.files().publish_placeholder(&parcel.recipient).await.unwrap();
    assert_eq!(stand.mode("privkey.pem"), 0o640);
    assert_eq!(stand.assert_tidy(), ["placeholder.2"]);
    assert_eq!(stand.link(".previous"), None);
}

fn validity() -> (String, String) {
    ("2000-01-01T00:00:00Z".to_owned(), "2099-12-31T00:00:00Z".to_owned())
}
