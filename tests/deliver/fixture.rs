//! What these tests share: a parcel, and processes of their own.

use autocertd_support::timed::TimedChild;
use std::path::Path;
use std::process::Command;

use autocertd::deliver::{DeliveryPayload, DeliveryRecipient};
use autocertd::domain::certificate::leaf::Leaf;
pub(crate) use autocertd_support::wait::{is_running, wait_for_exit, wait_for_lines, wait_for_some, write_script};
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
pub(crate) fn payload(certificate: &Certificate, key: &KeyPair, names: &[&str]) -> DeliveryPayload {
    DeliveryPayload {
        recipient: DeliveryRecipient {
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
pub(crate) fn any_payload() -> DeliveryPayload {
    let names = ["www.example.com", "example.com"];
    let (certificate, key) = certificate(&names);
    payload(&certificate, &key, &names)
}

/// The processes whose numbers the file holds, a line each.
pub(crate) async fn wait_for_pids(path: &Path, count: usize) -> Vec<Pid> {
    wait_for_lines(path, count).await.iter().map(|line| Pid::from_raw(line.trim().parse().unwrap())).collect()
}

/// A process of a test's own, killed with its group when dropped.
pub(crate) struct OwnProcess(std::process::Child);

impl OwnProcess {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(std::os::unix::process::CommandExt::process_group(command, 0).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }
}

impl Drop for OwnProcess {
    fn drop(&mut self) {
        let _ = nix::sys::signal::killpg(self.pid(), Signal::SIGKILL);
        let _ = self.0.timed_wait();
    }
}

/// Ends a process that a program under test has left behind.
pub(crate) fn kill_process(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
}
