//! What these tests share: a parcel, programs made on the spot, and the patience to wait for what others do.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use autocertd::deliver::{Addressee, Parcel};
use autocertd::domain::leaf::Leaf;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{Certificate, CertificateParams, KeyPair};
use secrecy::SecretString;
use uuid::Uuid;

/// A self-signed certificate of these names, with its key.
pub(crate) fn certificate(names: &[&str]) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    (params.self_signed(&key).unwrap(), key)
}

/// The certificate on its way to an auto-certificate of these names.
pub(crate) fn parcel(certificate: &Certificate, key: &KeyPair, names: &[&str]) -> Parcel {
    Parcel {
        addressee: Addressee {
            id: Uuid::from_u128(1).into(),
            name: "the shop's front".parse().unwrap(),
            key: Some("shop".parse().unwrap()),
            label: "shop".to_owned(),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
        },
        certificate: Uuid::from_u128(2).into(),
        leaf_pem: certificate.pem(),
        chain_pem: String::new(),
        private_key: SecretString::from(key.serialize_pem()),
        leaf: Leaf::from_pem(&certificate.pem()).unwrap(),
    }
}

/// Any parcel.
pub(crate) fn some_parcel() -> Parcel {
    let names = ["www.example.com", "example.com"];
    let (certificate, key) = certificate(&names);
    parcel(&certificate, &key, &names)
}

/// Writes an executable script. Another process does it: were the file open in this one, a test that forks meanwhile would
/// keep it open, and it could not be run (`ETXTBSY`).
pub(crate) fn write_script(path: &Path, text: &str) {
    let write = "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\"";
    let status = Command::new("/bin/sh").args(["-c", write, "sh", text]).arg(path).status().unwrap();
    assert!(status.success());
}

/// Waits until `look` finds something.
pub(crate) async fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the file holds this many lines, and gives them.
pub(crate) async fn await_lines(path: &Path, count: usize) -> Vec<String> {
    let lines = || std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    await_some("enough lines", || Some(lines()).filter(|lines| lines.len() >= count)).await
}

/// The processes whose numbers the file holds, a line each.
pub(crate) async fn await_pids(path: &Path, count: usize) -> Vec<Pid> {
    await_lines(path, count).await.iter().map(|line| Pid::from_raw(line.trim().parse().unwrap())).collect()
}

/// Waits until the process has ended; whoever inherited it may not have reaped it.
pub(crate) async fn await_end(pid: Pid) {
    await_some(&format!("the end of process {pid}"), || (!runs(pid)).then_some(())).await;
}

pub(crate) fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A process of a test's own, killed with its group when dropped.
pub(crate) struct Own(std::process::Child);

impl Own {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(std::os::unix::process::CommandExt::process_group(command, 0).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = nix::sys::signal::killpg(self.pid(), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Ends a process that a program under test has left behind.
pub(crate) fn end(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
}

const PATIENCE: Duration = Duration::from_secs(20);
