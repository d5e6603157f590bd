//! Trees of later and earlier releases, of a real size, and with all that lies about in them.

use super::*;

fn left_out(tool: SourceTool, path: &Path, server: Option<&str>) -> Vec<String> {
    let tree = FileTree::read(tool, path).unwrap();
    find_lineages(tool, &tree, &overrides(server, None), NOW);
    find_leftovers(tool, &tree).iter().map(|one| format!("{} ({}): {}", one.path, one.count, one.reason)).collect()
}

#[test]
fn a_tree_of_lego_5_says_its_server_and_brings_its_account() {
    let found = all_shown(&lineages_at(SourceTool::Lego, &fixture("lego5"), None));
    assert_eq!(found, all_shown(&lineages_at(SourceTool::Lego, &fixture("lego"), Some(SERVER))));
    assert!(found.len() == 2 && found[0].ends_with("ops@example.com account usable true"), "{found:?}");
    assert!(left_out(SourceTool::Lego, &fixture("lego5"), None).is_empty());

    // An id may be any word, and an account may be without a contact or registration.
    let tree = copy_of("lego5");
    let host = tree.path().join("accounts/localhost_14000");
    let move_to = |from: &str, id: &str, email: &str| {
        let text = fs::read_to_string(host.join(from).join("account.json")).unwrap();
        let mut account: serde_json::Value = serde_json::from_str(&text).unwrap();
        (account["id"], account["email"]) = (id.into(), email.into());
        fs::write(host.join(from).join("account.json"), account.to_string()).unwrap();
        fs::rename(host.join(from).join(format!("{from}.key")), host.join(from).join(format!("{id}.key"))).unwrap();
        fs::rename(host.join(from), host.join(id)).unwrap();
    };
    move_to("ops@example.com", "main", "ops@example.com");
    assert_eq!(all_shown(&lineages_at(SourceTool::Lego, tree.path(), None)), found);
    move_to("main", "noemail@example.com", "");
    let found = lineages_at(SourceTool::Lego, tree.path(), None);
    assert!(shown(&found[0]).ends_with("nobody account usable true"), "{found:?}");
    let text = r#"{"id": "x", "email": "", "keyType": "EC256", "server": "https://localhost:14000/dir", "registration": null}"#;
    fs::write(host.join("noemail@example.com/account.json"), text).unwrap();
    let found = lineages_at(SourceTool::Lego, tree.path(), None);
    assert!(shown(&found[0]).ends_with("nobody account the URL of the old one is not written down"), "{found:?}");
}

#[test]
fn accounts_of_lego_5_that_cannot_be_told_apart_are_named() {
    let tree = copy_of("lego5");
    let host = tree.path().join("accounts/localhost_14000");
    fs::create_dir(host.join("second")).unwrap();
    copy(&host.join("ops@example.com"), &host.join("second"));
    let found = lineages_at(SourceTool::Lego, tree.path(), None);
    let reason = "account several old ones have this contact (ops@example.com, second)";
    assert!(shown(&found[0]).ends_with(reason), "{found:?}");

    let other = tree.path().join("accounts/ca.example");
    fs::create_dir(&other).unwrap();
    fs::rename(host.join("second"), other.join("second")).unwrap();
    let text = fs::read_to_string(other.join("second/account.json")).unwrap();
    fs::write(other.join("second/account.json"), text.replace("https://localhost:14000/dir", "https://ca.example/dir"))
        .unwrap();
    let found = lineages_at(SourceTool::Lego, tree.path(), None);
    assert!(shown(&found[0]).ends_with("ops@example.com account usable true"), "{found:?}");
    assert_eq!(
        left_out(SourceTool::Lego, tree.path(), None),
        ["accounts/ (2): of an ACME account that orders none of these certificates"]
    );
}

