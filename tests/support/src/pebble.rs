//! Runs Pebble, the ACME server of the tests and the demo. It listens on loopback, keeps everything in a folder of its
//! own and ends with its handle.

use crate::timed::TimedChild;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use self::tls::ServerTls;
use crate::{loopback, timed};

pub mod tls;

/// What a Pebble does besides issuing.
#[derive(Clone, Debug)]
pub struct PebbleOptions {
    /// How many of a hundred good nonces it refuses. Default 0.
    pub nonce_reject: u8,
    /// How many of a hundred valid authorizations it takes for later orders. Default 0.
    pub authz_reuse: u8,
    /// How many intermediates a chain has. Default 1.
    pub chain_length: u8,
    /// Takes every challenge as answered. Default `false`.
    pub always_valid: bool,
    /// Refuses accounts without an external account binding. Default `false`.
    pub eab_required: bool,
    /// The keys of external account bindings: key id and key in base64url. Default none.
    pub eab_keys: BTreeMap<String, String>,
    /// The DNS server that it validates against; without one the system's.
    pub dns_server: Option<SocketAddr>,
    /// Behaves as coming versions will. Default `false`.
    pub strict: bool,
    /// Seconds of `Retry-After` with unfinished authorizations and orders; Pebble tosses for seconds or a date. Default 0: none.
    pub retry_after: u32,
    /// Names for which it refuses to issue. Default none.
    pub blocked_names: Vec<String>,
    /// Seconds for which its certificates are valid. Default 90 days.
    pub validity_seconds: u64,
    /// Further profiles, each with the seconds for which its certificates are valid. Default none.
    pub more_profiles: BTreeMap<String, u64>,
}

impl Default for PebbleOptions {
    fn default() -> Self {
        Self {
            nonce_reject: 0,
            authz_reuse: 0,
            chain_length: 1,
            always_valid: false,
            eab_required: false,
            eab_keys: BTreeMap::new(),
            dns_server: None,
            strict: false,
            retry_after: 0,
            blocked_names: Vec::new(),
            validity_seconds: 90 * 86_400,
            more_profiles: BTreeMap::new(),
        }
    }
}

/// A running Pebble.
#[derive(Debug)]
pub struct Pebble {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
    management: SocketAddr,
    http: reqwest::Client,
    root_pem: String,
    issuer_root_pem: String,
}

impl Pebble {
    /// Starts a Pebble and waits until its directory answers.
    ///
    /// # Errors
    /// Where there is no Pebble, or it does not come up.
    pub async fn start(options: PebbleOptions) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let ip = loopback::own_ip();
        let tls = ServerTls::generate(ip.into())?;
        let (address, management) = ((ip, ACME_PORT).into(), (ip, MANAGEMENT_PORT).into());
        write_settings(folder.path(), &tls, &options, address, management)?;
        let child = spawn(folder.path(), &options)?;
        // Pebble refuses requests without a User-Agent, as RFC 8555 section 6.1 wants one.
        let http = timed::http()
            .user_agent("autocertd-support")
            .tls_certs_only([reqwest::Certificate::from_pem(tls.root_pem.as_bytes())?])
            .build()?;
        let (root_pem, issuer_root_pem) = (tls.root_pem, String::new());
        let mut pebble = Self { child, folder, address, management, http, root_pem, issuer_root_pem };
        pebble.issuer_root_pem = pebble.wait_until_ready().await?;
        Ok(pebble)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The ACME directory.
    pub fn directory_url(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// The management interface, with the roots and intermediates of its issuers.
    pub fn management_url(&self) -> String {
        format!("https://{}", self.management)
    }

    /// A file with the root that its HTTPS certificate chains to.
    pub fn root_pem_path(&self) -> PathBuf {
        self.folder.path().join(ROOT_FILE)
    }

    /// The root that its HTTPS certificate chains to.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The root that the certificates it issues chain to; another one at every start.
    pub fn issuer_root_pem(&self) -> &str {
        &self.issuer_root_pem
    }

    /// What its management interface says of the certificate with this serial number: `Status`, `Reason` and more.
    ///
    /// # Errors
    /// Where it knows none.
    pub async fn certificate_status(&self, serial: &str) -> anyhow::Result<Value> {
        let serial = serial.replace(':', "").to_lowercase();
        let url = format!("{}/cert-status-by-serial/{serial}", self.management_url());
        let answer = self.http.get(url).send().await?.error_for_status()?;
        Ok(serde_json::from_str(&answer.text().await?)?)
    }

    /// Has it answer with this, JSON or not, when it is asked when a certificate (PEM) is to be renewed (RFC 9773).
    ///
    /// # Errors
    /// Where it did not issue the certificate.
    pub async fn set_renewal_info(&self, certificate: &str, answer: &str) -> anyhow::Result<()> {
        let url = format!("{}/set-renewal-info/", self.management_url());
        let wish = json!({ "Certificate": certificate, "ARIResponse": answer });
        let set = self.http.post(url).json(&wish).send().await?;
        if set.status().is_success() { Ok(()) } else { bail!("{}: {}", set.status(), set.text().await?) }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(LOG_FILE)).unwrap_or_else(|error| error.to_string())
    }

