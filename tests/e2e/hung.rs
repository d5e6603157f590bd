//! What autocertd stands on hangs: a database that does not answer, a file that cannot be read to its end. Signals are
//! heeded all the same, and a stop has an end.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use autocertd_support::daemon::{Daemon, Setup, signal};
use autocertd_support::postgres::Postgres;
use autocertd_support::timed::{Timed, TimedChild};
use autocertd_support::wait::wait_for_some;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::fixture::{Fixture, auto_certificate};

/// The least grace, what follows it, and time for a busy machine.
const LONGEST_STOP: Duration = Duration::from_secs(25);
/// Where nothing is waited for.
const SHORT_STOP: Duration = Duration::from_secs(8);

/// Several time-outs of the store.
const AWAY: Duration = Duration::from_secs(12);
/// One look of each lane and one request each second, and no more.
const MAX_OUTAGE_LINES: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_is_heeded_while_the_database_hangs_under_requests_and_a_reload() {
    let world = Fixture::start().await;
    let database = HangingDatabase::start(world.folder.path());
    let setup = database.setup(&world);
    assert!(setup.command(&["keys", "create"]).unwrap().timed_output().unwrap().status.success());
    let mut daemon = Daemon::start(&setup).await.unwrap();
    world.provider(&daemon).await;

    database.hang();
    let request = tokio::spawn({
        let api = daemon.api.clone();
        async move { api.get("/providers").await.is_ok() }
    });
    signal(daemon.pid(), "HUP").unwrap();
    // It goes on answering what needs no database.
    let healthz = format!("{}/healthz", daemon.api.base);
    let client = autocertd_support::timed::http_client();
    assert_eq!(client.get(healthz).send().await.unwrap().status(), 200);
    let begun = Instant::now();
    signal(daemon.pid(), "TERM").unwrap();
    wait_for_some("the start of the stop", || daemon.log().contains("SIGTERM: stopping").then_some(())).await;
    assert!(begun.elapsed() < SHORT_STOP, "SIGTERM was seen after {:?}", begun.elapsed());
    let status = daemon.wait(LONGEST_STOP).await.unwrap();
    assert!(status.success(), "{status}\n{}", daemon.log());
    assert!(!request.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_a_start_and_a_single_pass_that_wait_for_the_database() {
    let world = Fixture::start().await;
    let database = HangingDatabase::start(world.folder.path());
    let setup = database.setup(&world);
    assert!(setup.command(&["keys", "create"]).unwrap().timed_output().unwrap().status.success());
    database.hang();
    for (arguments, code) in [(&["serve"][..], 0), (&["--renew-now"], 1)] {
        let before = database.connections();
        let mut child = KilledOnDrop(setup.command(arguments).unwrap().stderr(Stdio::null()).spawn().unwrap());
        wait_for_some("a connection", || (database.connections() > before).then_some(())).await;
        let begun = Instant::now();
        signal(child.0.id(), "TERM").unwrap();
        let status = child.end().await;
        assert!(begun.elapsed() < SHORT_STOP, "{arguments:?} ended after {:?}", begun.elapsed());
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_waits_for_no_pipe_in_the_place_of_a_file() {
    let world = Fixture::start().await;
    let setup = world.setup();
    let mut daemon = Daemon::start(&setup).await.unwrap();
    let token = setup.folder.join("ionos-token");
    std::fs::remove_file(&token).unwrap();
    nix::unistd::mkfifo(&token, nix::sys::stat::Mode::S_IRWXU).unwrap();
    signal(daemon.pid(), "HUP").unwrap();
    wait_for_some("the refusal", || daemon.log().contains("it is no regular file").then_some(())).await;
    daemon.api.get("/providers").await.unwrap();
    let begun = Instant::now();
    signal(daemon.pid(), "TERM").unwrap();
    let status = daemon.wait(LONGEST_STOP).await.unwrap();
    assert!(status.success() && begun.elapsed() < SHORT_STOP, "{status} after {:?}", begun.elapsed());
    assert!(!daemon.log().contains("settings read anew"), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_for_a_while_holds_up_no_reload_and_fills_no_log_and_then_everything_goes_on() {
    let world = Fixture::start().await;
    world.dns.add_zone("away.example");
    let database = HangingDatabase::start(world.folder.path());
    let mut setup = database.setup(&world);
    setup.more = setup.more.replace("[keys]", "timeout = \"2s\"\n[keys]");
    assert!(setup.command(&["keys", "create"]).unwrap().timed_output().unwrap().status.success());
    let daemon = Daemon::start(&setup).await.unwrap();
    let provider = world.provider(&daemon).await;
    let before = auto_certificate(&daemon, &provider, "secp256r1", &["before.away.example"]).await;
    daemon.api.wait_until_available(&before).await.unwrap();

    let lines_before = daemon.log().lines().count();
    database.set_hanging(true);
    let away = Instant::now();
    signal(daemon.pid(), "HUP").unwrap();
    let pass = setup.command(&["--renew-now", "for before.away.example"]).unwrap().timed_output().unwrap();
    assert_eq!(pass.status.code(), Some(1), "{pass:?}");
    let words = String::from_utf8_lossy(&pass.stderr).into_owned();
    assert!(!words.trim().is_empty() && !words.contains("panicked"), "{words}");
    tokio::time::sleep(AWAY.saturating_sub(away.elapsed())).await;
    let lines = daemon.log().lines().count() - lines_before;
    assert!(lines < MAX_OUTAGE_LINES, "{lines} lines in {:?}: {}", away.elapsed(), daemon.log());

    database.set_hanging(false);
    let back = Instant::now();
    let after = wait_for_some_answer(&daemon, &provider).await;
    daemon.api.wait_until_available(&after).await.unwrap();
    assert!(back.elapsed() < Duration::from_mins(1), "it took {:?}", back.elapsed());
}

/// An auto-certificate, made as soon as the API takes one again.
async fn wait_for_some_answer(daemon: &Daemon, provider: &str) -> String {
    let begun = Instant::now();
    while daemon.api.get("/providers").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the API does not come back: {}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    auto_certificate(daemon, provider, "secp256r1", &["after.away.example"]).await
}

/// A way to PostgreSQL that can be told to pass nothing on.
struct HangingDatabase {
    url: String,
    hangs: watch::Sender<bool>,
    connections: Arc<AtomicUsize>,
}

impl HangingDatabase {
    fn start(folder: &Path) -> Self {
        let real = Postgres::shared().unwrap().fresh_database().unwrap();
        let (address, real_folder) = real.split_once("host=").unwrap();
        let upstream = PathBuf::from(real_folder).join(SOCKET);
        let folder = folder.join("database");
        std::fs::create_dir(&folder).unwrap();
        let listener = UnixListener::bind(folder.join(SOCKET)).unwrap();
        let (hangs, seen) = watch::channel(false);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let server = UnixStream::connect(&upstream).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass_on(from_client, to_server, seen.clone()));
                tokio::spawn(pass_on(from_server, to_client, seen.clone()));
            }
        });
        Self { url: format!("{address}host={}", folder.display()), hangs, connections }
    }

    fn setup(&self, world: &Fixture) -> Setup {
        let key = world.folder.path().join("shared.key");
        let more = format!("[store]\nurl = \"{}\"\n[keys]\nfile = \"{}\"\n", self.url, key.display());
        Setup { more, ..world.setup() }
    }

    fn hang(&self) {
        self.set_hanging(true);
    }

    fn set_hanging(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn pass_on(
    mut from: tokio::net::unix::OwnedReadHalf,
    mut to: tokio::net::unix::OwnedWriteHalf,
    mut hangs: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if hangs.wait_for(|hangs| !hangs).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// A child that does not outlive its test.
struct KilledOnDrop(Child);

impl KilledOnDrop {
    async fn end(&mut self) -> ExitStatus {
        wait_for_some("the end", || self.0.try_wait().unwrap()).await
    }
}

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.timed_wait();
    }
}

const SOCKET: &str = ".s.PGSQL.5432";