#[test]
fn addresses_that_are_gone_become_those_of_today() {
    let (old, new) =
        ("https://acme-v01.api.letsencrypt.org/directory", "https://acme-v02.api.letsencrypt.org/directory");
    let note = format!("{old} is an ACMEv1 address that no longer answers; {new} is used instead");

    let tree = copy_of("certbot");
    for name in ["rsa-one", "www.example.com"] {
        let path = tree.path().join(format!("renewal/{name}.conf"));
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(SERVER, old)).unwrap();
    }
    let accounts = tree.path().join("accounts");
    fs::rename(accounts.join("localhost:14000"), accounts.join("acme-v01.api.letsencrypt.org")).unwrap();
    fs::rename(
        accounts.join("acme-v01.api.letsencrypt.org/dir"),
        accounts.join("acme-v01.api.letsencrypt.org/directory"),
    )
    .unwrap();
    let found = all_shown(&lineages_at(SourceTool::Certbot, tree.path(), None));
    assert!(
        found.iter().all(|line| line.contains(new) && line.contains(&note) && line.contains("RSA key")),
        "{found:?}"
    );
    // certbot itself links the present name to the folder of the former.
    fs::create_dir(accounts.join("acme-v02.api.letsencrypt.org")).unwrap();
    symlink("../acme-v01.api.letsencrypt.org/directory", accounts.join("acme-v02.api.letsencrypt.org/directory"))
        .unwrap();
    assert_eq!(all_shown(&lineages_at(SourceTool::Certbot, tree.path(), None)), found);

    let tree = copy_of("acme.sh");
    let ca = tree.path().join("ca");
    fs::rename(ca.join("localhost/dir"), ca.join("acme-v01.api.letsencrypt.org")).unwrap();
    for path in ["*.example.net/*.example.net.conf", "www.example.com_ecc/www.example.com.conf"] {
        let path = tree.path().join(path);
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(SERVER, old)).unwrap();
    }
    let settings = ca.join("acme-v01.api.letsencrypt.org/ca.conf");
    let text = fs::read_to_string(&settings).unwrap();
    let account = "https://acme-v01.api.letsencrypt.org/acme/reg";
    fs::write(&settings, text.replace("https://localhost:14000/my-account", account)).unwrap();
    let found = all_shown(&lineages_at(SourceTool::AcmeSh, tree.path(), None));
    let reason = "the URL of the old one is of ACMEv1";
    assert!(found.iter().all(|line| line.contains(&note) && line.contains(reason)), "{found:?}");

    let tree = copy_of("dehydrated");
    let accounts = tree.path().join("accounts");
    let folder = fs::read_dir(&accounts).unwrap().next().unwrap().unwrap().path();
    // `echo` ends the line, and dehydrated encodes that too.
    fs::rename(folder, accounts.join("aHR0cHM6Ly9hY21lLXYwMS5hcGkubGV0c2VuY3J5cHQub3JnL2RpcmVjdG9yeQo")).unwrap();
    let found = all_shown(&lineages_at(SourceTool::Dehydrated, tree.path(), None));
    assert!(
        found.iter().all(|line| line.contains(new) && line.contains(&note) && line.contains("RSA key")),
        "{found:?}"
    );
}

#[test]
fn an_encrypted_key_says_so_in_every_tool() {
    let encrypted = LeafError::EncryptedKey.to_string();
    assert!(encrypted.contains("passphrase") && encrypted.contains("openssl pkey"), "{encrypted}");
    for (tool, tree, key, name) in [
        (SourceTool::Certbot, "certbot", "archive/rsa-one/privkey1.pem", "rsa-one"),
        (SourceTool::Lego, "lego5", "certificates/_.example.net.key", "_.example.net"),
        (SourceTool::AcmeSh, "acme.sh", "*.example.net/*.example.net.key", "*.example.net"),
        (SourceTool::Dehydrated, "dehydrated", "certs/star/privkey.pem", "star"),
        (SourceTool::Pem, "lego5", "certificates/_.example.net.key", "_.example.net"),
    ] {
        for text in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMAA=\n-----END EC PRIVATE KEY-----\n",
        ] {
            let tree = copy_of(tree);
            fs::write(tree.path().join(key), text).unwrap();
            assert_eq!(fault(&lineages_at(tool, tree.path(), Some(SERVER)), name), encrypted, "{tool:?}");
        }
    }
    let tree = copy_of("lego5");
    let key = tree.path().join("accounts/localhost_14000/ops@example.com/ops@example.com.key");
    fs::write(key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n").unwrap();
    let found = lineages_at(SourceTool::Lego, tree.path(), None);
    assert!(shown(&found[0]).ends_with("account the key of the old one is encrypted"), "{found:?}");
}

