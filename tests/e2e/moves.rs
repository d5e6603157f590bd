//! Coming from elsewhere and going there: import, export and restore as a person runs them.

use autocertd_support::timed::Timed;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::postgres::Postgres;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::fixture::{Fixture, auto_certificate, id_of, newest, open_store};

fn run(setup: &Setup, arguments: &[&str]) -> Output {
    setup.command(arguments).unwrap().timed_output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(output));
    text(output)
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/import/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Every file of a folder with its content and its moments, so that the slightest touch shows.
fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>, i64, i64)> {
    let mut seen = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            seen.push((path.clone(), content, metadata.mtime_nsec(), metadata.ctime_nsec()));
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    seen.sort();
    seen
}

/// A tree as lego would have left it, with a certificate of Pebble's and a living account there: another autocertd, of
/// which nothing else is left, made them.
async fn living_tree_of_lego(world: &Fixture, names: &[&str]) -> (PathBuf, Value) {
    let setup = Setup { folder: world.folder.path().join("first"), ..world.setup() };
    let daemon = Daemon::start(&setup).await.unwrap();
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", names).await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    let certificate = newest(&daemon, &auto).await;
    daemon.api.wait_until(&path, |_| world.challenge_records().is_empty()).await.unwrap();
    assert!(daemon.terminate().await.unwrap().success());

    let store = open_store(&setup).await;
    let account = store.account(provider.parse().unwrap()).await.unwrap().unwrap().registered.unwrap();
    let key = store.certificate_private_key(id_of(&certificate).parse().unwrap()).await.unwrap().unwrap();
    store.close().await;
    let credentials: Value = serde_json::from_str(account.credentials.expose_secret()).unwrap();
    let account_key = BASE64_URL_SAFE_NO_PAD.decode(credentials["key_pkcs8"].as_str().unwrap()).unwrap();
    let account_key =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(account_key));

    let tree = world.folder.path().join("lego");
    let host = world.directory().split('/').nth(2).unwrap().replace(':', "_");
    let account_folder = tree.join(format!("accounts/{host}/ops@example.com"));
    fs::create_dir_all(account_folder.join("keys")).unwrap();
    fs::create_dir(tree.join("certificates")).unwrap();
    let write = |path: &str, text: String| fs::write(tree.join("certificates").join(path), text).unwrap();
    let pem = |property: &str| certificate["properties"][property].as_str().unwrap().to_owned();
    let domain = names[0];
    write(&format!("{domain}.crt"), pem("certificate") + "\n" + &pem("certificateChain"));
    write(&format!("{domain}.issuer.crt"), pem("certificateChain"));
    write(&format!("{domain}.key"), key.expose_secret().to_owned());
    write(&format!("{domain}.json"), json!({ "domain": domain, "certUrl": world.directory() }).to_string());
    fs::write(account_folder.join("keys/ops@example.com.key"), account_key).unwrap();
    let registration = json!({ "email": "ops@example.com", "registration": { "uri": account.url } });
    fs::write(account_folder.join("account.json"), registration.to_string()).unwrap();
    (tree, certificate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_of_lego_goes_on_here_with_its_account() {
    let world = Fixture::start().await;
    world.dns.add_zone("moved.example");
    let (tree, certificate) = living_tree_of_lego(&world, &["www.moved.example", "moved.example"]).await;
    let before = snapshot(&tree);
    assert_eq!((world.acme.count("new-account"), world.acme.count("new-order")), (1, 1));
    let setup = world.setup();
    let daemon = Daemon::start(&setup).await.unwrap();

    let directory = world.directory();
    let import = ["import", "lego", tree.to_str().unwrap(), "--server", &directory];
    let planned = succeeded(&run(&setup, &import));
    assert!(planned.contains("carried over") && planned.contains("1 to take over"), "{planned}");
    assert!(planned.contains("nothing was changed; the same command with --yes carries this out"), "{planned}");
    assert_eq!(daemon.api.get("/auto-certificates").await.unwrap()["items"], json!([]));

    let done = succeeded(&run(&setup, &[&import[..], &["--yes"]].concat()));
    assert!(done.contains("1 taken over, 0 updated, 0 here already, 0 not taken"), "{done}");
    let taken = daemon.api.get("/auto-certificates").await.unwrap()["items"][0].clone();
    assert_eq!(taken["metadata"]["state"], "AVAILABLE");
    assert_eq!(taken["metadata"]["createdBy"], "autocertd import");
    assert!(taken["metadata"]["message"].as_str().unwrap().contains("the renewal is planned at"), "{taken:#}");
    assert_eq!(taken["properties"]["commonName"], "www.moved.example");
    assert_eq!(taken["properties"]["subjectAlternativeNames"], json!(["moved.example"]));
    let here = newest(&daemon, &taken).await;
    assert_eq!(here["metadata"]["serialNumber"], certificate["metadata"]["serialNumber"]);
    let pem = |certificate: &Value| certificate["properties"]["certificate"].as_str().unwrap().trim().to_owned();
    assert_eq!(pem(&here), pem(&certificate));
    let provider = format!("/providers/{}", taken["properties"]["provider"].as_str().unwrap());
    assert_eq!(daemon.api.get(&provider).await.unwrap()["metadata"]["state"], "AVAILABLE");
    assert_eq!(world.acme.count("new-order"), 1, "nothing was ordered for what is valid");

    let again = run(&setup, &[&import[..], &["--yes", "--json"]].concat());
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&again["present"], &again["lineages"][0]["outcome"]), (&json!(1), &json!("present")));

    succeeded(&run(&setup, &["--renew-now", "www.moved.example"]));
    let renewed = newest(&daemon, &daemon.api.get(taken["href"].as_str().unwrap()).await.unwrap()).await;
    assert_ne!(renewed["metadata"]["serialNumber"], certificate["metadata"]["serialNumber"]);
    assert_eq!((world.acme.count("new-account"), world.acme.count("new-order")), (1, 2), "by the account of the tree");
    let again = run(&setup, &[&import[..], &["--yes", "--json"]].concat());
    assert_eq!(serde_json::from_slice::<Value>(&again.stdout).unwrap()["present"], 1, "ours is newer");
    assert_eq!(snapshot(&tree), before, "the tree was only read");
    let href = taken["href"].as_str().unwrap();
    daemon.api.wait_until(href, |_| world.challenge_records().is_empty()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_is_told_and_holds_up_no_other() {
    let world = Fixture::start().await;
    let setup = world.setup();
    let daemon = Daemon::start(&setup).await.unwrap();
    let tree = world.folder.path().join("certbot");
    let copied = std::process::Command::new("cp").arg("-a").arg(fixture("certbot")).arg(&tree).timed_status().unwrap();
    assert!(copied.success());
    fs::remove_file(tree.join("live/rsa-one/privkey.pem")).unwrap();
    let import = ["import", "certbot", tree.to_str().unwrap(), "--email", "ops@example.com"];
    let planned = succeeded(&run(&setup, &import));
    assert!(planned.contains("rsa-one: live/rsa-one/privkey.pem is missing"), "{planned}");
    assert!(planned.contains("the old one has an RSA key") && planned.contains("accounturi"), "{planned}");
    let done = run(&setup, &[&import[..], &["--yes"]].concat());
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(text(&done).contains("1 taken over, 0 updated, 0 here already, 1 not taken"), "{done:?}");
    let seen = daemon.api.get("/auto-certificates").await.unwrap();
    assert_eq!(seen["items"].as_array().unwrap().len(), 1);
    assert_eq!(seen["items"][0]["metadata"]["state"], "AVAILABLE");

    let limited = Setup { more: "[limits]\nauto_certificates = 1\n".to_owned(), ..world.setup() };
    let full = run(&limited, &["import", "acme.sh", &fixture("acme.sh"), "--yes"]);
    assert_eq!(full.status.code(), Some(1), "{full:?}");
    assert!(text(&full).contains("limits.auto_certificates"), "{full:?}");

    for (arguments, words) in [
        (&["import", "lego", "/nowhere"][..], "/nowhere cannot be read"),
        (&["import", "lego", &fixture("certbot")], "holds no certificate of lego"),
        (&["import", "lego", &fixture("lego"), "--server", "ftp://x"], "--server"),
        (&["import", "lego", &fixture("lego"), "--email", "nobody"], "nobody"),
        (&["import", "win-acme", "/"], "win-acme"),
    ] {
        let output = run(&setup, arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output).contains(words), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_tells_what_will_be_done() {
    let world = Fixture::start().await;
    let setup = world.setup();
    succeeded(&run(&setup, &["token", "create", "ops"]));
    let (certbot, dehydrated, lego) = (fixture("certbot"), fixture("dehydrated"), fixture("lego"));
    let lego5 = fixture("lego5");
    let server = "https://localhost:14000/dir";
    for (tool, arguments) in [
        ("certbot", &["certbot", &certbot, "--email", "ops@example.com"][..]),
        ("dehydrated", &["dehydrated", &dehydrated]),
        ("lego", &["lego", &lego, "--server", server]),
        ("lego5", &["lego", &lego5]),
        ("lego_without_server", &["lego", &lego]),
        ("lego_json", &["lego", &lego, "--server", server, "--json"]),
    ] {
        let planned = run(&setup, &[&["import"], arguments].concat());
        insta::assert_snapshot!(format!("plan_{tool}"), succeeded(&planned));
    }
}

/// A tree in which there is more than its tool put there: all of it is named, and none of it steers the terminal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_names_what_it_leaves_out() {
    let world = Fixture::start().await;
    let setup = world.setup();
    succeeded(&run(&setup, &["token", "create", "ops"]));
    let folder = world.folder.path().join("tree");
    let copied = Command::new("cp").args(["-R", &fixture("lego5")]).arg(&folder).timed_output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let certificates = folder.join("certificates");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(certificates.join("_.example.net.key"), encrypted).unwrap();
    fs::write(certificates.join("odd\u{1b}[31m\n\u{202e}.pfx"), [0xff]).unwrap();
    nix::unistd::mkfifo(&certificates.join("www.example.org.crt"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink(&folder, folder.join("circle")).unwrap();
    let tree = folder.to_str().unwrap();
    let planned = succeeded(&run(&setup, &["import", "lego", tree]));
    for line in [
        "_.example.net: the private key is encrypted with a passphrase, and autocertd never asks for one; decrypt it with \
         `openssl pkey -in KEY -out NEWKEY` and give the new file",
        "www.example.org: certificates/www.example.org.crt cannot be read: it is no regular file",
        "left out: circle: it links back to a folder in which it is",
        "left out: certificates/www.example.org.crt: it is no regular file",
        "left out: certificates/odd\\u{1b}[31m\\n\\u{202e}.pfx: not part of any certificate that the tool renews",
        "1 to take over, 0 to update, 0 here already, 2 that cannot be taken",
    ] {
        assert!(planned.lines().any(|said| said == line), "{line}\n{planned}");
    }
    let json = succeeded(&run(&setup, &["import", "lego", tree, "--json"]));
    let plan: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["leftOut"].as_array().unwrap().len(), 3, "{plan:#}");
    assert_eq!(plan["leftOutMore"], 0);
    let empty = run(&setup, &["import", "dehydrated", tree]);
    assert_eq!(empty.status.code(), Some(2), "{empty:?}");
    assert!(text(&empty).contains("left out: circle: it links back"), "{empty:?}");
}

/// What the API tells of everything.
async fn told(daemon: &Daemon) -> Vec<Value> {
    let mut told = Vec::new();
    for path in ["/providers", "/auto-certificates", "/certificates"] {
        told.push(daemon.api.get(path).await.unwrap()["items"].clone());
    }
    told
}

/// Another place with the master key of `from`, on a database of its own.
fn place(world: &Fixture, from: &Setup, name: &str, database: &str) -> Setup {
    let more = if database.is_empty() { String::new() } else { format!("[store]\nurl = {database:?}\n") };
    let setup = Setup { folder: world.folder.path().join(name), more, ..world.setup() };
    fs::create_dir_all(setup.state()).unwrap();
    for file in ["master.key", "first-token"] {
        fs::copy(from.state().join(file), setup.state().join(file)).unwrap();
    }
    setup
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_comes_back_on_either_database() {
    let world = Fixture::start().await;
    world.dns.add_zone("kept.example");
    let setup = world.setup();
    let daemon = Daemon::start(&setup).await.unwrap();
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.kept.example"]).await;
    daemon.api.wait_until_available(&path).await.unwrap();
    daemon.api.wait_until(&path, |_| world.challenge_records().is_empty()).await.unwrap();
    succeeded(&run(&setup, &["import", "acme.sh", &fixture("acme.sh"), "--yes"]));
    let before = told(&daemon).await;
    assert_eq!(before.iter().map(|items| items.as_array().unwrap().len()).collect::<Vec<_>>(), [2, 3, 3]);

    let file = world.folder.path().join("export.json");
    let name = file.to_str().unwrap();
    let said = succeeded(&run(&setup, &["export", name]));
    assert!(said.contains("2 providers, 3 auto-certificates, 3 certificates, 1 API token"), "{said}");
    assert!(said.contains("the master keys are not in it"), "{said}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let again = run(&setup, &["export", name]);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    succeeded(&run(&setup, &["export", name, "--force"]));
    let piped = run(&setup, &["export", "-"]);
    assert_eq!(serde_json::from_slice::<Value>(&piped.stdout).unwrap()["format"], "autocertd export");
    assert!(daemon.terminate().await.unwrap().success());

    let postgres = tokio::task::spawn_blocking(|| Postgres::shared().and_then(Postgres::fresh_database));
    let postgres = place(&world, &setup, "postgres", &postgres.await.unwrap().unwrap());
    let planned = succeeded(&run(&postgres, &["restore", name]));
    assert!(planned.contains("nothing was changed; the same command with --yes"), "{planned}");
    succeeded(&run(&postgres, &["restore", name, "--yes"]));
    let twice = run(&postgres, &["restore", name, "--yes"]);
    assert_eq!(twice.status.code(), Some(1), "{twice:?}");
    assert!(text(&twice).contains("the store is not empty, it holds 2 providers"), "{twice:?}");
    let daemon = Daemon::start(&postgres).await.unwrap();
    assert_eq!(told(&daemon).await, before);
    succeeded(&run(&postgres, &["--renew-now", "www.kept.example"]));
    assert_eq!(world.acme.count("new-account"), 1, "the account came along");
    let after = told(&daemon).await;
    let back = world.folder.path().join("back.json");
    succeeded(&run(&postgres, &["export", back.to_str().unwrap()]));
    assert!(daemon.terminate().await.unwrap().success());

    let sqlite = place(&world, &setup, "sqlite", "");
    succeeded(&run(&sqlite, &["restore", back.to_str().unwrap()]));
    assert!(!sqlite.state().join("autocertd.db").exists(), "a look makes no database");
    succeeded(&run(&sqlite, &["restore", back.to_str().unwrap(), "--yes"]));
    let daemon = Daemon::start(&sqlite).await.unwrap();
    assert_eq!(told(&daemon).await, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_without_its_key_or_beside_a_daemon_is_refused() {
    let world = Fixture::start().await;
    let setup = world.setup();
    let daemon = Daemon::start(&setup).await.unwrap();
    world.provider(&daemon).await;
    succeeded(&run(&setup, &["import", "acme.sh", &fixture("acme.sh"), "--yes"]));
    let file = world.folder.path().join("export.json");
    let name = file.to_str().unwrap();
    succeeded(&run(&setup, &["export", name]));

    let beside = run(&setup, &["restore", name, "--yes"]);
    assert_eq!(beside.status.code(), Some(1), "{beside:?}");
    assert!(text(&beside).contains("another autocertd works on"), "{beside:?}");

    let keyless = Setup { folder: world.folder.path().join("keyless"), ..world.setup() };
    let missing = run(&keyless, &["restore", name, "--yes"]);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    assert!(text(&missing).contains("is missing") && !keyless.state().join("master.key").exists(), "{missing:?}");

    let other = Setup { folder: world.folder.path().join("other"), ..world.setup() };
    fs::create_dir_all(other.state()).unwrap();
    succeeded(&run(&other, &["keys", "create"]));
    let wrong = run(&other, &["restore", name, "--yes"]);
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    assert!(text(&wrong).contains("do not open under the present master keys"), "{wrong:?}");
    assert!(!other.state().join("autocertd.db").exists(), "nothing was made");
    fs::write(&file, "{}").unwrap();
    assert!(text(&run(&other, &["restore", name])).contains("no export of autocertd"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_takes_plain_files_along_and_they_read_back() {
    let world = Fixture::start().await;
    let setup = world.setup();
    let daemon = Daemon::start(&setup).await.unwrap();
    let directory = "https://localhost:14000/dir";
    succeeded(&run(&setup, &["import", "lego", &fixture("lego"), "--server", directory, "--yes"]));
    let folder = world.folder.path().join("leaving");
    let said = succeeded(&run(&setup, &["export", "--pem", folder.to_str().unwrap()]));
    assert!(said.contains("2 certificates with their private keys"), "{said}");
    assert_eq!(run(&setup, &["export", "--pem", folder.to_str().unwrap()]).status.code(), Some(2));

    let mut names: Vec<String> = Vec::new();
    for (path, ..) in snapshot(&folder) {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        names.push(path.strip_prefix(&folder).unwrap().display().to_string());
    }
    let files = ["cert.pem", "certificate.json", "chain.pem", "fullchain.pem", "privkey.pem"];
    let in_folder = |name: &str| std::iter::once(name.to_owned()).chain(files.map(|file| format!("{name}/{file}")));
    assert_eq!(names, in_folder("_.example.net").chain(in_folder("www.example.com")).collect::<Vec<_>>());
    let wish: Value =
        serde_json::from_slice(&fs::read(folder.join("www.example.com/certificate.json")).unwrap()).unwrap();
    assert_eq!((&wish["server"], &wish["email"]), (&json!(directory), &json!("ops@example.com")));
    assert_eq!(wish["subjectAlternativeNames"], json!(["example.com"]));
    let original = fs::read_to_string(format!("{}/certificates/www.example.com.key", fixture("lego"))).unwrap();
    assert_eq!(fs::read_to_string(folder.join("www.example.com/privkey.pem")).unwrap(), original);
    drop(daemon);

    let elsewhere = Setup { folder: world.folder.path().join("elsewhere"), ..world.setup() };
    succeeded(&run(&elsewhere, &["token", "create", "ops"]));
    let import = ["import", "pem", folder.to_str().unwrap(), "--server", directory, "--email", "ops@example.com"];
    let taken = succeeded(&run(&elsewhere, &[&import[..], &["--yes"]].concat()));
    assert!(taken.contains("2 taken over"), "{taken}");
}

/// Where root runs this, the state belongs to another user, who may see neither the tree nor the export.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_reads_and_writes_its_files_and_the_owner_the_store() {
    const NOBODY: u32 = 65_534;
    let world = Fixture::start().await;
    let setup = world.setup();
    let settings = setup.write_settings().unwrap();
    fs::create_dir(setup.state()).unwrap();
    let own = setup.state().metadata().unwrap().uid();
    let owner = if own == 0 { NOBODY } else { own };
    chown(setup.state(), Some(owner), None).unwrap();
    // The checkout may be closed to that user.
    let binary = world.folder.path().join("autocertd-binary");
    fs::copy(&setup.binary, &binary).unwrap();
    let private = world.folder.path().join("private");
    fs::create_dir(&private).unwrap();
    for path in [world.folder.path(), &setup.folder, &settings, &setup.folder.join("ionos-token"), &binary] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let copied =
        std::process::Command::new("cp").arg("-a").arg(fixture("acme.sh")).arg(&private).timed_status().unwrap();
    assert!(copied.success());
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&binary);
        succeeded(&command.arg("--config").arg(&settings).args(arguments).timed_output().unwrap())
    };
    let path = |name: &str| private.join(name).to_str().unwrap().to_owned();
    let (tree, export, folder) = (path("acme.sh"), path("export.json"), path("folder"));
    run(&["token", "create", "ops"]);
    assert!(run(&["import", "acme.sh", &tree, "--yes"]).contains("2 taken over"));
    run(&["export", &export]);
    run(&["export", "--pem", &folder]);
    for file in [&export, &format!("{folder}/www.example.com/privkey.pem")] {
        let metadata = Path::new(file).metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o777), (own, 0o600), "{file}");
    }
    for entry in fs::read_dir(setup.state()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("autocertd.db") {
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
    assert!(run(&["restore", &export, "--yes"]).contains("restored into"));
    for entry in fs::read_dir(setup.state()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), owner, "{}", entry.path().display());
    }
}
