//! `[[delivery]]`: where certificates go once they are issued.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::time_span::TimeSpan;
use crate::domain::declared::DeclaredKey;
use crate::domain::delivery::deploy_window::DeployWindow;
use crate::domain::value::pattern::AutoCertificatePattern;

/// One delivery. It says either what happens on this very machine, `files`, `hook`, `reload` and `verify` in this order,
/// or one place that is served once per fleet, `certificate_manager` or `kubernetes`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryEntry {
    /// Names it from one start to the next.
    pub key: DeclaredKey,
    /// Which auto-certificates it is for: keys of declared ones, or DNS names and patterns such as `*.example.com`, of which
    /// one must match each name of the certificate. Default all.
    #[serde(rename = "match", default)]
    pub matching: Vec<AutoCertificatePattern>,
    /// When a renewed certificate may be activated, such as `Mon-Fri 02:00-05:00 Europe/Berlin`. Default at once. A first
    /// certificate never waits, and no other waits until the one in use is about to expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate: Option<DeployWindow>,
    /// Publishes PEM files in a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesEntry>,
    /// Runs a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookEntry>,
    /// Makes a service take up what was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<ReloadEntry>,
    /// Looks whether the certificate is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyEntry>,
    /// Whether the previous version of the files goes back where `verify` fails. Default `false`.
    #[serde(default)]
    pub rollback: bool,
    /// Uploads to another Certificate Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_manager: Option<CertificateManagerEntry>,
    /// Writes a Secret through the Kubernetes API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesEntry>,
}

/// `files`: a folder per certificate, published whole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FilesEntry {
    /// The folder in which each certificate gets its own.
    pub directory: PathBuf,
    /// The owner of what is published, by name or number. Default whoever runs autocertd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The group of what is published, by name or number. Default that of whoever runs autocertd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The mode of certificates; default `0644`.
    #[serde(default = "FilesEntry::usual_mode")]
    pub mode: FileMode,
    /// The mode of files with a private key; default `0600`, or `0640` where a group is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mode: Option<FileMode>,
    /// Whether `combined.pem` is there too: certificate, chain and key in one file, as `HAProxy` reads it. Default `false`.
    #[serde(default)]
    pub combined: bool,
    /// The file that holds the password of a PKCS#12 file, `bundle.p12`; without it there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs12_password_file: Option<PathBuf>,
    /// Whether a self-signed pair is published before the first certificate is there, so that a web server can start.
    /// Default `false`.
    #[serde(default)]
    pub placeholder: bool,
}

impl FilesEntry {
    const fn usual_mode() -> FileMode {
        FileMode(0o644)
    }
}

/// The mode of a file, in octal digits as a text: `"0640"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

/// `hook`: a command that is run after `files`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HookEntry {
    /// The program, by its full path, and its arguments. No shell is between.
    pub command: Vec<String>,
    /// How long it may take before it is killed with all that it started; default `1m`.
    #[serde(default = "HookEntry::usual_timeout")]
    pub timeout: TimeSpan,
}

impl HookEntry {
    const fn usual_timeout() -> TimeSpan {
        TimeSpan::seconds(60)
    }
}

/// `reload`: how a service is told. Exactly one of `unit`, `pid_file`, `process` and `url` is set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadEntry {
    /// A systemd unit, reloaded where it can be, else restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether the unit is restarted instead. Default `false`.
    #[serde(default)]
    pub restart: bool,
    /// Whether the privileged helper unit does it, `autocertd-reload.path`, which obeys settings files of root's alone.
    /// Default `false`.
    #[serde(default)]
    pub helper: bool,
    /// A file that holds the number of a process to signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<PathBuf>,
    /// The name of processes to signal, as the kernel knows it; of several the one that started the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Whether a service that does not run is left alone: it reads the files when it starts. Else a unit is started, and a
    /// process that is not there is a failure. Default `false`.
    #[serde(default)]
    pub if_running: bool,
    /// The signal for `pid_file` and `process`; default `HUP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// An address that is sent an empty `POST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How long it may take; default `30s`.
    #[serde(default = "ReloadEntry::usual_timeout")]
    pub timeout: TimeSpan,
}

