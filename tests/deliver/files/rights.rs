//! Owner, group and modes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use autocertd::config::delivery::FileMode;
use autocertd::domain::failure::disposition::Disposition;

use crate::files::fixture::Fixture;
use crate::files::payloads::payload;

#[tokio::test]
async fn modes_are_those_of_the_settings_and_folders_open_no_wider() {
    for (mode, key_mode, folder) in [(0o644, None, 0o755), (0o640, Some(0o400), 0o750), (0o600, Some(0o600), 0o700)] {
        let stand = Fixture::with(|entry| {
            entry.mode = FileMode(mode);
            entry.key_mode = key_mode.map(FileMode);
            entry.combined = true;
        });
        stand.files().publish(&payload()).await.unwrap();
        for name in ["fullchain.pem", "cert.pem", "chain.pem"] {
            assert_eq!(stand.mode(name), mode, "{name}");
        }
        for name in ["privkey.pem", "combined.pem"] {
            assert_eq!(stand.mode(name), key_mode.unwrap_or(0o600), "{name}");
        }
        for name in ["..", ".", ".versions", ".current/"] {
            assert_eq!(stand.mode(name), folder, "{name}");
        }
    }
}

#[tokio::test]
async fn owner_and_group_are_given_by_root_and_refused_with_advice_to_others() {
    let mut stand = Fixture::with(|entry| entry.owner = Some("12345".to_owned()));
    stand.entry.group = Some("daemon".to_owned());
    let parcel = payload();
    let published = stand.files().publish(&parcel).await;
    if own_uid() != 0 {
        let failure = published.unwrap_err();
        assert_eq!(failure.disposition, Disposition::Operator);
        assert!(failure.message.contains("run autocertd as root, or leave out files.owner"), "{failure}");
        return;
    }
    for name in ["..", ".", ".versions", ".current/", "fullchain.pem", "privkey.pem"] {
        let metadata = stand.path(name).metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12345, group("daemon")), "{name}");
    }
    assert_eq!(stand.mode("privkey.pem"), 0o640, "what a group is named for");

    stand.entry.owner = None;
    assert!(!stand.files().is_current(&parcel).await.unwrap());
    stand.files().publish(&parcel).await.unwrap();
    assert!(stand.files().is_current(&parcel).await.unwrap());
    for name in [".", ".versions", ".current/", "privkey.pem"] {
        assert_eq!(stand.path(name).metadata().unwrap().uid(), 0, "{name}");
    }
}

/// The folder that somebody made for themselves stays as it was; what is published in it has the owner of the settings.
#[tokio::test]
async fn root_publishes_in_a_folder_of_somebody_else_and_leaves_it_theirs() {
    if own_uid() != 0 {
        autocertd_support::skipped::report_skipped("only root can publish in a folder of somebody else");
        return;
    }
    let stand = Fixture::new();
    std::fs::create_dir_all(stand.certificate_folder()).unwrap();
    std::os::unix::fs::chown(stand.certificate_folder(), Some(12345), Some(12345)).unwrap();
    let parcel = payload();
    stand.files().publish(&parcel).await.unwrap();
    assert_eq!(stand.path(".").metadata().unwrap().uid(), 12345);
    assert_eq!(stand.path("privkey.pem").metadata().unwrap().uid(), 0);
    assert!(stand.files().is_current(&parcel).await.unwrap());
}

#[tokio::test]
async fn who_does_not_exist_is_named() {
    for (setting, message) in [
        ("owner", "there is no user no-such-one on this machine; correct files.owner, or give a number"),
        ("group", "there is no group no-such-one on this machine; correct files.group, or give a number"),
    ] {
        let stand = Fixture::with(|entry| {
            let nobody = Some("no-such-one".to_owned());
            if setting == "owner" { entry.owner = nobody } else { entry.group = nobody }
        });
        let failure = stand.files().publish(&payload()).await.unwrap_err();
        assert!(failure.message.starts_with(message), "{failure}");
        assert_eq!(failure.disposition, Disposition::Operator);
        assert!(!stand.entry.directory.exists());
    }
}

fn own_uid() -> u32 {
    Path::new("/proc/self").metadata().unwrap().uid()
}

fn group(name: &str) -> u32 {
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let line = groups.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split(':').nth(2).unwrap().parse().unwrap()
}
