//! The whole main job on one machine, without an account anywhere: a real ACME server (Pebble), a local Cloud DNS and
//! autocertd on free loopback ports, and the two documented steps over HTTP. Run it by `make demo`.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Context;
use autocertd::domain::certificate::leaf::Leaf;
use autocertd_support::cloud_dns::CloudDns;
use autocertd_support::daemon::{Daemon, Setup, binary_beside_example};
use autocertd_support::pebble::{Pebble, PebbleOptions};
use serde_json::{Value, json};

const ZONE: &str = "demo.example";
const KEY_ID: &str = "demo-account";
/// Any 32 bytes or more in base64url: Pebble is told the same.
const KEY_SECRET: &str = "ZGVtby1kZW1vLWRlbW8tZGVtby1kZW1vLWRlbW8tZGVtby1kZW1v";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let keep = std::env::args().any(|argument| argument == "--keep");
    let begun = Instant::now();
    let house = House::start().await?;
    let mut watch = Watch { begun, said: HashSet::new() };

    heading("Step 1: create a provider, with external account binding");
    let binding = json!({ "keyId": KEY_ID, "keySecret": KEY_SECRET });
    let properties = json!({
        "name": "Pebble", "email": "admin@demo.example", "server": house.pebble.directory_url(), "externalAccountBinding": binding
    });
    let provider = house.daemon.api.create("/providers", properties).await?;
    println!("POST /providers             201  id {}", text(&provider["id"]));

    heading("Step 2: create an auto-certificate linked to it");
    let properties = json!({
        "provider": provider["id"],
        "commonName": format!("*.{ZONE}"),
        "keyAlgorithm": "rsa4096",
        "name": "My Auto Certificate",
        "subjectAlternativeNames": [ZONE],
    });
    let auto = house.daemon.api.create("/auto-certificates", properties).await?;
    println!("POST /auto-certificates     201  id {}", text(&auto["id"]));
    let path = text(&auto["href"]).to_owned();
    let first = house.await_certificate(&path, None, &mut watch).await?;
    show(&first)?;
    println!("time             {:.1} s from the start of this demo", begun.elapsed().as_secs_f64());

    heading("Renewed by force: autocertd --renew-now 'My Auto Certificate'");
    watch.said.clear();
    let mut command = tokio::process::Command::from(house.setup.command(&["--renew-now", "My Auto Certificate"])?);
    anyhow::ensure!(command.status().await?.success(), "the renewal failed; the log:\n{}", house.daemon.log());
    let second = house.await_certificate(&path, Some(&first), &mut Watch { begun, said: HashSet::new() }).await?;
    show(&second)?;
    println!("lastIssuedCertificate moved from {} to {}", text(&first["id"]), text(&second["id"]));

    heading(if keep { "Look around" } else { "Look around (while it is up: make demo KEEP=1)" });
    house.show_curl_lines(&path);
    if keep {
        println!("\nUp until Ctrl-C.");
        tokio::signal::ctrl_c().await?;
    }
    house.end().await?;
    println!("\nDone in {:.1} s.", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Everything that runs for the demo. It ends with it.
struct House {
    pebble: Pebble,
    dns: CloudDns,
    setup: Setup,
    daemon: Daemon,
    folder: tempfile::TempDir,
}

impl House {
    async fn start() -> anyhow::Result<Self> {
        heading("Starting, all on loopback");
        let dns = CloudDns::start().await?;
        dns.add_zone(ZONE);
        println!("Cloud DNS        {} with the zone {ZONE}", dns.http_url());
        let options = PebbleOptions {
            dns_server: Some(dns.dns_addr()),
            eab_required: true,
            eab_keys: [(KEY_ID.to_owned(), KEY_SECRET.to_owned())].into(),
            ..PebbleOptions::default()
        };
        let pebble = Pebble::start(options).await?;
        println!("ACME server      {}", pebble.directory_url());
        let folder = tempfile::tempdir()?;
        let setup = Setup {
            binary: binary_beside_example()?,
            folder: folder.path().join("autocertd"),
            cloud_dns: dns.http_url(),
            cloud_dns_token: dns.token().to_owned(),
            dns_server: dns.dns_addr(),
            acme_root: pebble.root_pem_path(),
            log: "info".to_owned(),
            more: String::new(),
        };
        let daemon = Daemon::start(&setup).await?;
        println!("autocertd        {} with a throw-away database in {}", daemon.api.base, setup.state().display());
        Ok(Self { pebble, dns, setup, daemon, folder })
    }

    /// Tells each stage as it is reached, until there is a certificate other than `known`.
    async fn await_certificate(&self, path: &str, known: Option<&Value>, watch: &mut Watch) -> anyhow::Result<Value> {
        let known = known.map(|certificate| &certificate["id"]);
        loop {
            if known.is_none() {
                watch.tell(&self.daemon.log());
            }
            let auto = self.daemon.api.get(path).await?;
            let newest = &auto["metadata"]["lastIssuedCertificate"];
            if newest.is_string() && known != Some(newest) {
                return self.daemon.api.get(&format!("/certificates/{}", text(newest))).await;
            }
            anyhow::ensure!(auto["metadata"]["state"] != "FAILED", "{}", text(&auto["metadata"]["message"]));
            anyhow::ensure!(watch.begun.elapsed() < PATIENCE, "no certificate came; the log:\n{}", self.daemon.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn show_curl_lines(&self, auto_certificate: &str) {
        let token = self.setup.state().join("first-token");
        println!("T=$(cat {})", token.display());
        for path in [auto_certificate, "/certificates", "/providers"] {
            println!("curl -s -H \"Authorization: Bearer $T\" {}{path} | jq", self.daemon.api.base);
        }
        println!("curl -s {}/openapi.json | jq .info", self.daemon.api.base);
    }

    async fn end(self) -> anyhow::Result<()> {
        let left = self.dns.txt_records();
        anyhow::ensure!(left.is_empty(), "challenge records are left: {left:?}");
        let ended = self.daemon.terminate().await?;
        anyhow::ensure!(ended.success(), "autocertd ended with {ended}");
        self.folder.close().context("removing the throw-away folder")
    }
}

/// What of the log was told already.
struct Watch {
    begun: Instant,
    said: HashSet<String>,
}

impl Watch {
    fn tell(&mut self, log: &str) {
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for entry in entries.filter(|entry| entry["message"] == "stage reached") {
            let stage = text(&entry["stage"]).to_owned();
            if !self.said.contains(&stage) {
                println!("{:6.2} s  {stage:<11} next: {}", self.begun.elapsed().as_secs_f64(), text(&entry["next"]));
                self.said.insert(stage);
            }
        }
    }
}

fn show(certificate: &Value) -> anyhow::Result<()> {
    let metadata = &certificate["metadata"];
    let leaf = Leaf::from_pem(text(&certificate["properties"]["certificate"]))?;
    println!("certificate      {}", text(&certificate["properties"]["name"]));
    println!("names            {}", leaf.subject_alternative_names.join(", "));
    println!("issuer           {}", leaf.issuer);
    println!("valid            {} to {}", text(&metadata["notBefore"]), text(&metadata["notAfter"]));
    println!("serial number    {}", text(&metadata["serialNumber"]));
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn heading(title: &str) {
    let (bold, plain) = if std::io::stdout().is_terminal() { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
    println!("\n{bold}{title}{plain}");
}

const PATIENCE: Duration = Duration::from_mins(1);
