//! `hook`: a command that is run after a delivery. It sees a clean environment, which tells what was delivered and holds
//! no secret; what it needs beyond that it reads from the delivered files.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use crate::config::delivery::{HookEntry, InvalidDelivery};
use crate::config::time_span::TimeSpan;
use crate::deliver::payload::DeliveryPayload;
use crate::domain::certificate::fingerprint::Fingerprint;
use crate::domain::declared::DeclaredKey;
use crate::domain::failure::disposition::Failure;
use crate::runtime::program;

/// A command with its bounds.
#[derive(Clone, Debug)]
pub struct Hook {
    program: String,
    arguments: Vec<String>,
    timeout: TimeSpan,
}

impl Hook {
    /// The hook that the settings name.
    ///
    /// # Errors
    /// Where they name no program.
    pub fn new(entry: &HookEntry) -> Result<Self, InvalidDelivery> {
        let (program, arguments) = entry.command.split_first().ok_or(InvalidDelivery::HookWithoutProgram)?;
        Ok(Self { program: program.clone(), arguments: arguments.to_vec(), timeout: entry.timeout })
    }

    /// Runs it to its end. Dropped before that, it is killed with all that it started.
    ///
    /// # Errors
    /// Where it cannot be started, fails, or takes longer than it may; the message holds its last lines.
    pub async fn run(&self, environment: HookEnvironment) -> Result<(), Failure> {
        let mut command = program::isolated_command(&self.program);
        command.args(&self.arguments).envs(environment.0);
        let ended = program::run(command, self.timeout.duration()).await.map_err(|error| self.start_failure(&error))?;
        let Self { program, timeout, .. } = self;
        match ended.status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::retry(format!("the hook {program} failed ({status}); {}", ended.words()))),
            None => Err(Failure::retry(format!(
                "the hook {program} had not ended after {timeout} and was killed with all that it started; mend it, or \
                 raise hook.timeout; {}",
                ended.words()
            ))),
        }
    }

    fn start_failure(&self, error: &std::io::Error) -> Failure {
        let advice = match error.kind() {
            ErrorKind::NotFound => "; install it, and look whether its first line names a program that is there",
            ErrorKind::PermissionDenied => "; make it executable for the user that runs autocertd",
            // Passing: no memory, too many processes, the file is being written.
            _ => return Failure::retry(format!("the hook {} cannot be started: {error}", self.program)),
        };
        Failure::operator(format!("the hook {} cannot be started: {error}{advice}", self.program))
    }
}

/// What happened to the certificate of which a hook is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookEvent {
    /// It was delivered.
    Deployed,
    /// It was taken back, and the previous version of the files is live again.
    RolledBack,
}

impl HookEvent {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// What the environment tells a hook; of autocertd's own it sees `PATH`, `HOME` and `LANG`.
#[derive(Clone, Debug)]
pub struct HookEnvironment(Vec<(&'static str, OsString)>);

impl HookEnvironment {
    /// What a hook learns about a delivery; `directory` is the folder in which the files are, where there are any.
    ///
    /// # Errors
    /// Where the parcel holds no certificate.
    pub fn from_payload(
        event: HookEvent,
        delivery: &DeclaredKey,
        parcel: &DeliveryPayload,
        directory: Option<&Path>,
    ) -> Result<Self, Failure> {
        let fingerprint = Fingerprint::from_pem(&parcel.leaf_pem)
            .map_err(|error| Failure::retry(format!("the certificate to deliver cannot be read: {error}")))?;
        let addressee = &parcel.recipient;
        let names: Vec<String> = addressee.names.iter().map(ToString::to_string).collect();
        let text = OsString::from;
        Ok(Self(vec![
            ("AUTOCERTD_EVENT", text(event.as_str().to_owned())),
            ("AUTOCERTD_DELIVERY", text(delivery.to_string())),
            ("AUTOCERTD_NAME", text(addressee.name.to_string())),
            ("AUTOCERTD_KEY", text(addressee.key.as_ref().map(ToString::to_string).unwrap_or_default())),
            ("AUTOCERTD_COMMON_NAME", text(names.first().cloned().unwrap_or_default())),
            ("AUTOCERTD_NAMES", text(names.join(" "))),
            ("AUTOCERTD_DIRECTORY", directory.map(|path| path.as_os_str().to_owned()).unwrap_or_default()),
            ("AUTOCERTD_CERTIFICATE_ID", text(parcel.certificate.to_string())),
            ("AUTOCERTD_SERIAL_NUMBER", text(parcel.leaf.serial_number.clone())),
            ("AUTOCERTD_NOT_AFTER", text(parcel.leaf.not_after.to_string())),
            ("AUTOCERTD_FINGERPRINT", text(fingerprint.to_string())),
        ]))
    }
}
