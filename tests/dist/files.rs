//! Published files on disks that are full or read-only and in folders of others, each in a namespace of its own, and
//! bundles that Java reads.

#[path = "../deliver/files/payloads.rs"]
mod payloads;

use autocertd_support::timed::Timed;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use autocertd::deliver::{DeliveryPayload, FilesDelivery};
use autocertd::domain::failure::disposition::Disposition;
use autocertd_support::again;
use secrecy::ExposeSecret;

use payloads::{LABEL, entry, payload, payload_from};

#[test]
fn a_full_disk_leaves_the_old_files_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=256k none {}", folder.path().display());
    in_namespace(&mount, "files::on_a_small_disk", folder.path());
}

#[tokio::test]
#[ignore = "the child of another test, on a small disk of its own"]
async fn on_a_small_disk() {
    let folder = folder();
    let (files, old, new) = (FilesDelivery::new(&entry(&folder.join("certs"))), payload(), payload());
    files.publish(&old).await.unwrap();
    // Full before the first file, then behind it, and so on, until there is room for all.
    let mut faults = 0;
    for room in 0.. {
        fill(&folder.join("ballast"), room * PAGE);
        let Err(failure) = files.publish(&new).await else { break };
        faults += 1;
        assert!(failure.message.contains("No space left on device"), "{failure}");
        assert!(failure.message.contains("make room for"), "{failure}");
        assert_eq!(failure.disposition, Disposition::RETRY);
        assert_serves(&folder, &old);
        assert!(files.is_current(&old).await.unwrap());
        assert!(!folder.join("certs/www/.versions/.draft").exists(), "half a version takes up room");
    }
    assert_eq!(faults, 4, "one for each file");
    assert_serves(&folder, &new);
    assert!(files.is_current(&new).await.unwrap());
}

#[test]
fn a_read_only_folder_leaves_the_old_files_and_names_the_drop_in() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    std::fs::create_dir(&certs).unwrap();
    let mount = format!("mount -t tmpfs none {}", certs.display());
    in_namespace(&mount, "files::on_a_read_only_disk", folder.path());
}

#[tokio::test]
#[ignore = "the child of another test, on a disk of its own"]
async fn on_a_read_only_disk() {
    let folder = folder();
    let certs = folder.join("certs");
    let (files, old, new) = (FilesDelivery::new(&entry(&certs)), payload(), payload());
    files.publish(&old).await.unwrap();
    let mounted = Command::new("mount").args(["-o", "remount,ro", certs.to_str().unwrap()]).timed_status().unwrap();
    assert!(mounted.success());
    let mut other = new.recipient.clone();
    other.label = "other".to_owned();
    for failure in [
        files.publish(&new).await.unwrap_err(),
        files.roll_back(&new.recipient, new.leaf.not_before).await.unwrap_err(),
        files.publish_placeholder(&other).await.unwrap_err(),
    ] {
        assert!(failure.message.contains("Read-only file system"), "{failure}");
        assert_refused(&failure, &certs);
    }
    assert_serves(&folder, &old);
    assert!(files.is_current(&old).await.unwrap());
    files.publish_placeholder(&old.recipient).await.expect("a certificate is live, nothing has to be written");
}

/// The child keeps the user's number and has no right over files of others.
#[test]
fn a_folder_of_somebody_else_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let certs = folder.path().join("certs");
    std::fs::create_dir(&certs).unwrap();
    chown(&certs, Some(12345), Some(12345)).expect("the right to give a folder to somebody else (CAP_CHOWN)");
    let program = again::command(&["unshare", "--user"], "files::in_a_folder_of_somebody_else", folder.path());
    run(program.unwrap(), "a user namespace");
}

#[tokio::test]
#[ignore = "the child of another test, as a user without rights"]
async fn in_a_folder_of_somebody_else() {
    let certs = folder().join("certs");
    let failure = FilesDelivery::new(&entry(&certs)).publish(&payload()).await.unwrap_err();
    assert!(failure.message.starts_with(&format!("cannot make the folder {}/www", certs.display())), "{failure}");
    assert_refused(&failure, &certs);
    assert_eq!(std::fs::read_dir(&certs).unwrap().count(), 0);
}

#[tokio::test]
async fn java_reads_the_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "changeit\n").unwrap();
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let params = rcgen::CertificateParams::new(vec!["www.example.com".to_owned()]).unwrap();
    let rsa = payload_from(params.self_signed(&key).unwrap().pem(), key.serialize_pem());
    let mut entry = entry(&folder.path().join("certs"));
    entry.pkcs12_password_file = Some(password);
    for payload in [payload(), rsa] {
        FilesDelivery::new(&entry).publish(&payload).await.unwrap();
        let bundle = folder.path().join("certs/www/bundle.p12");
        let listed = Command::new("keytool")
            .args(["-list", "-v", "-storetype", "PKCS12", "-storepass", "changeit", "-keystore"])
            .arg(&bundle)
            .timed_output()
            .expect("the program keytool, of Debian's package default-jre-headless");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for part in ["Alias name: www", "Entry type: PrivateKeyEntry"] {
            assert!(listed.contains(part), "{listed}");
        }
        // Signing opens the key itself, not only the list.
        let signed = Command::new("keytool")
            .args(["-certreq", "-alias", "www", "-storepass", "changeit", "-keystore"])
            .arg(&bundle)
            .timed_output()
            .unwrap();
        assert!(String::from_utf8_lossy(&signed.stdout).contains("BEGIN NEW CERTIFICATE REQUEST"), "{signed:?}");
    }
}

/// Runs a test of this binary where the mount is seen by nobody else.
fn in_namespace(mount: &str, test: &str, folder: &Path) {
    let script = format!("{mount} && exec \"$@\"");
    let wrapper = ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    run(again::command(&wrapper, test, folder).unwrap(), "a user and a mount namespace");
}

fn run(mut command: Command, privilege: &str) {
    let output = command.timed_output().expect("the program unshare, of Debian's package util-linux");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("running 1 test"), "this needs the right to make {privilege}: {said}");
    assert!(output.status.success(), "{said}");
}

fn folder() -> PathBuf {
    std::env::var_os(again::FOLDER_VARIABLE).expect("run by its parent").into()
}

/// Takes all room but so many bytes.
fn fill(path: &Path, room: u64) {
    let mut ballast = std::fs::File::create(path).unwrap();
    while std::io::Write::write_all(&mut ballast, &[0; 1024]).is_ok() {}
    ballast.set_len(ballast.metadata().unwrap().size().saturating_sub(room)).unwrap();
}

fn assert_serves(folder: &Path, payload: &DeliveryPayload) {
    let text = |name: &str| std::fs::read_to_string(folder.join("certs").join(LABEL).join(name)).unwrap();
    assert_eq!(text("fullchain.pem"), payload.full_chain_pem());
    assert_eq!(text("privkey.pem").trim_end(), payload.private_key.expose_secret().trim_end());
}

fn assert_refused(failure: &autocertd::domain::failure::disposition::Failure, certs: &Path) {
    assert_eq!(failure.disposition, Disposition::Operator);
    for part in [
        format!("write in {}", certs.display()),
        format!("`systemctl edit autocertd` with the lines `[Service]` and `ReadWritePaths={}`", certs.display()),
    ] {
        assert!(failure.message.contains(&part), "{failure}");
    }
}

/// What a tmpfs gives out at a time.
const PAGE: u64 = 4096;
