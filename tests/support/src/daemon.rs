//! autocertd itself as a child process: its settings, its log, its API.

use crate::timed::TimedChild;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::api::ApiClient;

/// Where a daemon's parts are.
#[derive(Clone, Debug)]
pub struct Setup {
    /// autocertd's binary.
    pub binary: PathBuf,
    /// Its folder: settings, state and log.
    pub folder: PathBuf,
    /// The address of the Cloud DNS API.
    pub cloud_dns: String,
    /// The token for it; none where it is empty.
    pub cloud_dns_token: String,
    /// The name server that must show the records, and through which CAA records are looked up.
    pub dns_server: SocketAddr,
    /// The root certificate of the ACME server's own TLS, PEM.
    pub acme_root: PathBuf,
    /// The log filter.
    pub log: String,
    /// Further settings, as TOML sections.
    pub more: String,
}

impl Setup {
    /// Where the settings are, written by this call.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn write_settings(&self) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(&self.folder)?;
        let token_file = self.folder.join("ionos-token");
        replace(&token_file, &self.cloud_dns_token)?;
        fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600))?;
        let mut text = String::new();
        writeln!(text, "state_directory = \"{}\"", self.state().display())?;
        writeln!(text, "[api]\nlisten = \"127.0.0.1:0\"")?;
        writeln!(text, "[acme]\naccept_terms_of_service = true")?;
        writeln!(text, "extra_roots = [\"{}\"]", self.acme_root.display())?;
        writeln!(text, "first_poll = \"50ms\"\nlongest_poll = \"200ms\"")?;
        writeln!(text, "[dns.ionos]\nendpoint = {:?}", self.cloud_dns)?;
        if !self.cloud_dns_token.is_empty() {
            writeln!(text, "token_file = \"{}\"", token_file.display())?;
        }
        writeln!(text, "[dns.propagation]\nservers = [\"{0}\"]\nresolvers = [\"{0}\"]", self.dns_server)?;
        writeln!(text, "first_pause = \"50ms\"\nlongest_pause = \"200ms\"\ntimeout = \"20s\"")?;
        writeln!(text, "[log]\nfilter = {:?}\nformat = \"json\"", self.log)?;
        text.push_str(&self.more);
        let path = self.folder.join("autocertd.toml");
        replace(&path, &text)?;
        Ok(path)
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// A command of autocertd with these settings.
    ///
    /// # Errors
    /// Where the settings cannot be written.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        Ok(self.with_settings(&self.write_settings()?, arguments))
    }

    fn with_settings(&self, settings: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(settings).args(arguments);
        command.env_remove("IONOS_TOKEN").env_remove("AUTOCERTD_LOG").env_remove("AUTOCERTD_CONFIG");
        command
    }
}

/// A running `autocertd serve`; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// The API with the first token.
    pub api: ApiClient,
    log: PathBuf,
}

impl Daemon {
    /// Starts the daemon and waits until it serves.
    ///
    /// # Errors
    /// Where it does not come up; the error holds its log.
    pub async fn start(setup: &Setup) -> anyhow::Result<Self> {
        Self::start_with(setup, &setup.write_settings()?).await
    }

    /// Starts the daemon with a settings file of the caller's.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub async fn start_with(setup: &Setup, settings: &Path) -> anyhow::Result<Self> {
        let number = fs::read_dir(&setup.folder).map_or(0, Iterator::count);
        let log = setup.folder.join(format!("log-{number}"));
        let child = setup
            .with_settings(settings, &["serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", setup.binary.display()))?;
        let mut daemon = Self { child, api: ApiClient::new(String::new(), String::new())?, log };
        let address = daemon.wait_for_address().await?;
        let token = fs::read_to_string(setup.state().join("first-token")).context("no first token")?;
        daemon.api = ApiClient::new(format!("http://{address}"), token)?;
        Ok(daemon)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks for an end by SIGTERM and waits for it.
    ///
    /// # Errors
    /// Where it does not end within 15 s.
    pub async fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        signal(self.pid(), "TERM")?;
        self.wait(Duration::from_secs(15)).await
    }

    /// Waits until the process ends.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub async fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        bail!("autocertd still runs after {patience:?}; its log:\n{}", self.log())
    }

    async fn wait_for_address(&mut self) -> anyhow::Result<String> {
        let begun = Instant::now();
        while begun.elapsed() < START_TIMEOUT {
            if let Some(address) = self.log().lines().find_map(address_in) {
                return Ok(address);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("autocertd ended with {status}; its log:\n{}", self.log());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        bail!("autocertd does not serve; its log:\n{}", self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.timed_wait();
    }
}

/// Sends a signal by name.
///
/// # Errors
/// Where there is no such process.
pub fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { bail!("no process {pid}") }
}

/// The binary of the build that the running example or test belongs to.
///
/// # Errors
/// Where it was not built.
pub fn binary_beside_example() -> anyhow::Result<PathBuf> {
    let example = std::env::current_exe()?;
    let folder = example.parent().and_then(Path::parent).context("an example lives in target/<profile>/examples")?;
    let binary = folder.join("autocertd");
    if binary.exists() {
        Ok(binary)
    } else {
        bail!("{} is missing; run `cargo build --bin autocertd`", binary.display())
    }
}

/// Writes a file whole: a daemon may be reading it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_added_extension("new");
    fs::write(&draft, text)?;
    fs::rename(draft, path)
}

fn address_in(line: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(line).ok()?;
    (entry.get("message")? == "serving").then(|| entry.get("address")?.as_str().map(str::to_owned))?
}

const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
