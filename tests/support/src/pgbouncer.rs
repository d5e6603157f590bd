//! A real pgbouncer before a PostgreSQL of the tests, at Unix sockets alone.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::timed::{Timed, TimedChild};

/// A running pgbouncer; it ends with this value.
#[derive(Debug)]
pub struct Pgbouncer {
    folder: TempDir,
    child: Child,
}

impl Pgbouncer {
    /// A pgbouncer of this `pool_mode` before `database` of the server whose socket is in `server`.
    ///
    /// # Errors
    /// Where it is not installed (`tools/install-postgres` does that) or does not start.
    pub fn start(server: &Path, database: &str, pool_mode: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("pgb-").tempdir_in("/tmp")?;
        let settings = folder.path().join("pgbouncer.ini");
        std::fs::write(
            &settings,
            format!(
                "[databases]\n{database} = host={} dbname={database} user=postgres\n[pgbouncer]\nlisten_addr =\n\
                 listen_port = {PORT}\nunix_socket_dir = {}\nauth_type = any\npool_mode = {pool_mode}\n\
                 ignore_startup_parameters = extra_float_digits\nlogfile =\n",
                server.display(),
                folder.path().display()
            ),
        )?;
        let mut command = Command::new("pgbouncer");
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if is_root()? {
            let given = Command::new("chown").arg("-R").arg("postgres").arg(folder.path()).status()?;
            anyhow::ensure!(given.success(), "cannot give {} to postgres", folder.path().display());
            command.args(["-u", "postgres"]);
        }
        let child = command.arg(&settings).spawn().context("pgbouncer; run tools/install-postgres")?;
        let mut started = Self { folder, child };
        for _ in 0..500 {
            if started.folder.path().join(format!(".s.PGSQL.{PORT}")).exists() {
                return Ok(started);
            }
            if let Some(status) = started.child.try_wait()? {
                bail!("pgbouncer ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("pgbouncer did not start")
    }

    /// The URL of `database` through it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}&port={PORT}", self.folder.path().display())
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.timed_wait();
    }
}

fn is_root() -> anyhow::Result<bool> {
    Ok(Command::new("id").arg("-u").timed_output()?.stdout.starts_with(b"0"))
}

/// Part of the socket's name only.
const PORT: u16 = 6432;
