//! SIGKILL between any two steps of a publication. A child process publishes under `strace`, which kills it as it is about
//! to take a given step; what is live then is the old certificate or the new one, whole, and the next publication
//! comes to its end and leaves nothing behind. The product has no code for this: the steps are its system calls.

use autocertd_support::timed::Timed;
use std::collections::BTreeMap;
use std::path::Path;

use autocertd::deliver::{DeliveryPayload, FilesDelivery};
use autocertd_support::again;
use secrecy::ExposeSecret;

use crate::files::fixture::Fixture;
use crate::files::payloads::{entry, payload, payload_from};

#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_the_old_or_the_new_whole() {
    let undisturbed = Case::prepare(Before::Certificates).await;
    let log = undisturbed.fixture.folder.path().join("strace.log");
    let status = undisturbed.publish_under(&["-e", &format!("trace={STEPS}"), "-o", log.to_str().unwrap()]);
    assert!(status.success(), "strace cannot run the publication; it needs the right to ptrace");
    undisturbed.fixture.assert_serves(&undisturbed.new);
    let steps = steps_in(&std::fs::read_to_string(&log).unwrap());
    for step in ["mkdirat", "fchmod", "fsync", "renameat", "symlinkat", "unlinkat"] {
        assert!(steps.contains_key(step), "no {step} among {steps:?}");
    }

    let (mut old, mut new) = (0, 0);
    for before in [Before::Certificates, Before::Placeholder] {
        for (step, count) in &steps {
            for number in 1..=*count {
                let case = Case::prepare(before).await;
                let kill = format!("inject={step}:signal=KILL:when={number}");
                let status = case.publish_under(&["-e", &format!("trace={step}"), "-e", &kill, "-o", "/dev/null"]);
                // What replaces a placeholder takes fewer steps.
                assert!(!status.success() || before == Before::Placeholder, "{step} {number} was not met");
                let is_new = case.fixture.link(".current") == Some(Fixture::version(&case.new));
                *if is_new { &mut new } else { &mut old } += 1;
                case.check_whole(is_new, &format!("{before:?}, {step} {number}")).await;
            }
        }
    }
    assert!(old > 10 && new > 3, "{old} kills left the old version, {new} the new one");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Two certificates were published, so that one becomes the previous one and another is removed.
    Certificates,
    Placeholder,
}

struct Case {
    fixture: Fixture,
    before: Before,
    old: DeliveryPayload,
    new: DeliveryPayload,
}

impl Case {
    async fn prepare(before: Before) -> Self {
        let mut stand = Fixture::new();
        stand.entry = settings(stand.folder.path());
        let [older, old, new] = [payload(), payload(), payload()];
        match before {
            Before::Certificates => {
                stand.files().publish(&older).await.unwrap();
                stand.files().publish(&old).await.unwrap();
            }
            Before::Placeholder => stand.files().publish_placeholder(&old.recipient).await.unwrap(),
        }
        std::fs::write(stand.folder.path().join("id"), new.certificate.to_string()).unwrap();
        std::fs::write(stand.folder.path().join("leaf"), &new.leaf_pem).unwrap();
        std::fs::write(stand.folder.path().join("chain"), &new.chain_pem).unwrap();
        std::fs::write(stand.folder.path().join("key"), new.private_key.expose_secret()).unwrap();
        Self { fixture: stand, before, old, new }
    }

    fn publish_under(&self, options: &[&str]) -> std::process::ExitStatus {
        let wrapper = [&["strace", "-f", "-qqq"], options].concat();
        let mut command =
            again::command(&wrapper, "files::kill::the_child_publishes", self.fixture.folder.path()).unwrap();
        command.timed_output().expect("the program strace; tools/install-strace installs it").status
    }

    async fn check_whole(&self, is_new: bool, kill: &str) {
        let live = self.fixture.text("fullchain.pem");
        match self.before {
            _ if is_new => self.fixture.assert_serves(&self.new),
            Before::Certificates => self.fixture.assert_serves(&self.old),
            Before::Placeholder => assert!(live != self.new.full_chain_pem(), "{kill}"),
        }
        let files = self.fixture.files();
        files.publish(&self.new).await.unwrap_or_else(|failure| panic!("{kill}: {failure}"));
        assert!(files.is_current(&self.new).await.unwrap(), "{kill}");
        self.fixture.assert_serves(&self.new);
        let versions = self.fixture.assert_tidy().len();
        let previous = self.fixture.link(".previous");
        match self.before {
            Before::Certificates => assert_eq!((versions, previous), (2, Some(Fixture::version(&self.old))), "{kill}"),
            Before::Placeholder => assert_eq!((versions, previous), (1, None), "{kill}"),
        }
    }
}

#[tokio::test]
#[ignore = "the child of another test, which kills it"]
async fn the_child_publishes() {
    let folder = std::env::var_os(again::FOLDER_VARIABLE).expect("run by its parent");
    let folder = Path::new(&folder);
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let mut parcel = payload_from(text("leaf"), text("key"));
    parcel.certificate = text("id").parse().unwrap();
    parcel.chain_pem = text("chain");
    FilesDelivery::new(&settings(folder)).publish(&parcel).await.unwrap();
}

/// Each file needs its mode set, which is one more step.
fn settings(folder: &Path) -> autocertd::config::delivery::FilesEntry {
    let mut entry = entry(&folder.join("certs"));
    entry.key_mode = Some(autocertd::config::delivery::FileMode(0o640));
    entry
}

/// How often each step was taken.
fn steps_in(log: &str) -> BTreeMap<String, usize> {
    let mut steps = BTreeMap::new();
    for line in log.lines().filter(|line| !line.contains("resumed>")) {
        let call = line.split_once('(').map_or("", |(before, _)| before);
        if let Some(step) = call.split_whitespace().last() {
            *steps.entry(step.to_owned()).or_default() += 1;
        }
    }
    steps
}

/// All system calls by which a publication changes names, modes or what is on the disk. Between the making of a file and
/// its mode it is only filled, in a draft at which nothing points.
const STEPS: &str = "mkdirat,fchown,fchmod,fsync,renameat,?renameat2,symlinkat,unlinkat";
