//! Folders that are not what they should be: nothing is led elsewhere, and nothing of others is touched.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use autocertd::domain::failure::disposition::Disposition;

use crate::files::fixture::Fixture;
use crate::files::payloads::payload;
use crate::payloads::START;

/// Whatever stands in the way is named, and everything stays as it was.
#[tokio::test]
async fn what_stands_in_the_way_is_named_and_stays() {
    type Preparation = fn(&Fixture) -> PathBuf;
    let preparations: [(Preparation, &str); 7] = [
        (file_as_folder, "is no folder but a file or a link"),
        (link_out, "is no folder but a file or a link"),
        (versions_lead_out, "is no folder but a file or a link"),
        (file_of_another_tool, "was not made by autocertd"),
        (link_of_another_tool, "was not made by autocertd"),
        (current_of_another_tool, "was not made by autocertd"),
        (current_leads_out, "was not made by autocertd"),
    ];
    for (number, (prepare, message)) in preparations.into_iter().enumerate() {
        let stand = Fixture::new();
        std::fs::create_dir_all(stand.folder.path().join("elsewhere")).unwrap();
        std::fs::create_dir(&stand.entry.directory).unwrap();
        let named = prepare(&stand);
        let before = stand.snapshot();
        let parcel = payload();
        for failure in [
            stand.files().publish(&parcel).await.unwrap_err(),
            stand.files().publish_placeholder(&parcel.recipient).await.unwrap_err(),
        ] {
            let start = format!("{} {message}", named.display());
            assert!(failure.message.starts_with(&start), "{number}: {failure}");
            assert!(failure.message.ends_with("stays in place"), "{number}: {failure}");
            assert_eq!(failure.disposition, Disposition::Operator);
        }
        let mut after = stand.snapshot();
        after.retain(|path, _| !path.starts_with(stand.path(".versions")) || before.contains_key(path));
        assert_eq!(after, before, "{number}");
        assert!(crate::files::fixture::names(&stand.folder.path().join("elsewhere")).is_empty());
    }
}

fn file_as_folder(stand: &Fixture) -> PathBuf {
    std::fs::write(stand.certificate_folder(), "mine").unwrap();
    stand.certificate_folder()
}

fn link_out(stand: &Fixture) -> PathBuf {
    symlink("../elsewhere", stand.certificate_folder()).unwrap();
    stand.certificate_folder()
}

fn versions_lead_out(stand: &Fixture) -> PathBuf {
    std::fs::create_dir(stand.certificate_folder()).unwrap();
    symlink("../../elsewhere", stand.path(".versions")).unwrap();
    stand.path(".versions")
}

fn file_of_another_tool(stand: &Fixture) -> PathBuf {
    std::fs::create_dir(stand.certificate_folder()).unwrap();
    std::fs::write(stand.path("privkey.pem"), "a key").unwrap();
    stand.path("privkey.pem")
}

fn link_of_another_tool(stand: &Fixture) -> PathBuf {
    std::fs::create_dir(stand.certificate_folder()).unwrap();
    symlink("../../archive/www/fullchain1.pem", stand.path("fullchain.pem")).unwrap();
    stand.path("fullchain.pem")
}

fn current_of_another_tool(stand: &Fixture) -> PathBuf {
    std::fs::create_dir_all(stand.path(".current")).unwrap();
    stand.path(".current")
}

fn current_leads_out(stand: &Fixture) -> PathBuf {
    std::fs::create_dir_all(stand.certificate_folder()).unwrap();
    symlink("../../elsewhere", stand.path(".current")).unwrap();
    stand.path(".current")
}

/// The previous version may have other files than the present one.
#[tokio::test]
async fn what_stands_in_the_way_of_a_roll_back_is_named_before_anything_changes() {
    let mut stand = Fixture::with(|entry| entry.combined = true);
    stand.files().publish(&payload()).await.unwrap();
    stand.entry.combined = false;
    let second = payload();
    stand.files().publish(&second).await.unwrap();
    std::fs::write(stand.path("combined.pem"), "mine").unwrap();
    let before = stand.snapshot();
    let failure = stand.files().roll_back(&second.recipient, START).await.unwrap_err();
    assert!(
        failure.message.starts_with(&format!("{} was not made by", stand.path("combined.pem").display())),
        "{failure}"
    );
    assert_eq!(stand.snapshot(), before);
    stand.assert_serves(&second);
}

#[tokio::test]
async fn files_of_others_in_the_folder_are_never_touched() {
    let stand = Fixture::new();
    let [first, second, third] = [payload(), payload(), payload()];
    stand.files().publish(&first).await.unwrap();
    std::fs::write(stand.path("dhparam.pem"), "somebody's").unwrap();
    std::fs::create_dir(stand.path(".versions/notes")).unwrap();
    std::fs::write(stand.path(".versions/notes/todo"), "somebody's").unwrap();
    std::fs::write(stand.path(".current/extra.pem"), "somebody's").unwrap();
    let of_the_first = stand.path(".current/extra.pem").canonicalize().unwrap();
    for parcel in [&first, &second, &third] {
        stand.files().publish(parcel).await.unwrap();
    }
    stand.assert_serves(&third);
    for kept in [stand.path("dhparam.pem"), stand.path(".versions/notes/todo"), of_the_first] {
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "somebody's", "{}", kept.display());
    }
}

#[tokio::test]
async fn a_label_does_not_lead_out_of_the_directory() {
    let stand = Fixture::new();
    for label in ["", ".", "..", "../elsewhere", "/etc", "a/b", "a/", "nul\0"] {
        let mut parcel = payload();
        parcel.recipient.label = label.to_owned();
        let failure = stand.files().publish(&parcel).await.unwrap_err();
        assert!(failure.message.contains("cannot be the name of a folder"), "{label:?}: {failure}");
        assert!(!stand.entry.directory.exists());
    }
}

#[tokio::test]
async fn a_directory_in_nowhere_is_not_made() {
    let mut stand = Fixture::new();
    stand.entry.directory = stand.folder.path().join("no/such/certs");
    let failure = stand.files().publish(&payload()).await.unwrap_err();
    assert!(failure.message.contains("make the folder in which"), "{failure}");
    assert!(!stand.folder.path().join("no").exists());
}
