//! What is published, swapped, kept and rolled back.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use autocertd::deliver::{DeliveryPayload, FilesDelivery, PublishOutcome, RollBackOutcome};
use autocertd::domain::certificate::leaf::Leaf;
use secrecy::ExposeSecret;

use crate::files::fixture::{Fixture, names};
use crate::files::payloads::payload;
use crate::payloads::START;

#[tokio::test]
async fn a_certificate_is_published_whole_and_only_once() {
    let stand = Fixture::with(|entry| entry.combined = true);
    let (files, parcel) = (stand.files(), payload());
    assert!(!files.is_current(&parcel).await.unwrap());
    assert_eq!(files.publish(&parcel).await.unwrap(), PublishOutcome::Changed);
    stand.assert_serves(&parcel);
    let key = parcel.private_key.expose_secret().trim_end();
    assert_eq!(stand.text("cert.pem"), parcel.leaf_pem);
    assert_eq!(stand.text("chain.pem"), parcel.chain_pem);
    assert_eq!(stand.text("combined.pem"), format!("{}{key}\n", parcel.full_chain_pem()));

    assert_eq!(stand.link(".current"), Some(Fixture::version(&parcel)));
    assert_eq!(stand.link(".previous"), None);
    let published = ["cert.pem", "chain.pem", "combined.pem", "fullchain.pem", "privkey.pem"];
    assert_eq!(names(&stand.path(".current/")), published);
    for name in published {
        assert_eq!(stand.link(name), Some(format!(".current/{name}")));
    }
    let whole = stand.snapshot();
    assert!(files.is_current(&parcel).await.unwrap());
    assert_eq!(files.publish(&parcel).await.unwrap(), PublishOutcome::Unchanged);
    assert_eq!(stand.snapshot(), whole);
}

#[tokio::test]
async fn the_previous_certificate_is_kept_and_comes_back_once() {
    let stand = Fixture::new();
    let files = stand.files();
    let [first, second, third] = [payload(), payload(), payload()];
    let roll_back = || files.roll_back(&first.recipient, START);
    assert_eq!(roll_back().await.unwrap(), RollBackOutcome::NoPrevious, "nothing was published yet");
    files.publish(&first).await.unwrap();
    assert_eq!(roll_back().await.unwrap(), RollBackOutcome::NoPrevious, "there is nothing before the first");
    for parcel in [&second, &third] {
        assert_eq!(files.publish(parcel).await.unwrap(), PublishOutcome::Replaced);
    }
    assert_eq!(stand.link(".previous"), Some(Fixture::version(&second)));
    assert_eq!(stand.assert_tidy().len(), 2);

    assert_eq!(roll_back().await.unwrap(), RollBackOutcome::Done);
    stand.assert_serves(&second);
    assert!(files.is_current(&second).await.unwrap());
    assert_eq!(roll_back().await.unwrap(), RollBackOutcome::NoPrevious, "it does not go back and forth");
    assert_eq!(stand.assert_tidy().len(), 1);

    assert_eq!(files.publish(&third).await.unwrap(), PublishOutcome::Replaced);
    stand.assert_serves(&third);
    assert_eq!(stand.link(".previous"), Some(Fixture::version(&second)));
}

#[tokio::test]
async fn another_form_of_the_same_certificate_is_no_new_certificate() {
    let mut stand = Fixture::new();
    let [first, second] = [payload(), payload()];
    stand.files().publish(&first).await.unwrap();
    stand.files().publish(&second).await.unwrap();

    stand.entry.combined = true;
    assert!(!stand.files().is_current(&second).await.unwrap());
    assert_eq!(stand.files().publish(&second).await.unwrap(), PublishOutcome::Changed);
    assert_eq!(stand.link(".current"), Some(format!(".versions/{}.2", second.certificate)));
    assert_eq!(stand.link(".previous"), Some(Fixture::version(&first)));
    assert!(stand.text("combined.pem").contains("PRIVATE KEY"));

    stand.entry.combined = false;
    assert_eq!(stand.files().publish(&second).await.unwrap(), PublishOutcome::Changed);
    assert_eq!((stand.link("combined.pem"), stand.link(".current")), (None, Some(Fixture::version(&second))));
    assert_eq!(stand.files().roll_back(&first.recipient, START).await.unwrap(), RollBackOutcome::Done);
    stand.assert_serves(&first);
    stand.assert_tidy();
}

#[tokio::test]
async fn what_has_expired_never_comes_back() {
    let stand = Fixture::new();
    let [expired, next] = [payload(), payload()];
    stand.files().publish(&expired).await.unwrap();
    stand.files().publish(&next).await.unwrap();
    let before = stand.snapshot();
    let ended = stand.files().roll_back(&next.recipient, expired.leaf.not_after).await.unwrap();
    assert_eq!(ended, RollBackOutcome::Expired(expired.leaf.not_after));
    assert_eq!(stand.snapshot(), before);
}

