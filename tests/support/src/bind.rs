//! Runs BIND 9's `named` with zones, keys and update policies of the caller's. It listens on loopback, keeps everything
//! in a folder of its own and ends with its handle. It needs Debian's `bind9` package; `tools/install-bind` installs it.

mod ask;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hickory_proto::rr::{RData, RecordType};
use tempfile::TempDir;

use crate::loopback;
use crate::timed::{Timed, TimedChild};

/// What a name server serves, and to whom.
#[derive(Clone, Debug)]
pub struct BindOptions {
    /// The keys that it knows.
    pub keys: Vec<TsigKey>,
    /// The zones of which it is the primary.
    pub zones: Vec<BindZone>,
    /// Further statements for `options { }`. Default: it recurses for nobody and validates nothing; what stands here
    /// instead must keep it from asking the world.
    pub options: String,
    /// Further statements, such as `zone` of other types.
    pub statements: String,
    /// Further files for its folder, by their names.
    pub files: Vec<(String, String)>,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            zones: Vec::new(),
            options: "recursion no; dnssec-validation no;".to_owned(),
            statements: String::new(),
            files: Vec::new(),
        }
    }
}

/// A zone that BIND is the primary of.
#[derive(Clone, Debug)]
pub struct BindZone {
    /// Its name, without the final dot.
    pub name: String,
    /// What goes into `update-policy { }`, such as `grant office zonesub TXT;`. Nothing forbids all updates.
    pub policy: String,
    /// Its records besides SOA and NS, as lines of a zone file.
    pub records: String,
}

impl BindZone {
    /// A zone that these rules of an update policy hold for.
    pub fn new(name: &str, policy: &str) -> Self {
        Self { name: name.to_owned(), policy: policy.to_owned(), records: String::new() }
    }
}

/// A TSIG key.
#[derive(Clone, Debug)]
pub struct TsigKey {
    /// Its name.
    pub name: String,
    /// `hmac-sha256` or another one.
    pub algorithm: String,
    /// Its secret, in base64.
    pub secret: String,
    statement: String,
}

impl TsigKey {
    /// A new key, made by `tsig-keygen`.
    ///
    /// # Errors
    /// Where that is not installed.
    pub fn generate(name: &str, algorithm: &str) -> anyhow::Result<Self> {
        let program = find("tsig-keygen")?;
        let output = Command::new(&program).args(["-a", algorithm, name]).timed_output()?;
        let statement = String::from_utf8(output.stdout)?;
        let secret = statement.split_once("secret \"").and_then(|(_, rest)| rest.split_once('"'));
        let secret = secret.with_context(|| format!("{} printed {statement:?}", program.display()))?.0.to_owned();
        Ok(Self { name: name.to_owned(), algorithm: algorithm.to_owned(), secret, statement })
    }

    /// The key as `tsig-keygen` printed it.
    pub fn statement(&self) -> &str {
        &self.statement
    }
}

/// A running `named`.
#[derive(Debug)]
pub struct Bind {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Bind {
    /// Starts a name server and waits until it has loaded its zones.
    ///
    /// # Errors
    /// Where BIND is not installed or does not come up; the error holds its log.
    pub async fn start(options: &BindOptions) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = loopback::own_port();
        write_settings(folder.path(), options, address)?;
        let child = spawn(folder.path())?;
        let mut bind = Self { child, folder, address };
        bind.wait_until_running().await?;
        if bind.log().contains("not loaded due to errors") {
            bail!("named does not take a zone; its log:\n{}", bind.log());
        }
        Ok(bind)
    }

