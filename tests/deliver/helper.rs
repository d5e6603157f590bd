//! The privileged helper: the daemon's side here, root's side in a process of its own, with a script in systemctl's place,
//! since no systemd runs where these tests run. They need root, as the helper does.

use autocertd_support::timed::{Timed, TimedChild};
use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use autocertd::config::delivery::ReloadEntry;
use autocertd::config::time_span::TimeSpan;
use autocertd::deliver::reload::spool::SpoolPaths;
use autocertd::deliver::reload::{Reload, ReloadContext, ReloadReached};
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::runtime::randomness::Randomness;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::fixture::{wait_for_some, write_script};

const DELIVERY: &str = "[[delivery]]\nkey = 'nginx'\nreload = { unit = 'nginx.service', helper = true }\n";

#[tokio::test]
async fn a_request_is_fulfilled_and_answered() {
    let office = HelperFixture::new(DELIVERY);
    let first = office.ask("nginx", TimeSpan::seconds(30)).await;
    let second = office.ask("nginx", TimeSpan::seconds(30)).await;
    let output = office.help();
    assert!(output.status.success(), "{output:?}");
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(office.calls(), ["--system --no-ask-password --no-pager --quiet reload-or-restart -- nginx.service"]);
    assert_eq!(office.requests(), [] as [String; 0]);

    // An answer is for its own request alone.
    write_script(&office.folder().join("bin/systemctl"), "#!/bin/sh\necho 'Job for nginx.service failed.'; exit 1\n");
    let third = office.ask("nginx", TimeSpan::seconds(30)).await;
    assert_eq!(office.help().status.code(), Some(1));
    let failure = third.await.unwrap().unwrap_err();
    assert!(failure.message.starts_with("autocertd-reload.service failed: systemctl reload-or-restart"), "{failure}");
    assert!(failure.message.contains("Job for nginx.service failed."), "{failure}");
}

/// As the unit runs it: uid 0 without any capability, group root; the daemon's group may write into the folder of requests.
#[tokio::test]
async fn root_needs_no_capability_for_it() {
    let office = HelperFixture::new(DELIVERY);
    chown(&office.desk.requests, Some(0), Some(NOBODY)).unwrap();
    office.chmod("requests", 0o770);
    let request = office.ask("nginx", TimeSpan::seconds(30)).await;
    chown(office.desk.requests.join(&office.requests()[0]), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--clear-groups"]).arg(BINARY);
    let output = office.run(&mut command);
    assert!(output.status.success(), "{output:?}");
    request.await.unwrap().unwrap();
}

#[tokio::test]
async fn only_what_files_of_roots_declare_is_done() {
    let mut settings = DELIVERY.to_owned();
    settings.push_str("[[delivery]]\nkey = 'direct'\nreload = { unit = 'ssh.service' }\n");
    settings.push_str("[[delivery]]\nkey = 'odd'\nreload = { unit = '--now.service', helper = true }\n");
    let office = HelperFixture::new(&settings);
    office.declare("10-nobody.toml", "nobodys", 0o644, NOBODY);
    office.declare("20-open.toml", "open", 0o664, 0);
    office.declare("30-linked", "linked", 0o644, NOBODY);
    symlink(office.folder().join("conf.d/30-linked"), office.folder().join("conf.d/30-linked.toml")).unwrap();
    symlink("/nowhere", office.folder().join("conf.d/40-dangling.toml")).unwrap();
    office.declare("50-good.toml", "good", 0o644, 0);

    for (key, words) in [
        ("unknown", "declares this delivery"),
        ("direct", "helper = true"),
        ("odd", "is not the name of a unit"),
        ("nobodys", "declares this delivery"),
        ("open", "declares this delivery"),
        ("linked", "declares this delivery"),
    ] {
        let request = office.ask(key, TimeSpan::seconds(30)).await;
        let output = office.help();
        assert_eq!(output.status.code(), Some(1), "{key}: {output:?}");
        let failure = request.await.unwrap().unwrap_err();
        assert!(
            failure.message.contains("the request was refused") && failure.message.contains(words),
            "{key}: {failure}"
        );
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(log.contains("refused a request") && log.contains(key), "{log}");
        for file in ["10-nobody.toml", "20-open.toml", "30-linked.toml", "40-dangling.toml"] {
            assert!(log.contains(&format!("{file} is not obeyed")), "{log}");
        }
    }
    assert_eq!(office.calls(), [] as [String; 0]);
    let request = office.ask("good", TimeSpan::seconds(30)).await;
    assert!(office.help().status.success());
    request.await.unwrap().unwrap();
    assert_eq!(office.calls().len(), 1);
}

#[tokio::test]
async fn settings_in_a_folder_of_others_are_not_even_read() {
    let office = HelperFixture::new("this is no TOML");
    for (mode, owner) in [(0o777, 0), (0o1777, 0), (0o755, NOBODY)] {
        office.chmod("", mode);
        chown(office.folder(), Some(owner), None).unwrap();
        let request = office.ask("nginx", TimeSpan::seconds(30)).await;
        let output = office.help();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(request.await.unwrap().unwrap_err().message.contains("the request was refused"));
    }
    office.chmod("", 0o755);
    chown(office.folder(), Some(0), None).unwrap();
    let output = office.help();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("autocertd.toml"), "{output:?}");
}

