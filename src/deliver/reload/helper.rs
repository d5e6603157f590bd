//! The daemon's side of the privileged helper: a request is put on the desk, the answer awaited.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::time_span::TimeSpan;
use crate::deliver::reload::spool::{ReloadAnswer, ReloadOutcome, ReloadRequest, SpoolPaths};
use crate::domain::declared::DeclaredKey;
use crate::domain::failure::disposition::Failure;
use crate::runtime::files;
use crate::runtime::randomness::Randomness;

/// Asks the helper on behalf of one delivery.
#[derive(Debug)]
pub(super) struct HelperClient {
    key: DeclaredKey,
    spool: SpoolPaths,
    randomness: Randomness,
}

impl HelperClient {
    pub(super) const fn new(key: DeclaredKey, spool: SpoolPaths, randomness: Randomness) -> Self {
        Self { key, spool, randomness }
    }

    pub(super) async fn run(&self, timeout: TimeSpan) -> Result<(), Failure> {
        let request = ReloadRequest { key: self.key.clone(), number: self.randomness.uuid() };
        let placed = self.place_request(&request).await?;
        let answer = tokio::time::timeout(timeout.duration(), self.await_answer(&request)).await;
        match answer {
            Ok(ReloadOutcome::Done) => Ok(()),
            Ok(ReloadOutcome::Failed(why)) => Err(Failure::retry(format!("autocertd-reload.service failed: {why}"))),
            Err(_) if tokio::fs::try_exists(&placed.0).await.unwrap_or(true) => Err(Failure::retry(format!(
                "nobody took the request for a reload within {timeout}; either another reload holds autocertd-reload.service \
                 up, or autocertd-reload.path is not active: look with systemctl status autocertd-reload.path \
                 autocertd-reload.service, and start the path unit where it is not"
            ))),
            Err(_) => Err(Failure::retry(format!(
                "autocertd-reload.service took the request for a reload but gave no answer within {timeout}; look with \
                 journalctl -u autocertd-reload.service, or raise reload.timeout"
            ))),
        }
    }

    async fn place_request(&self, request: &ReloadRequest) -> Result<SpooledRequest, Failure> {
        let place = self.spool.requests.join(request.to_string());
        let made = files::work(&self.spool.requests, move || {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place)?;
            Ok(SpooledRequest(place))
        });
        let placed: std::io::Result<SpooledRequest> = made.await.flatten();
        placed.map_err(|error| {
            let advice = match error.kind() {
                ErrorKind::NotFound => {
                    "install the helper, autocertd-reload.path, with its tmpfiles.d file, see docs/systemd.md"
                }
                ErrorKind::ReadOnlyFilesystem => "add the folder to ReadWritePaths= of autocertd.service",
                _ => "the user that runs autocertd must be able to write there, see docs/systemd.md",
            };
            let folder = self.spool.requests.display();
            Failure::operator(format!("no request for a reload can be put into {folder}: {error}; {advice}"))
        })
    }

    /// Waits for the answer.
    async fn await_answer(&self, request: &ReloadRequest) -> ReloadOutcome {
        let mut pause = FIRST_PAUSE;
        loop {
            let text = files::read(&self.spool.answers_file()).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let mut answers = text.lines().filter_map(|line| line.parse::<ReloadAnswer>().ok());
            if let Some(answer) = answers.find(|answer| answer.number == request.number) {
                return answer.outcome;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// A request on the desk; taken back when nobody waits for it any more.
struct SpooledRequest(PathBuf);

impl Drop for SpooledRequest {
    fn drop(&mut self) {
        // The helper takes it away before it answers. The folder is in memory, and a drop cannot wait.
        let _ = std::fs::remove_file(&self.0);
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);
