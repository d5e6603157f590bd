//! A throw-away PostgreSQL: one cluster for each test binary, reached by a Unix socket in its own folder, gone with the
//! process. It needs Debian's `postgresql` package; `tools/install-postgres` installs it.

use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::timed::Timed;

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
    user: Option<(u32, u32)>,
    databases: AtomicU32,
    /// Ends the server once the standard input of this process is closed, which happens with our own end.
    _keeper: Child,
}

impl Postgres {
    /// The server of this process, started at the first call.
    ///
    /// # Errors
    /// Where PostgreSQL is not installed or does not start.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceLock<anyhow::Result<Postgres>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
    }

    /// The URL of a new and empty database.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn fresh_database(&self) -> anyhow::Result<String> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let output = self.command("createdb").arg("--host").arg(&self.folder).arg(&name).timed_output()?;
        succeeded(&output).with_context(|| format!("createdb {name}"))?;
        Ok(format!("postgres://postgres@localhost/{name}?host={}", self.folder.display()))
    }

    fn start() -> anyhow::Result<Self> {
        let binaries = find_binaries()?;
        let folder = tempfile::Builder::new().prefix("pg-").tempdir_in("/tmp")?.keep();
        let user = server_user()?;
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid))?;
        }
        let data = folder.join("data");
        std::fs::DirBuilder::new().mode(0o700).create(&data)?;
        if let Some((uid, gid)) = user {
            chown(&data, Some(uid), Some(gid))?;
        }
        let initdb = as_user(&binaries.join("initdb"), user)
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync"])
            .arg("--pgdata")
            .arg(&data)
            .timed_output()?;
        succeeded(&initdb).context("initdb")?;
        let keeper = as_user(Path::new("/bin/sh"), user)
            .args(["-c", KEEPER, "keeper"])
            .args([&binaries.join("postgres"), &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { binaries, folder, user, databases: AtomicU32::new(0), _keeper: keeper };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        for _ in 0..1_000 {
            let probe =
                self.command("pg_isready").arg("--host").arg(&self.folder).stdout(Stdio::null()).timed_status()?;
            if probe.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        bail!("PostgreSQL did not start: {log}")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = as_user(&self.binaries.join(program), self.user);
        command.env("PGUSER", "postgres");
        command
    }
}

fn find_binaries() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|entry| entry.path().join("bin")).filter(|folder| folder.join("initdb").exists()).collect();
    found.sort();
    found.pop().context("no PostgreSQL server is installed; run tools/install-postgres")
}

/// The user who runs the server where we are root, which PostgreSQL refuses to be.
fn server_user() -> anyhow::Result<Option<(u32, u32)>> {
    if number(Command::new("id").arg("-u"))? != 0 {
        return Ok(None);
    }
    let uid = number(Command::new("id").args(["-u", "postgres"]))?;
    let gid = number(Command::new("id").args(["-g", "postgres"]))?;
    Ok(Some((uid, gid)))
}

fn number(command: &mut Command) -> anyhow::Result<u32> {
    let output = command.timed_output()?;
    succeeded(&output)?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn succeeded(output: &Output) -> anyhow::Result<()> {
    if output.status.success() { Ok(()) } else { bail!("{}", String::from_utf8_lossy(&output.stderr)) }
}

/// Runs the server until its standard input ends; nothing in it is worth a clean stop.
const KEEPER: &str = r#"
"$1" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
    -c max_connections=200 -c shared_buffers=32MB </dev/null >"$2/log" 2>&1 &
read -r _
kill -QUIT $!
wait
rm -rf "$2"
"#;