#[tokio::test]
async fn what_else_lies_on_the_desk_is_swept_away_and_never_followed() {
    let office = HelperFixture::new(DELIVERY);
    let victim = office.folder().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let number = "0123456789abcdef0123456789abcdef";
    let at = |name: &str| office.desk.requests.join(name);
    symlink(&victim, at(&format!("nginx@{number}"))).unwrap();
    symlink(&victim, at("nginx")).unwrap();
    symlink(office.folder(), at("folder")).unwrap();
    std::fs::create_dir(at(&format!("nginx@{}", number.replace('0', "1")))).unwrap();
    std::fs::write(at("a\nb; reboot"), "x").unwrap();
    std::fs::write(at(&format!("-x@{number}")), "x").unwrap();
    let fifo = CString::new(at(&format!("ssh.service@{number}")).into_os_string().into_encoded_bytes()).unwrap();
    nix::unistd::mkfifo(fifo.as_c_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();

    let output = office.help();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(office.requests(), [] as [String; 0]);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(office.folder().join("bin").exists());
    // The link of a right name was a request like any other: a name.
    assert_eq!(office.calls().len(), 1);
}

#[tokio::test]
async fn answers_are_written_nowhere_but_into_a_folder_of_roots() {
    let office = HelperFixture::new(DELIVERY);
    let (answers, elsewhere) = (office.desk.answers.clone(), office.folder().join("elsewhere"));
    std::fs::create_dir(&elsewhere).unwrap();
    let refused = |how: &str| {
        std::fs::write(office.desk.requests.join("nginx@0123456789abcdef0123456789abcdef"), "").unwrap();
        let output = office.help();
        assert_eq!(output.status.code(), Some(2), "{how}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("answers"), "{how}: {output:?}");
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0, "{how}");
    };
    chown(&answers, Some(NOBODY), None).unwrap();
    refused("another's");
    chown(&answers, Some(0), None).unwrap();
    office.chmod("answers", 0o775);
    refused("open");
    std::fs::remove_dir(&answers).unwrap();
    symlink(&elsewhere, &answers).unwrap();
    refused("a link");
    std::fs::remove_file(&answers).unwrap();
    refused("missing");

    // A link that the folder's owner left is not followed.
    std::fs::create_dir(&answers).unwrap();
    let victim = office.folder().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    symlink(&victim, answers.join(".answers")).unwrap();
    assert_eq!(office.help().status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "untouched");
    assert_eq!(office.calls().len(), 1);
}

#[tokio::test]
async fn answers_do_not_pile_up_and_everybody_may_read_them() {
    let office = HelperFixture::new(DELIVERY);
    for round in 0..4 {
        for number in 0..256 {
            std::fs::write(office.desk.requests.join(format!("nginx@{round:016x}{number:016x}")), "").unwrap();
        }
        assert!(office.help().status.success());
    }
    let file = office.desk.answers.join("answers");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 512);
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o644);
    assert_eq!(office.calls().len(), 4, "one reload for all who ask at once");
}

#[tokio::test]
async fn a_helper_that_is_not_enabled_or_falls_silent_is_told() {
    let office = HelperFixture::new(DELIVERY);
    let failure = office.ask("nginx", TimeSpan::millis(300)).await.await.unwrap().unwrap_err();
    assert_eq!(failure.disposition, Disposition::RETRY, "another reload may have held the helper up");
    assert!(failure.message.contains("systemctl status autocertd-reload.path"), "{failure}");
    assert_eq!(office.requests(), [] as [String; 0], "the request was left behind");

    let request = office.ask("nginx", TimeSpan::millis(500)).await;
    std::fs::remove_file(office.desk.requests.join(&office.requests()[0])).unwrap();
    let failure = request.await.unwrap().unwrap_err();
    assert!(failure.message.contains("journalctl -u autocertd-reload.service"), "{failure}");

    std::fs::remove_dir(&office.desk.requests).unwrap();
    let failure = office.reload("nginx", TimeSpan::seconds(1)).run().await.unwrap_err();
    assert_eq!(failure.disposition, Disposition::Operator);
    assert!(failure.message.contains("docs/systemd.md"), "{failure}");
}

