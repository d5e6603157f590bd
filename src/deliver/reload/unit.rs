//! A systemd unit, told by systemctl(1). The daemon uses it where it may, the privileged helper for it where it may not.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::process::Command;

use crate::config::delivery::ReloadEntry;
use crate::config::time_span::TimeSpan;
use crate::deliver::reload::InvalidReload;
use crate::domain::failure::disposition::Failure;
use crate::runtime::program;

/// The full name of a unit, systemd.unit(5); no option, no pattern, no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitName(String);

impl FromStr for UnitName {
    type Err = InvalidReload;

    fn from_str(text: &str) -> Result<Self, InvalidReload> {
        let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let name = text.rsplit_once('.').filter(|(_, kind)| UNIT_TYPES.contains(kind)).map(|(name, _)| name);
        // Without its instance a template is no unit.
        let whole =
            name.is_some_and(|name| !name.is_empty() && !name.starts_with(['-', '.', '@']) && !name.ends_with('@'));
        if whole && text.len() <= MAX_UNIT_NAME && text.chars().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidReload::Unit(text.to_owned()))
        }
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reload or restart of a unit.
#[derive(Clone, Debug)]
pub struct UnitJob {
    unit: UnitName,
    verb: &'static str,
    systemctl: PathBuf,
}

impl UnitJob {
    /// A reload, where the unit can be reloaded, else its restart; or the restart in any case. A unit that does not run is
    /// started, or left alone.
    pub const fn new(unit: UnitName, entry: &ReloadEntry, systemctl: PathBuf) -> Self {
        let verb = match (entry.restart, entry.if_running) {
            (false, false) => "reload-or-restart",
            (false, true) => "try-reload-or-restart",
            (true, false) => "restart",
            (true, true) => "try-restart",
        };
        Self { unit, verb, systemctl }
    }

    /// Has systemd do it and waits for the end of it.
    ///
    /// # Errors
    /// What systemctl said, and what to do.
    pub async fn run(&self, timeout: TimeSpan) -> Result<(), Failure> {
        let mut command = Command::new(&self.systemctl);
        command.args(["--system", "--no-ask-password", "--no-pager", "--quiet", self.verb, "--", &self.unit.0]);
        command.env_clear().env("LC_ALL", "C.UTF-8").current_dir("/");
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        let call = format!("systemctl {} {}", self.verb, self.unit);
        let ended = program::run(command, timeout.duration()).await.map_err(|error| {
            let advice = "a unit can be reloaded only where systemd runs; use signal or url elsewhere";
            Failure::operator(format!("{call} cannot be started: {error}; {advice}"))
        })?;
        match ended.status {
            Some(status) if status.success() && !ended.output.as_str().contains(CHROOT_MESSAGE) => Ok(()),
            Some(status) => {
                let said = ended.words();
                Err(match advice_for(ended.output.as_str()) {
                    Some(advice) => Failure::operator(format!("{call} failed ({status}); {said}; {advice}")),
                    None => Failure::retry(format!("{call} failed ({status}); {said}")),
                })
            }
            None => Err(Failure::retry(format!(
                "{call} had not ended after {timeout}; systemd may still be at it: look with systemctl status {}, or raise \
                 reload.timeout",
                self.unit
            ))),
        }
    }
}

/// What a person can do about what systemctl says, where it is known.
fn advice_for(said: &str) -> Option<&'static str> {
    ADVICE.iter().find(|(words, _)| words.iter().any(|words| said.contains(words))).map(|(_, advice)| *advice)
}

/// The program that speaks to systemd.
pub const SYSTEMCTL: &str = "systemctl";

const UNIT_TYPES: [&str; 5] = ["service", "socket", "target", "timer", "path"];

/// `UNIT_NAME_MAX` of systemd.
const MAX_UNIT_NAME: usize = 255;

/// In a chroot systemctl does nothing and calls that a success.
const CHROOT_MESSAGE: &str = "Running in chroot, ignoring";

const ADVICE: [(&[&str], &str); 4] = [
    (
        &["authentication required", "Access denied", "Permission denied", "Operation not permitted"],
        "only root may do that: set reload.helper = true, see docs/systemd.md",
    ),
    (&["not found", "not loaded", "Invalid unit name"], "is reload.unit the name that systemctl list-units shows?"),
    (&["is masked"], "unmask the unit, or take it out of the delivery"),
    (
        &["not been booted with systemd", "Failed to connect to bus", CHROOT_MESSAGE],
        "systemd does not answer here; use reload.pid_file, reload.process or reload.url instead",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_a_full_and_plain_name() {
        for text in ["nginx.service", "haproxy@edge-1.service", "a\\x2db.socket", "web.target"] {
            assert_eq!(text.parse::<UnitName>().unwrap().to_string(), text);
        }
        let long = format!("{}.service", "x".repeat(MAX_UNIT_NAME));
        for text in [
            "",
            "nginx",
            ".service",
            "--now.service",
            "-x.service",
            "a b.service",
            "a/b.service",
            "*.service",
            "haproxy@.service",
            "@x.service",
            "x.service\n",
            "ä.service",
            "nginx.conf",
            "a;b.service",
            &long,
        ] {
            assert!(text.parse::<UnitName>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn what_systemctl_says_is_explained() {
        let denied = advice_for("Failed to reload nginx.service: Interactive authentication required.").unwrap();
        assert!(denied.contains("reload.helper = true"), "{denied}");
        assert!(advice_for("Failed to restart x.service: Unit x.service not found.").unwrap().contains("reload.unit"));
        assert_eq!(advice_for("Job for nginx.service failed because the control process exited."), None);
    }
}
