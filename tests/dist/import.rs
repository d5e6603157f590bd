//! Trees that certbot and lego make here and now, against a Pebble that takes every challenge as answered, taken over.

use autocertd_support::timed::Timed;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use autocertd_support::cloud_dns::CloudDns;
use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::FaultProxy;
use autocertd_support::pebble::{Pebble, PebbleOptions};
use serde_json::Value;
use tempfile::TempDir;

struct ImportFixture {
    acme: FaultProxy,
    _pebble: Pebble,
    _dns: CloudDns,
    folder: TempDir,
    setup: Setup,
    daemon: Daemon,
}

impl ImportFixture {
    async fn start(zone: &str) -> Self {
        let dns = CloudDns::start().await.unwrap();
        dns.add_zone(zone);
        let options =
            PebbleOptions { always_valid: true, dns_server: Some(dns.dns_addr()), ..PebbleOptions::default() };
        let pebble = Pebble::start(options).await.unwrap();
        let acme = FaultProxy::in_front_of(&pebble).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_autocertd")),
            folder: folder.path().join("autocertd"),
            cloud_dns: dns.http_url(),
            cloud_dns_token: dns.token().to_owned(),
            dns_server: dns.dns_addr(),
            acme_root: acme.root_pem_path(),
            log: "info".to_owned(),
            more: String::new(),
        };
        let daemon = Daemon::start(&setup).await.unwrap();
        Self { acme, _pebble: pebble, _dns: dns, folder, setup, daemon }
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn certbot(&self, arguments: &[&str]) {
        let path = |name: &str| self.folder.path().join(name);
        let mut command = program("certbot");
        command.env("REQUESTS_CA_BUNDLE", self.acme.root_pem_path());
        command.arg("--config-dir").arg(self.tree()).arg("--work-dir").arg(path("work")).arg("--logs-dir");
        command.arg(path("logs")).args(["--non-interactive", "--agree-tos", "--server", &self.acme.directory_url()]);
        succeeded(&command.args(arguments).timed_output().unwrap());
    }

    fn lego(&self, arguments: &[&str]) {
        let mut command = program("lego");
        command.env("LEGO_CA_CERTIFICATES", self.acme.root_pem_path()).env("EXEC_PATH", "/bin/true");
        // Seconds between one name and the next.
        command.env("EXEC_SEQUENCE_INTERVAL", "1").env("EXEC_POLLING_INTERVAL", "1");
        command.arg("--path").arg(self.tree()).args(["--server", &self.acme.directory_url(), "--accept-tos"]);
        command.args(["--email", "ops@example.com", "--dns", "exec", "--dns.disable-cp"]);
        succeeded(&command.args(arguments).timed_output().unwrap());
    }

    /// The outcome of an import that succeeds.
    fn import(&self, tool: &str, arguments: &[&str]) -> Value {
        let tree = self.tree();
        let import = ["import", tool, tree.to_str().unwrap(), "--yes", "--json"];
        let output = self.setup.command(&[&import[..], arguments].concat()).unwrap().timed_output().unwrap();
        serde_json::from_slice(&succeeded(&output).stdout).unwrap()
    }

    /// The one auto-certificate.
    async fn taken(&self) -> Value {
        self.daemon.api.get("/auto-certificates").await.unwrap()["items"][0].clone()
    }

    async fn serial_number(&self) -> Value {
        let taken = self.taken().await;
        let newest = taken["metadata"]["lastIssuedCertificate"].as_str().unwrap();
        let newest = self.daemon.api.get(&format!("/certificates/{newest}")).await.unwrap();
        newest["metadata"]["serialNumber"].clone()
    }

    fn renew(&self) {
        succeeded(&self.setup.command(&["--renew-now", "www.moved.example"]).unwrap().timed_output().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_of_certbot_is_taken_over_updated_and_renewed() {
    let world = ImportFixture::start("moved.example").await;
    let names = ["-d", "www.moved.example", "-d", "moved.example"];
    let by_hook = ["--manual", "--preferred-challenges", "dns", "--manual-auth-hook", "/bin/true"];
    world.certbot(&[&["certonly", "-m", "ops@example.com"][..], &by_hook, &names].concat());
    let first = world.import("certbot", &["--email", "ops@example.com"]);
    assert_eq!((&first["takenOver"], &first["refused"]), (&1.into(), &0.into()), "{first:#}");
    assert_eq!(first["lineages"][0]["account"], "new", "certbot's account has an RSA key");
    let taken = world.taken().await;
    assert_eq!(
        (&taken["metadata"]["state"], &taken["properties"]["name"]),
        (&"AVAILABLE".into(), &"www.moved.example".into())
    );
    let before = world.serial_number().await;

    world.certbot(&["renew", "--force-renewal", "--no-random-sleep-on-renew"]);
    assert_eq!(world.import("certbot", &["--email", "ops@example.com"])["updated"], 1);
    let updated = world.serial_number().await;
    assert_ne!(updated, before);
    world.renew();
    assert_ne!(world.serial_number().await, updated);
    assert_eq!(world.import("certbot", &[])["present"], 1);
    assert_eq!(world.acme.count("new-account"), 2, "one of certbot and one of ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_of_lego_is_taken_over_with_its_account_and_renewed() {
    let world = ImportFixture::start("moved.example").await;
    world.lego(&["--domains", "www.moved.example", "--domains", "moved.example", "run"]);
    let accounts = world.acme.count("new-account");
    let directory = world.acme.directory_url();
    let first = world.import("lego", &["--server", &directory]);
    assert_eq!(
        (&first["takenOver"], &first["lineages"][0]["account"]),
        (&1.into(), &"carriedOver".into()),
        "{first:#}"
    );
    assert_eq!(world.taken().await["metadata"]["state"], "AVAILABLE");
    let before = world.serial_number().await;
    world.renew();
    assert_ne!(world.serial_number().await, before);
    assert_eq!(world.acme.count("new-account"), accounts, "the account of lego goes on");
    assert_eq!(world.import("lego", &["--server", &directory])["present"], 1);
}

/// A program of the distribution.
fn program(name: &str) -> Command {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path: &PathBuf| Path::is_file(path));
    Command::new(found.unwrap_or_else(|| panic!("{name} is missing; install Debian's package {name}")))
}

fn succeeded(output: &Output) -> &Output {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