impl ReloadEntry {
    const fn usual_timeout() -> TimeSpan {
        TimeSpan::seconds(30)
    }
}

/// `verify`: where the certificate should be served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyEntry {
    /// Host and port, `127.0.0.1:443` or `[::1]:443`.
    pub address: String,
    /// The name that is asked for (SNI). Default the certificate's first name, a label `autocertd-verify` in place of a
    /// wildcard's star.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// How long the service may take until it serves the certificate; default `10s`.
    #[serde(default = "VerifyEntry::usual_timeout")]
    pub timeout: TimeSpan,
}

impl VerifyEntry {
    const fn usual_timeout() -> TimeSpan {
        TimeSpan::seconds(10)
    }
}

/// `certificate_manager`: another Certificate Manager 2.0, IONOS's own for one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateManagerEntry {
    /// The address of its API, such as `https://certificate-manager.de-fra.ionos.com`.
    pub endpoint: String,
    /// The file that holds a token for it.
    pub token_file: PathBuf,
    /// How long a superseded certificate stays before it is removed; default `7d`.
    #[serde(default = "CertificateManagerEntry::usual_grace")]
    pub grace: TimeSpan,
    /// How long one request may take; default `30s`.
    #[serde(default = "usual_request_timeout")]
    pub timeout: TimeSpan,
}

impl CertificateManagerEntry {
    const fn usual_grace() -> TimeSpan {
        TimeSpan::seconds(7 * 86_400)
    }
}

/// `kubernetes`: a Secret of type `kubernetes.io/tls`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesEntry {
    /// The name of the Secret; `{name}` stands for the certificate's label. Default `{name}-tls`.
    #[serde(default = "KubernetesEntry::usual_secret")]
    pub secret: String,
    /// The namespace; default the pod's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The API server; default the pod's own, by `$KUBERNETES_SERVICE_HOST` and `$KUBERNETES_SERVICE_PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The folder of the service account, with `token`, `ca.crt` and `namespace`. Default where Kubernetes mounts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<PathBuf>,
    /// How long one request may take; default `30s`.
    #[serde(default = "usual_request_timeout")]
    pub timeout: TimeSpan,
}

impl KubernetesEntry {
    fn usual_secret() -> String {
        "{name}-tls".to_owned()
    }
}

const fn usual_request_timeout() -> TimeSpan {
    TimeSpan::seconds(30)
}

/// Why a delivery cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDelivery {
    /// It does nothing.
    #[error("it delivers nothing; give it files, hook, reload, verify, certificate_manager or kubernetes")]
    Empty,
    /// It mixes what is done here with what is done once.
    #[error("certificate_manager and kubernetes stand alone; make one [[delivery]] for each")]
    MixedKinds,
    /// `rollback` has nothing to go by.
    #[error("rollback needs files to roll back and verify to tell when")]
    RollbackWithoutFilesOrVerify,
    /// `reload` says nothing or too much.
    #[error(
        "reload needs exactly one of unit, pid_file, process and url; signal goes with pid_file and process, restart and \
         helper with unit, if_running with all but url"
    )]
    ReloadWithoutTarget,
    /// A hook without a program.
    #[error("hook.command needs the full path of a program, and then its arguments")]
    HookWithoutProgram,
    /// A path that depends on where autocertd was started.
    #[error("{0} must be a full path")]
    RelativePath(&'static str),
}

impl DeliveryEntry {
    /// Whether it is carried out once per fleet rather than on every instance.
    pub const fn is_once_per_fleet(&self) -> bool {
        self.certificate_manager.is_some() || self.kubernetes.is_some()
    }