    /// Waits until it answers, and gives the root of its issuer.
    async fn wait_until_ready(&mut self) -> anyhow::Result<String> {
        let mut last = None;
        for _ in 0..START_TRIES {
            if let Some(status) = self.child.try_wait()? {
                bail!("Pebble ended with {status}; its log:\n{}", self.log());
            }
            match self.answers().await {
                Ok(issuer_root_pem) => return Ok(issuer_root_pem),
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(START_PAUSE).await;
        }
        bail!("Pebble does not answer ({last:?}); its log:\n{}", self.log())
    }

    /// The root of its issuer, once both of its interfaces answer.
    async fn answers(&self) -> reqwest::Result<String> {
        self.http.get(self.directory_url()).send().await?.error_for_status()?;
        self.http.get(format!("{}/roots/0", self.management_url())).send().await?.error_for_status()?.text().await
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        // It may have ended already, and nobody is left to tell.
        let _ = self.child.kill();
        let _ = self.child.timed_wait();
    }
}

fn write_settings(
    folder: &Path,
    tls: &ServerTls,
    options: &PebbleOptions,
    address: SocketAddr,
    management: SocketAddr,
) -> anyhow::Result<()> {
    std::fs::write(folder.join(ROOT_FILE), &tls.root_pem)?;
    std::fs::write(folder.join("server.pem"), &tls.certificate_pem)?;
    std::fs::write(folder.join("server.key"), &tls.key_pem)?;
    let profile = |seconds: u64| json!({"description": "for tests", "validityPeriod": seconds});
    let more = options.more_profiles.iter().map(|(name, seconds)| (name.clone(), profile(*seconds)));
    let profiles: Map<String, Value> =
        more.chain([("default".to_owned(), profile(options.validity_seconds))]).collect();
    let settings = json!({"pebble": {
        "listenAddress": address.to_string(),
        "managementListenAddress": management.to_string(),
        "certificate": folder.join("server.pem"),
        "privateKey": folder.join("server.key"),
        "httpPort": UNUSED_PORT,
        "tlsPort": UNUSED_PORT,
        "ocspResponderURL": "",
        "keyAlgorithm": "ecdsa",
        "externalAccountBindingRequired": options.eab_required,
        "externalAccountMACKeys": options.eab_keys,
        "domainBlocklist": options.blocked_names,
        "retryAfter": {"authz": options.retry_after, "order": options.retry_after},
        "profiles": profiles,
    }});
    std::fs::write(folder.join(SETTINGS_FILE), serde_json::to_vec_pretty(&settings)?)?;
    Ok(())
}

fn spawn(folder: &Path, options: &PebbleOptions) -> anyhow::Result<Child> {
    let program = std::env::var_os("PEBBLE").unwrap_or_else(|| "pebble".into());
    let log = File::create(folder.join(LOG_FILE))?;
    let mut command = Command::new(&program);
    command
        .arg("-config")
        .arg(folder.join(SETTINGS_FILE))
        .env("PEBBLE_VA_NOSLEEP", "1")
        .env("PEBBLE_VA_ALWAYS_VALID", if options.always_valid { "1" } else { "0" })
        .env("PEBBLE_WFE_NONCEREJECT", options.nonce_reject.to_string())
        .env("PEBBLE_AUTHZREUSE", options.authz_reuse.to_string())
        .env("PEBBLE_CHAIN_LENGTH", options.chain_length.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if options.strict {
        command.arg("-strict");
    }
    if let Some(server) = options.dns_server {
        command.arg("-dnsserver").arg(server.to_string());
    }
    command.spawn().with_context(|| {
        format!("cannot run {}; run tools/install-pebble, or name a pebble in $PEBBLE", program.display())
    })
}

const ROOT_FILE: &str = "root.pem";
const SETTINGS_FILE: &str = "pebble.json";
const LOG_FILE: &str = "pebble.log";

/// For challenges that autocertd never chooses.
const UNUSED_PORT: u16 = 1;

const ACME_PORT: u16 = 14_000;
const MANAGEMENT_PORT: u16 = 15_000;
const START_TRIES: u32 = 1_000;
const START_PAUSE: Duration = Duration::from_millis(20);
