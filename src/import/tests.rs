//! Trees as the tools made them (`tests/fixtures/import`), whole and broken.

mod whole_trees;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use time::Duration;

use super::*;
use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::certificate::leaf_error::LeafError;
use crate::domain::value::name::RequestedName;

const SERVER: &str = "https://localhost:14000/dir";
/// 2026-12-01; the certificates of the fixtures are from shortly before, and valid for thirty years.
const NOW: Moment = Moment::from_micros(1_796_083_200_000_000);

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import").join(name)
}

fn overrides(server: Option<&str>, email: Option<&str>) -> ImportOverrides {
    ImportOverrides {
        server: server.map(|server| ServerUrl::parse(server, PlainHttpPolicy::Refused).unwrap()),
        email: email.map(|email| email.parse().unwrap()),
        plain_http: PlainHttpPolicy::Refused,
    }
}

fn lineages_at(tool: SourceTool, path: &Path, server: Option<&str>) -> Vec<Lineage> {
    find_lineages(tool, &FileTree::read(tool, path).unwrap(), &overrides(server, None), NOW)
}

/// A copy of a fixture that may be broken.
fn copy_of(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture(name), folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn shown(lineage: &Lineage) -> String {
    let wish = match &lineage.wish {
        Ok(wish) => wish,
        Err(fault) => return format!("{}: {fault}", lineage.name),
    };
    let names: Vec<&str> =
        std::iter::once(&wish.common_name).chain(&wish.subject_alternative_names).map(RequestedName::sent).collect();
    let account = match &wish.account {
        TreeAccount::Usable(credentials) => {
            format!("usable {}", credentials.account_url().starts_with("https://localhost:14000/my-account/"))
        }
        TreeAccount::Foreign { reason, .. } => reason.clone(),
        TreeAccount::Unknown => "unknown".to_owned(),
    };
    let email = wish.email.as_ref().map_or("nobody", |email| email.as_str());
    let notes: Vec<String> = wish.notes.iter().map(ToString::to_string).collect();
    format!(
        "{}: {} {} {} {email} account {account} {}",
        lineage.name,
        names.join(" "),
        wish.key_algorithm,
        wish.server,
        notes.join("; ")
    )
    .trim_end()
    .to_owned()
}

fn all_shown(lineages: &[Lineage]) -> Vec<String> {
    lineages.iter().map(shown).collect()
}

fn fault(lineages: &[Lineage], name: &str) -> String {
    let lineage = lineages.iter().find(|lineage| lineage.name == name).unwrap();
    lineage.wish.as_ref().unwrap_err().to_string()
}

#[test]
fn a_tree_of_certbot_is_read_whole() {
    let found = lineages_at(SourceTool::Certbot, &fixture("certbot"), None);
    let account = "account the old one has an RSA key, and autocertd signs with ECDSA on P-256";
    assert_eq!(
        all_shown(&found),
        [
            format!(
                "rsa-one: rsa.example.net rsa2048 {SERVER} nobody {account} its names were proven by HTTP-01; from now on \
                 they are proven by DNS-01"
            ),
            format!("www.example.com: www.example.com example.com secp256r1 {SERVER} nobody {account}"),
        ]
    );
    let wish = found[1].wish.as_ref().unwrap();
    assert!(wish.account.url().unwrap().starts_with("https://localhost:14000/my-account/"));
    assert_eq!(wish.certificate.chain.matches("BEGIN CERTIFICATE").count(), 1);
    assert_eq!(wish.certificate.certificate.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(wish.certificate.name.as_str().starts_with("www.example.com 2026-11-22T07:"), "{}", wish.certificate.name);
}

#[test]
fn a_tree_of_lego_is_read_whole_once_its_server_is_told() {
    let found = lineages_at(SourceTool::Lego, &fixture("lego"), Some(SERVER));
    assert_eq!(
        all_shown(&found),
        [
            format!("_.example.net: *.example.net rsa2048 {SERVER} ops@example.com account usable true"),
            format!(
                "www.example.com: www.example.com example.com secp256r1 {SERVER} ops@example.com account usable true"
            ),
        ]
    );
    assert_eq!(
        fault(&lineages_at(SourceTool::Lego, &fixture("lego"), None), "www.example.com"),
        Fault::NoServer.to_string()
    );
    let elsewhere = lineages_at(SourceTool::Lego, &fixture("lego"), Some("https://ca.example/dir"));
    assert!(shown(&elsewhere[0]).ends_with("https://ca.example/dir nobody account unknown"), "{elsewhere:?}");
}

#[test]
fn a_tree_of_acme_sh_is_read_whole() {
    assert_eq!(
        all_shown(&lineages_at(SourceTool::AcmeSh, &fixture("acme.sh"), None)),
        [
            format!("*.example.net: *.example.net rsa2048 {SERVER} ops@example.com account usable true"),
            format!(
                "www.example.com_ecc: www.example.com example.com secp256r1 {SERVER} ops@example.com account usable true"
            ),
        ]
    );
}

#[test]
fn a_tree_of_dehydrated_is_read_whole() {
    let account = "account the old one has an RSA key, and autocertd signs with ECDSA on P-256";
    assert_eq!(
        all_shown(&lineages_at(SourceTool::Dehydrated, &fixture("dehydrated"), None)),
        [
            format!("star: *.example.net secp384r1 {SERVER} ops@example.com {account}"),
            format!("www.example.com: www.example.com example.com secp384r1 {SERVER} ops@example.com {account}"),
        ]
    );
}

/// The form of a private key stays as the tool wrote it: PKCS#8, PKCS#1 or SEC1. All of them were found to belong to
/// their certificates.
#[test]
fn keys_keep_their_form() {
    let label = |tool, name: &str, server| {
        let found = lineages_at(tool, &fixture(name), server);
        let keys = found.iter().map(|lineage| lineage.wish.as_ref().unwrap().certificate.private_key.clone());
        keys.map(|key| key.expose_secret().lines().next().unwrap().replace('-', "")).collect::<Vec<_>>()
    };
    let (pkcs1, sec1, pkcs8) = ("BEGIN RSA PRIVATE KEY", "BEGIN EC PRIVATE KEY", "BEGIN PRIVATE KEY");
    assert_eq!(label(SourceTool::Lego, "lego", Some(SERVER)), [pkcs1, sec1]);
    assert_eq!(label(SourceTool::AcmeSh, "acme.sh", None), [pkcs1, sec1]);
    assert_eq!(label(SourceTool::Dehydrated, "dehydrated", None), [sec1, sec1]);
    assert_eq!(label(SourceTool::Certbot, "certbot", None), [pkcs8, pkcs8]);
}

#[test]
fn what_is_broken_says_why_and_holds_up_no_other() {
    let tree = copy_of("certbot");
    let live = tree.path().join("live/rsa-one");
    fs::remove_file(tree.path().join("archive/rsa-one/privkey1.pem")).unwrap();
    let found = lineages_at(SourceTool::Certbot, tree.path(), None);
    assert!(fault(&found, "rsa-one").starts_with("live/rsa-one/privkey.pem cannot be read: "), "{found:?}");
    assert!(found[1].wish.is_ok());

    fs::remove_file(live.join("privkey.pem")).unwrap();
    assert_eq!(
        fault(&lineages_at(SourceTool::Certbot, tree.path(), None), "rsa-one"),
        "live/rsa-one/privkey.pem is missing"
    );

    symlink("../../archive/www.example.com/privkey1.pem", live.join("privkey.pem")).unwrap();
    let found = lineages_at(SourceTool::Certbot, tree.path(), None);
    assert_eq!(fault(&found, "rsa-one"), LeafError::KeyMismatch.to_string());

    // Whatever a link leads to is only read, and none of it is shown.
    fs::remove_file(live.join("privkey.pem")).unwrap();
    symlink("/etc/passwd", live.join("privkey.pem")).unwrap();
    let found = lineages_at(SourceTool::Certbot, tree.path(), None);
    assert_eq!(fault(&found, "rsa-one"), LeafError::UnreadableKey.to_string());
    assert!(!format!("{found:?}").contains("root:"));

    fs::write(tree.path().join("archive/rsa-one/cert1.pem"), "not PEM").unwrap();
    fs::copy(tree.path().join("archive/www.example.com/privkey1.pem"), tree.path().join("key")).unwrap();
    fs::remove_file(live.join("privkey.pem")).unwrap();
    symlink("../../key", live.join("privkey.pem")).unwrap();
    let found = lineages_at(SourceTool::Certbot, tree.path(), None);
    assert_eq!(fault(&found, "rsa-one"), LeafError::NoCertificate.to_string());

    fs::remove_file(tree.path().join("renewal/rsa-one.conf")).unwrap();
    assert_eq!(
        fault(&lineages_at(SourceTool::Certbot, tree.path(), None), "rsa-one"),
        "renewal/rsa-one.conf is missing"
    );
    assert!(lineages_at(SourceTool::Lego, tree.path(), None).is_empty());
}

#[test]
fn several_accounts_want_to_be_told_apart() {
    let tree = copy_of("lego");
    let accounts = tree.path().join("accounts/localhost_14000");
    fs::create_dir(accounts.join("dev@example.com")).unwrap();
    copy(&accounts.join("ops@example.com"), &accounts.join("dev@example.com"));
    let found = lineages_at(SourceTool::Lego, tree.path(), Some(SERVER));
    assert!(fault(&found, "_.example.net").contains("dev@example.com, ops@example.com"), "{found:?}");
    let told = overrides(Some(SERVER), Some("ops@example.com"));
    let found = find_lineages(SourceTool::Lego, &FileTree::read(SourceTool::Lego, tree.path()).unwrap(), &told, NOW);
    assert!(shown(&found[0]).ends_with("ops@example.com account usable true"), "{found:?}");
}

#[test]
fn what_lego_says_of_itself_may_be_missing() {
    let tree = copy_of("lego");
    fs::remove_file(tree.path().join("certificates/www.example.com.json")).unwrap();
    fs::remove_file(tree.path().join("certificates/_.example.net.crt")).unwrap();
    let found = lineages_at(SourceTool::Lego, tree.path(), Some(SERVER));
    assert_eq!(fault(&found, "_.example.net"), "certificates/_.example.net.crt is missing");
    assert!(found[1].wish.is_ok(), "{found:?}");
}

#[test]
fn an_expired_one_is_still_a_wish() {
    let later = NOW + Duration::days(40 * 365);
    let tree = FileTree::read(SourceTool::AcmeSh, &fixture("acme.sh")).unwrap();
    let found = find_lineages(SourceTool::AcmeSh, &tree, &overrides(None, None), later);
    assert!(shown(&found[0]).contains("it expired at 2056-"), "{found:?}");
}

/// An authority of our own, for certificates that no fixture has.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(Issuer::new(params, KeyPair::generate().unwrap()))
    }

    fn issue(&self, key: &KeyPair, names: &[&str]) -> String {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.signed_by(key, &self.0).unwrap().pem()
    }
}