/// Also one that is asked for only while the other hangs.
#[tokio::test]
async fn a_unit_that_hangs_keeps_no_other_waiting() {
    let hanging = DELIVERY.replace("nginx", "hanging");
    let office = HelperFixture::new(&format!("{hanging}{DELIVERY}"));
    let (begun, release) = (office.folder().join("begun"), office.folder().join("release"));
    let hang = format!("touch {}; while [ ! -e {} ]; do sleep 0.05; done", begun.display(), release.display());
    let systemctl = format!("#!/bin/sh\ncase \"$*\" in *hanging*) {hang};; esac\n");
    write_script(&office.folder().join("bin/systemctl"), &systemctl);
    let slow = office.ask("hanging", TimeSpan::seconds(30)).await;
    let first = office.ask("nginx", TimeSpan::seconds(30)).await;
    let mut helper = office.command(&mut Command::new(BINARY)).spawn().unwrap();
    first.await.unwrap().unwrap();
    wait_for_some("the unit that hangs", || begun.exists().then_some(())).await;
    let second = office.ask("nginx", TimeSpan::seconds(30)).await;
    second.await.unwrap().unwrap();
    assert!(!slow.is_finished() && helper.try_wait().unwrap().is_none());
    std::fs::write(release, "").unwrap();
    slow.await.unwrap().unwrap();
    assert!(helper.timed_wait().unwrap().success());
}

#[tokio::test]
async fn nothing_asked_is_nothing_done() {
    let office = HelperFixture::new(DELIVERY);
    let output = office.help();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(office.calls(), [] as [String; 0]);
}

/// A desk, settings of root's, and a script in systemctl's place.
struct HelperFixture {
    folder: TempDir,
    desk: SpoolPaths,
}

impl HelperFixture {
    fn new(settings: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root: the helper obeys files of root's alone");
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let desk = SpoolPaths { requests: at("requests"), answers: at("answers") };
        for path in [&desk.requests, &desk.answers, &at("bin"), &at("conf.d")] {
            std::fs::create_dir(path).unwrap();
        }
        std::fs::write(at("autocertd.toml"), settings).unwrap();
        write_script(&at("bin/systemctl"), &format!("#!/bin/sh\necho \"$@\" >> {}\n", at("calls").display()));
        let office = Self { folder, desk };
        for (name, mode) in
            [("", 0o755), ("answers", 0o755), ("bin", 0o755), ("conf.d", 0o755), ("autocertd.toml", 0o644)]
        {
            office.chmod(name, mode);
        }
        office
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn chmod(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.folder().join(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    fn declare(&self, file: &str, key: &str, mode: u32, owner: u32) {
        let path = self.folder().join("conf.d").join(file);
        std::fs::write(&path, DELIVERY.replace("'nginx'", &format!("'{key}'"))).unwrap();
        self.chmod(&format!("conf.d/{file}"), mode);
        chown(path, Some(owner), None).unwrap();
    }

    fn reload(&self, key: &str, timeout: TimeSpan) -> Reload {
        let mut entry: ReloadEntry = toml::from_str("unit = 'nginx.service'\nhelper = true").unwrap();
        entry.timeout = timeout;
        let randomness = Randomness::from_system().unwrap();
        let around = ReloadContext { systemctl: PathBuf::from("/nowhere"), spool: self.desk.clone(), randomness };
        Reload::new(&entry, &key.parse().unwrap(), &around).unwrap()
    }

    /// Asks as the daemon does; the request lies on the desk when this returns.
    async fn ask(&self, key: &str, timeout: TimeSpan) -> JoinHandle<Result<ReloadReached, Failure>> {
        let before = self.requests().len();
        let reload = self.reload(key, timeout);
        let task = tokio::spawn(async move { reload.run().await });
        wait_for_some("the request", || (self.requests().len() > before).then_some(())).await;
        task
    }

    fn help(&self) -> Output {
        self.run(&mut Command::new(BINARY))
    }

    fn run(&self, command: &mut Command) -> Output {
        self.command(command).timed_output().unwrap()
    }

    fn command<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("--config").arg(self.folder().join("autocertd.toml")).arg("reload-helper");
        command.arg("--requests").arg(&self.desk.requests).arg("--answers").arg(&self.desk.answers);
        let path = format!("{}:{}", self.folder().join("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env_remove("AUTOCERTD_LOG").env_remove("AUTOCERTD_CONFIG")
    }

    fn requests(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.desk.requests).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

const BINARY: &str = env!("CARGO_BIN_EXE_autocertd");
const NOBODY: u32 = 65_534;
