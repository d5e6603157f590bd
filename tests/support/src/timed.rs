//! Requests and programs that end, one way or another: nothing in a test may wait for ever.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a request or a program of a test may take.
pub const LIMIT: Duration = Duration::from_mins(2);

/// A builder of HTTP clients whose requests end within [`LIMIT`], through no proxy.
pub fn http() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().connect_timeout(LIMIT).timeout(LIMIT)
}

/// An HTTP client of [`http()`].
///
/// # Panics
/// Where TLS cannot be set up.
pub fn http_client() -> reqwest::Client {
    http().build().unwrap_or_else(|error| panic!("no HTTP client: {error}"))
}

/// Waits for `future`, which must come to its end within [`LIMIT`].
///
/// # Panics
/// Where it does not.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what} did not end within {LIMIT:?}"))
}

/// Runs programs that are killed after [`LIMIT`].
pub trait Timed {
    /// As [`Command::output`], with nothing on the standard input.
    ///
    /// # Errors
    /// Where the program cannot be run, or takes too long; the error then holds what it printed.
    fn timed_output(&mut self) -> io::Result<Output>;

    /// As [`Command::status`].
    ///
    /// # Errors
    /// Where the program cannot be run, or takes too long.
    fn timed_status(&mut self) -> io::Result<ExitStatus>;
}

impl Timed for Command {
    fn timed_output(&mut self) -> io::Result<Output> {
        self.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?.timed_output()
    }

    fn timed_status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.timed_wait()
    }
}

/// Waits for programs that are killed after [`LIMIT`].
pub trait TimedChild {
    /// As [`Child::wait_with_output`].
    ///
    /// # Errors
    /// Where it takes too long; the error then holds what was printed.
    fn timed_output(self) -> io::Result<Output>;

    /// As [`Child::wait`].
    ///
    /// # Errors
    /// Where it takes too long.
    fn timed_wait(&mut self) -> io::Result<ExitStatus>;
}

impl TimedChild for Child {
    fn timed_output(mut self) -> io::Result<Output> {
        let begun = Instant::now();
        let (stdout, stderr) = (collect(self.stdout.take()), collect(self.stderr.take()));
        let status = self.timed_wait();
        // Whoever inherited the pipes may hold them open for longer.
        let left = || LIMIT.saturating_sub(begun.elapsed()).max(GRACE);
        let read = |pipe: mpsc::Receiver<Vec<u8>>| pipe.recv_timeout(left());
        match (status, read(stdout), read(stderr)) {
            (Ok(status), Ok(stdout), Ok(stderr)) => Ok(Output { status, stdout, stderr }),
            (status, stdout, stderr) => {
                let printed = [stdout, stderr].map(|read| read.map(|text| String::from_utf8_lossy(&text).into_owned()));
                Err(io::Error::other(format!("{status:?}; printed {printed:?}")))
            }
        }
    }

    fn timed_wait(&mut self) -> io::Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > LIMIT {
                self.kill()?;
                self.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {LIMIT:?}")));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Reads a pipe to its end in a thread of its own.
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before a failure is shown all the same.
            let _ = pipe.read_to_end(&mut text);
        }
        let _ = send.send(text);
    });
    receive
}

const POLL_INTERVAL: Duration = Duration::from_millis(5);
const GRACE: Duration = Duration::from_secs(1);
