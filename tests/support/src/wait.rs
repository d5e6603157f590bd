//! Waiting for what others do, and programs that are made on the spot.

use std::fmt::Display;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Waits until `look` finds something.
///
/// # Panics
/// Where that takes longer than 30 s.
pub async fn wait_for_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen within {PATIENCE:?}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until the file holds this many lines, and gives them.
///
/// # Panics
/// As [`wait_for_some`].
pub async fn wait_for_lines(path: &Path, count: usize) -> Vec<String> {
    let what = format!("line {count} of {}", path.display());
    wait_for_some(&what, || Some(read_lines(path)).filter(|lines| lines.len() >= count)).await
}

/// Waits until the process with this number has ended; whoever inherited it may not have reaped it.
///
/// # Panics
/// As [`wait_for_some`].
pub async fn wait_for_exit(pid: impl Display) {
    wait_for_some(&format!("the end of process {pid}"), || (!is_running(&pid)).then_some(())).await;
}

/// Whether the process with this number runs.
pub fn is_running(pid: impl Display) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The lines of a file; none where there is no file.
pub fn read_lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Writes an executable script. Another process does it: were the file open in this one, a test that forks meanwhile would
/// keep it open, and it could not be run (`ETXTBSY`).
///
/// # Panics
/// Where it cannot be written.
pub fn write_script(path: &Path, text: &str) {
    let write = "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\"";
    let written = Command::new("/bin/sh").args(["-c", write, "sh", text]).arg(path).status();
    assert!(written.is_ok_and(|status| status.success()), "cannot write {}", path.display());
}

const PATIENCE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