/// Every file of a tree is in a lineage or in the list of what was left out.
#[test]
fn nothing_of_a_tree_vanishes() {
    for (tool, name) in [(SourceTool::Certbot, "certbot"), (SourceTool::Lego, "lego"), (SourceTool::AcmeSh, "acme.sh")]
    {
        assert_eq!(left_out(tool, &fixture(name), Some(SERVER)), Vec::<String>::new(), "{tool:?}");
    }
    // The files with the time in their names are those that links lead to.
    assert_eq!(left_out(SourceTool::Dehydrated, &fixture("dehydrated"), None), Vec::<String>::new());

    let tree = copy_of("certbot");
    fs::create_dir_all(tree.path().join("renewal-hooks/pre")).unwrap();
    fs::create_dir(tree.path().join("live/empty")).unwrap();
    for number in 2..5 {
        fs::write(tree.path().join(format!("archive/rsa-one/cert{number}.pem")), "former").unwrap();
    }
    for path in ["renewal-hooks/deploy.sh", "options-ssl-nginx.conf", "live/README", "odd\u{1b}[2J\n.txt"] {
        fs::write(tree.path().join(path), "text").unwrap();
    }
    fs::write(tree.path().join("renewal/binary.conf"), [0xff]).unwrap();
    symlink("nowhere", tree.path().join("live/rsa-one/dangling.pem")).unwrap();
    assert_eq!(
        left_out(SourceTool::Certbot, tree.path(), None),
        [
            "live/rsa-one/dangling.pem (1): No such file or directory (os error 2)",
            "renewal/binary.conf (1): it is not text",
            "./ (2): not part of any certificate that the tool renews",
            "archive/ (3): former certificates and keys, to which nothing in live/ links",
            "live/empty (1): it is an empty folder",
            "live/README (1): an explanation of certbot's",
            "renewal-hooks/ (2): hooks of certbot; give the delivery a reload or a hook instead",
        ]
    );
    assert_eq!(
        fault(&lineages_at(SourceTool::Certbot, tree.path(), None), "binary"),
        "renewal/binary.conf cannot be read: it is not text"
    );
}

/// The size of a hoster: certbot keeps what was ever issued.
#[test]
fn a_thousand_lineages_with_all_that_was_before_them_are_read() {
    const LINEAGES: usize = 1_000;
    const FORMER: usize = 3;
    let tree = tempfile::tempdir().unwrap();
    let example = fixture("certbot");
    let settings = fs::read_to_string(example.join("renewal/www.example.com.conf")).unwrap();
    let read = |name: &str| fs::read(example.join(format!("archive/www.example.com/{name}1.pem"))).unwrap();
    let files = ["cert", "chain", "fullchain", "privkey"].map(|name| (name, read(name)));
    fs::create_dir(tree.path().join("renewal")).unwrap();
    for number in 0..LINEAGES {
        let (archive, live) = (format!("archive/site{number}"), format!("live/site{number}"));
        for folder in [&archive, &live] {
            fs::create_dir_all(tree.path().join(folder)).unwrap();
        }
        fs::write(tree.path().join(format!("renewal/site{number}.conf")), &settings).unwrap();
        for (name, content) in &files {
            for former in 1..=FORMER {
                let content = if former == FORMER { &content[..] } else { b"former" };
                fs::write(tree.path().join(format!("{archive}/{name}{former}.pem")), content).unwrap();
            }
            let link = format!("../../{archive}/{name}{FORMER}.pem");
            symlink(link, tree.path().join(format!("{live}/{name}.pem"))).unwrap();
        }
    }
    let found = lineages_at(SourceTool::Certbot, tree.path(), None);
    assert_eq!(found.iter().filter(|lineage| lineage.wish.is_ok()).count(), LINEAGES);
    let former = 4 * (FORMER - 1) * LINEAGES;
    assert_eq!(
        left_out(SourceTool::Certbot, tree.path(), None),
        [format!("archive/ ({former}): former certificates and keys, to which nothing in live/ links")]
    );
}