    /// Where it answers, on UDP and TCP.
    pub const fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join(LOG_FILE)).unwrap_or_else(|error| error.to_string())
    }

    /// All TXT records of one of its zones as `name value`, sorted.
    ///
    /// # Errors
    /// Where it does not give the zone.
    pub async fn txt_records(&self, zone: &str) -> anyhow::Result<Vec<String>> {
        let records = ask::transfer(self.address, zone).await.with_context(|| self.log())?;
        let mut found: Vec<String> = records
            .iter()
            .filter_map(|record| match &record.data {
                RData::TXT(txt) => {
                    let value: Vec<u8> = txt.txt_data.concat();
                    Some(format!("{} {}", ask::relative_name(&record.name), String::from_utf8_lossy(&value)))
                }
                _ => None,
            })
            .collect();
        found.sort();
        Ok(found)
    }

    /// The serial of one of its zones, which grows with each change.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn serial(&self, zone: &str) -> anyhow::Result<u32> {
        let answer = ask::query(self.address, zone, RecordType::SOA).await.with_context(|| self.log())?;
        let soa = answer.answers.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.serial),
            _ => None,
        });
        soa.with_context(|| format!("{zone} has no SOA record; the log of named:\n{}", self.log()))
    }

    async fn wait_until_running(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < START_TIMEOUT {
            if self.log().contains(RUNNING) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("named ended with {status}; its log:\n{}", self.log());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        bail!("named does not come up; its log:\n{}", self.log())
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        // It may have ended already, and nobody is left to tell.
        let _ = self.child.kill();
        let _ = self.child.timed_wait();
    }
}

fn write_settings(folder: &Path, options: &BindOptions, address: SocketAddr) -> anyhow::Result<()> {
    let at = |name: &str| folder.join(name).display().to_string();
    let mut text = String::new();
    writeln!(text, "controls {{ }};\noptions {{")?;
    writeln!(text, "directory {:?}; pid-file {:?}; session-keyfile none;", at(""), at("pid"))?;
    writeln!(text, "listen-on port {} {{ {}; }}; listen-on-v6 {{ none; }};", address.port(), address.ip())?;
    writeln!(text, "notify no; allow-transfer {{ any; }}; empty-zones-enable no;\n{}\n}};", options.options)?;
    for key in &options.keys {
        text.push_str(&key.statement);
    }
    for zone in &options.zones {
        let file = at(&format!("{}.zone", zone.name));
        fs::write(&file, format!("{}{}\n", APEX.replace("@ADDRESS", &address.ip().to_string()), zone.records))?;
        let policy =
            if zone.policy.is_empty() { String::new() } else { format!("update-policy {{ {} }};", zone.policy) };
        writeln!(text, "zone {:?} {{ type primary; file {file:?}; {policy} }};", zone.name)?;
    }
    text.push_str(&options.statements);
    fs::write(folder.join(SETTINGS_FILE), text)?;
    for (name, content) in &options.files {
        fs::write(folder.join(name), content)?;
    }
    Ok(())
}

/// `AppArmor`'s profile of named, which lets it read no temporary folder, goes by the program's path: a copy runs.
fn spawn(folder: &Path) -> anyhow::Result<Child> {
    let program = folder.join("named");
    // Another process makes it: were the file open in this one, a test that forks meanwhile would keep it from running.
    let copied = Command::new("cp").arg(find("named")?).arg(&program).timed_status()?;
    if !copied.success() {
        bail!("named cannot be copied to {}", folder.display());
    }
    let log = File::create(folder.join(LOG_FILE))?;
    let mut command = Command::new(&program);
    command.arg("-g").args(["-n", "1", "-c"]).arg(folder.join(SETTINGS_FILE));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot run named")
}

/// Debian keeps `named` where an ordinary user's PATH does not look.
fn find(program: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(program)).find(|path| path.exists());
    found.with_context(|| format!("there is no {program}; run tools/install-bind"))
}

/// Nobody may remember what a test is about to change.
const APEX: &str = "\
$TTL 0
@ SOA ns hostmaster 1 3600 600 86400 0
@ NS ns
ns A @ADDRESS
";
const SETTINGS_FILE: &str = "named.conf";
const LOG_FILE: &str = "named.log";
/// The last line of a start.
const RUNNING: &str = " running\n";

const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