#[tokio::test]
async fn what_was_tampered_with_or_left_over_is_put_right() {
    let stand = Fixture::new();
    let (files, parcel) = (stand.files(), payload());
    files.publish(&parcel).await.unwrap();
    let damages: [fn(&Fixture); 7] = [
        |stand| std::fs::set_permissions(stand.path("privkey.pem"), PermissionsExt::from_mode(0o644)).unwrap(),
        |stand| std::fs::set_permissions(stand.path(".versions"), PermissionsExt::from_mode(0o700)).unwrap(),
        |stand| std::fs::set_permissions(stand.path("."), PermissionsExt::from_mode(0o700)).unwrap(),
        |stand| std::fs::write(stand.path("cert.pem"), stand.text("cert.pem").to_lowercase()).unwrap(),
        |stand| std::fs::remove_file(stand.path("chain.pem")).unwrap(),
        |stand| std::fs::remove_file(stand.path(".current/chain.pem")).unwrap(),
        |stand| std::fs::remove_dir_all(stand.path(".current").canonicalize().unwrap()).unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        damage(&stand);
        assert!(!files.is_current(&parcel).await.unwrap(), "damage {number} was not seen");
        files.publish(&parcel).await.unwrap();
        assert!(files.is_current(&parcel).await.unwrap(), "damage {number} was not put right");
        assert_eq!(stand.assert_tidy().len(), 1);
    }

    std::fs::create_dir(stand.path(".versions/.draft")).unwrap();
    std::fs::write(stand.path(".versions/.draft/privkey.pem"), "half a k").unwrap();
    std::os::unix::fs::symlink(".versions/x", stand.path(".current.new")).unwrap();
    std::fs::create_dir(stand.path(format!(".versions/{}", self::payload().certificate).as_str())).unwrap();
    assert_eq!(files.publish(&parcel).await.unwrap(), PublishOutcome::Unchanged);
    assert_eq!(stand.assert_tidy().len(), 1);
}

#[tokio::test]
async fn only_one_process_publishes_at_a_time() {
    let stand = Fixture::new();
    let [first, second] = [payload(), payload()];
    stand.files().publish(&first).await.unwrap();
    let held = File::open(stand.path(".versions/.lock")).unwrap();
    held.lock().unwrap();
    let failure = stand.files().publish(&second).await.unwrap_err();
    assert!(failure.message.starts_with("another process is publishing in "), "{failure}");
    stand.assert_serves(&first);
    drop(held);
    stand.files().publish(&second).await.unwrap();
}

/// A reader that opens `.current` once reads from one version, whatever is published meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_a_key_beside_another_certificate() {
    let stand = Fixture::new();
    let parcels: Vec<DeliveryPayload> = (0..4).map(|_| payload()).collect();
    stand.files().publish(&parcels[0]).await.unwrap();
    let (current, done) = (stand.path(".current"), AtomicBool::new(false));
    let (pairs, versions) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut pairs, mut seen) = (0, std::collections::BTreeSet::new());
            while !done.load(Ordering::SeqCst) {
                let folder = File::open(&current).expect("something is live at each moment");
                // A version that is no longer kept may vanish under a reader that is slow; it then looks again.
                let Some((certificate, key)) = read(&folder, "fullchain.pem").zip(read(&folder, "privkey.pem")) else {
                    continue;
                };
                let leaf = Leaf::from_pem(&certificate).unwrap();
                assert_eq!(leaf.check_key(&key), Ok(()), "a key beside another certificate");
                pairs += 1;
                seen.insert(leaf.serial_number);
            }
            (pairs, seen.len())
        });
        let files = stand.files();
        let publish = publish_in_turn(&files, &parcels);
        let published = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(publish));
        done.store(true, Ordering::SeqCst);
        published.unwrap();
        reader.join().unwrap()
    });
    assert!(pairs > 100 && versions == parcels.len(), "{pairs} pairs of {versions} certificates were read");
}

async fn publish_in_turn(
    files: &FilesDelivery,
    parcels: &[DeliveryPayload],
) -> Result<(), autocertd::domain::failure::disposition::Failure> {
    for turn in 1..=300 {
        files.publish(&parcels[turn % parcels.len()]).await?;
    }
    Ok(())
}

/// Reads a file of an open folder, as a mount of it would.
fn read(folder: &File, name: &str) -> Option<String> {
    use std::os::fd::AsRawFd;
    std::fs::read_to_string(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())).ok()
}