fn tree_of(files: &[(&str, &str)]) -> (TempDir, FileTree) {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let tree = FileTree::read(SourceTool::Pem, folder.path()).unwrap();
    (folder, tree)
}

#[test]
fn loose_files_are_paired_by_their_keys() {
    let (authority, key, other) = (Authority::new(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (www, api) = (authority.issue(&key, &["www.example.com"]), authority.issue(&other, &["api.example.com"]));
    let (key, other) = (key.serialize_pem(), other.serialize_pem());
    let (_folder, tree) = tree_of(&[
        ("www/fullchain.pem", &www),
        ("www/cert.pem", &www),
        ("www/privkey.pem", &key),
        ("flat/www.crt", &www),
        ("flat/www.key", &key),
        ("flat/api.pem", &format!("{other}{api}")),
        ("keyless/api.crt", &api),
        ("wrong/api.crt", &api),
        ("wrong/api.key", &key),
        ("notes.txt", "nothing of interest"),
    ]);
    let found = find_lineages(SourceTool::Pem, &tree, &overrides(Some(SERVER), Some("ops@example.com")), NOW);
    let taken = |name: &str, dns: &str| format!("{name}: {dns} secp256r1 {SERVER} ops@example.com account unknown");
    assert_eq!(
        all_shown(&found),
        [
            taken("api", "api.example.com"),
            "keyless: its private key is missing".to_owned(),
            format!("wrong: {}", LeafError::KeyMismatch),
            taken("www", "www.example.com"),
            taken("www", "www.example.com"),
        ]
    );
    let left: Vec<String> =
        find_leftovers(SourceTool::Pem, &tree).iter().map(|one| format!("{}: {}", one.path, one.reason)).collect();
    assert_eq!(
        left,
        [
            "notes.txt: no certificate or private key in PEM is in it",
            "wrong/api.key: a private key that belongs to none of the certificates in its folder",
            "www/fullchain.pem: its certificates are older than another for the same names, in another file too, or of CAs \
             that no chain needs",
        ]
    );
    let untold = find_lineages(SourceTool::Pem, &tree, &overrides(None, None), NOW);
    assert!(untold.iter().all(|lineage| lineage.wish.is_err()));
}

#[test]
fn a_chain_of_loose_files_leads_up_to_but_not_into_the_root() {
    let tree = FileTree::read(SourceTool::Pem, &fixture("lego/certificates")).unwrap();
    let found = find_lineages(SourceTool::Pem, &tree, &overrides(Some(SERVER), None), NOW);
    assert_eq!(found.len(), 2);
    for lineage in &found {
        assert_eq!(lineage.wish.as_ref().unwrap().certificate.chain.matches("BEGIN CERTIFICATE").count(), 1);
    }
}

#[test]
fn what_our_rules_refuse_is_refused_and_the_reason_told() {
    let authority = Authority::new();
    let judged = |names: &[&str], key: &KeyPair| {
        let (_folder, tree) =
            tree_of(&[("one.pem", &format!("{}{}", key.serialize_pem(), authority.issue(key, names)))]);
        let mut found = find_lineages(SourceTool::Pem, &tree, &overrides(Some(SERVER), None), NOW);
        found.remove(0).wish
    };
    let key = KeyPair::generate().unwrap();
    let many: Vec<String> = (0..12).map(|number| format!("w{number}.example.com")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(judged(&many[..11], &key).is_ok());
    assert_eq!(judged(&many, &key).unwrap_err(), Fault::TooManyNames(12));
    assert!(matches!(judged(&["www.example.com", "192.0.2.1"], &key).unwrap_err(), Fault::Name(_)));
    assert_eq!(judged(&[], &key).unwrap_err(), Fault::NoName);

    let odd = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let wish = judged(&["www.example.com"], &odd).unwrap();
    assert_eq!(wish.key_algorithm, KeyAlgorithm::Secp384r1);
    assert_eq!(wish.notes[0].to_string(), "its key is ECDSA on another curve; the next one is secp384r1");

    let odd = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let wish = judged(&["www.example.com"], &odd).unwrap();
    assert_eq!(wish.key_algorithm, KeyAlgorithm::Secp256r1);
    assert_eq!(wish.notes[0].to_string(), "its key is neither RSA nor ECDSA; the next one is secp256r1");

    let own = CertificateParams::new(vec!["www.example.com".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let (_folder, tree) = tree_of(&[("own.pem", &format!("{}{own}", key.serialize_pem()))]);
    let found = find_lineages(SourceTool::Pem, &tree, &overrides(Some(SERVER), None), NOW);
    assert_eq!(found[0].wish.as_ref().unwrap_err(), &Fault::SelfSigned);
}