    /// Looks whether the parts fit together.
    ///
    /// # Errors
    /// What does not fit, and what to do.
    pub fn check(&self) -> Result<(), InvalidDelivery> {
        let here = self.files.is_some() || self.hook.is_some() || self.reload.is_some() || self.verify.is_some();
        match (here, self.certificate_manager.is_some(), self.kubernetes.is_some()) {
            (false, false, false) => return Err(InvalidDelivery::Empty),
            (true, false, false) | (false, true, false) | (false, false, true) => {}
            _ => return Err(InvalidDelivery::MixedKinds),
        }
        if self.rollback && (self.files.is_none() || self.verify.is_none()) {
            return Err(InvalidDelivery::RollbackWithoutFilesOrVerify);
        }
        if self.files.as_ref().is_some_and(|files| !files.directory.is_absolute()) {
            return Err(InvalidDelivery::RelativePath("files.directory"));
        }
        if self.hook.as_ref().is_some_and(|hook| !hook.command.first().is_some_and(|program| program.starts_with('/')))
        {
            return Err(InvalidDelivery::HookWithoutProgram);
        }
        if self.reload.as_ref().is_some_and(|reload| !reload.is_consistent()) {
            return Err(InvalidDelivery::ReloadWithoutTarget);
        }
        Ok(())
    }
}

impl ReloadEntry {
    fn is_consistent(&self) -> bool {
        let by_signal = self.pid_file.is_some() || self.process.is_some();
        let ways = [self.unit.is_some(), self.pid_file.is_some(), self.process.is_some(), self.url.is_some()];
        ways.into_iter().filter(|set| *set).count() == 1
            && (self.signal.is_none() || by_signal)
            && (self.unit.is_some() || !(self.restart || self.helper))
            && !(self.if_running && self.url.is_some())
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is no file mode; write octal digits as a text, such as \"0640\""
            ))
        })
    }
}

impl Serialize for FileMode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DeliveryEntry {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let entry = parse("key = 'nginx'\nfiles = { directory = '/certs' }\nverify = { address = '127.0.0.1:443' }");
        assert_eq!(entry.check(), Ok(()));
        let files = entry.files.unwrap();
        assert_eq!((files.mode, files.key_mode, files.placeholder), (FileMode(0o644), None, false));
        assert_eq!(entry.verify.unwrap().timeout, TimeSpan::seconds(10));
    }

    #[test]
    fn parts_that_do_not_fit_together_are_refused() {
        for (text, fault) in [
            ("key = 'x'", InvalidDelivery::Empty),
            ("key = 'x'\nfiles.directory = '/c'\nkubernetes = {}", InvalidDelivery::MixedKinds),
            ("key = 'x'\nhook.command = ['/bin/true']\nrollback = true", InvalidDelivery::RollbackWithoutFilesOrVerify),
            ("key = 'x'\nreload = { unit = 'a.service', url = 'http://b' }", InvalidDelivery::ReloadWithoutTarget),
            ("key = 'x'\nreload = { unit = 'a.service', signal = 'HUP' }", InvalidDelivery::ReloadWithoutTarget),
            ("key = 'x'\nhook.command = ['reload.sh']", InvalidDelivery::HookWithoutProgram),
            ("key = 'x'\nfiles.directory = 'certs'", InvalidDelivery::RelativePath("files.directory")),
        ] {
            assert_eq!(parse(text).check(), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_mode_is_octal_and_a_misspelt_key_is_refused() {
        assert_eq!(
            parse("key = 'x'\nfiles = { directory = '/c', mode = '0640' }").files.unwrap().mode,
            FileMode(0o640)
        );
        for text in
            ["key = 'x'\nfiles = { directory = '/c', mode = '0999' }", "key = 'x'\nhok.command = []", "key = '../x'"]
        {
            assert!(toml::from_str::<DeliveryEntry>(text).is_err(), "{text} was taken");
        }
    }
}
