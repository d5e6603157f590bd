//! What a check of the way to a certificate found: about whom, whether all is as it should be there, and what to do
//! where it is not.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::value::text::RemoteMessage;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct CheckResult {
    /// About whom.
    pub about: CheckSubject,
    /// What was looked at.
    pub check: Check,
    /// Whether it is as it should be.
    pub verdict: CheckVerdict,
    /// What was seen.
    pub detail: RemoteMessage,
    /// What a person can do about it.
    pub remedy: Option<RemoteMessage>,
}

/// About whom something was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
pub enum CheckSubject {
    /// autocertd's own settings, files and host.
    SetUp,
    /// A provider, by its name.
    Provider(String),
    /// A DNS adapter, by its name.
    Adapter(String),
    /// A name that is to be certified.
    Name(String),
}

/// What is looked at, link by link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Whether the settings can be used.
    Settings,
    /// Whether the state directory is there and can be written.
    StateDirectory,
    /// Whether files with secrets are for their owner's eyes only.
    Secrets,
    /// Whether there is room on the disk.
    DiskSpace,
    /// Whether the database can be opened.
    Database,
    /// Whether the clock goes right.
    Clock,
    /// Whether the CA's directory answers.
    Directory,
    /// Whether the CA knows the account.
    Account,
    /// Whether the CA offers the profiles that are to be ordered.
    Profile,
    /// How long the credential of a DNS service is good.
    Credential,
    /// Whether the DNS service answers.
    Service,
    /// Where the aliases of the challenge's name lead.
    Aliases,
    /// Whether there is a zone for the challenge's record.
    Zone,
    /// Whether the parent's servers lead to those of the zone.
    Delegation,
    /// Whether CAA records let the CA issue.
    Caa,
    /// Whether resolvers that validate can see the zone.
    Dnssec,
    /// Whether a record can be made, is seen and goes again.
    Canary,
}

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    /// It is, or there is nothing to say against it.
    Ok,
    /// The check was not made.
    Skipped,
    /// It works for now.
    Warning,
    /// A certificate would not be obtained.
    Fault,
}

impl CheckResult {
    /// All is well.
    pub fn ok(about: &CheckSubject, check: Check, detail: impl Into<RemoteMessage>) -> Self {
        Self { about: about.clone(), check, verdict: CheckVerdict::Ok, detail: detail.into(), remedy: None }
    }

    /// Something to know of.
    pub fn warning(
        about: &CheckSubject,
        check: Check,
        detail: impl Into<RemoteMessage>,
        remedy: impl Into<RemoteMessage>,
    ) -> Self {
        let remedy = Some(remedy.into());
        Self { about: about.clone(), check, verdict: CheckVerdict::Warning, detail: detail.into(), remedy }
    }

    /// Something to mend.
    pub fn fault(
        about: &CheckSubject,
        check: Check,
        detail: impl Into<RemoteMessage>,
        remedy: impl Into<RemoteMessage>,
    ) -> Self {
        Self { verdict: CheckVerdict::Fault, ..Self::warning(about, check, detail, remedy) }
    }

    /// Something to mend, out of a message that says after its last semicolon what to do.
    pub fn fault_from_message(about: &CheckSubject, check: Check, words: &str) -> Self {
        let (detail, remedy) = words.rsplit_once("; ").map_or((words, None), |(detail, rest)| (detail, Some(rest)));
        // A check is not tried again by itself.
        let remedy = remedy.map(|remedy| {
            let left = remedy.strip_prefix("it is tried again").unwrap_or(remedy);
            left.strip_prefix(" later").unwrap_or(left).trim_start_matches(", ").trim_end_matches(" if this lasts")
        });
        let remedy = remedy.filter(|remedy| !remedy.is_empty()).unwrap_or(DEFAULT_REMEDY).to_owned();
        Self::fault(about, check, detail, remedy)
    }

    /// A check that was not made, for this reason.
    pub fn skipped(about: &CheckSubject, check: Check, because: impl Into<RemoteMessage>) -> Self {
        Self { verdict: CheckVerdict::Skipped, ..Self::ok(about, check, because) }
    }

    /// The same about somebody else, for whom it holds as well.
    #[must_use]
    pub fn about(self, about: &CheckSubject) -> Self {
        Self { about: about.clone(), ..self }
    }

    /// The same as something to know of, that keeps no certificate from being obtained.
    #[must_use]
    pub fn as_warning(self) -> Self {
        Self { verdict: CheckVerdict::Warning, ..self }
    }

    /// Whether it is a warning or a fault.
    pub fn is_problem(&self) -> bool {
        matches!(self.verdict, CheckVerdict::Warning | CheckVerdict::Fault)
    }

    /// Whether this keeps a certificate from being obtained.
    pub fn is_fault(&self) -> bool {
        self.verdict == CheckVerdict::Fault
    }
}

/// In one sentence, with what to do.
impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.about {
            CheckSubject::SetUp => {}
            CheckSubject::Provider(name) | CheckSubject::Adapter(name) | CheckSubject::Name(name) => {
                write!(f, "{name}: ")?;
            }
        }
        f.write_str(&self.detail)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl fmt::Display for CheckSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetUp => f.write_str("Set-up"),
            Self::Provider(name) => write!(f, "Provider {name}"),
            Self::Adapter(name) => write!(f, "DNS adapter {name}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Check {
    /// What is looked at, in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::StateDirectory => "state directory",
            Self::Secrets => "secret files",
            Self::DiskSpace => "disk space",
            Self::Database => "database",
            Self::Clock => "clock",
            Self::Directory => "ACME directory",
            Self::Account => "ACME account",
            Self::Profile => "profile",
            Self::Credential => "credential",
            Self::Service => "DNS service",
            Self::Aliases => "aliases",
            Self::Zone => "zone",
            Self::Delegation => "delegation",
            Self::Caa => "CAA",
            Self::Dnssec => "DNSSEC",
            Self::Canary => "canary record",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl CheckVerdict {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

const DEFAULT_REMEDY: &str = "look again in some minutes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_parted_into_what_happened_and_what_to_do() {
        let parted = |words: &str| {
            let fault = CheckResult::fault_from_message(&CheckSubject::SetUp, Check::Zone, words);
            (fault.detail, fault.remedy.unwrap())
        };
        let both = |detail: &str, remedy: &str| (detail.into(), remedy.into());
        assert_eq!(parted("no token (a; b); give one"), both("no token (a; b)", "give one"));
        assert_eq!(parted("it is slow; it is tried again"), both("it is slow", DEFAULT_REMEDY));
        assert_eq!(
            parted("no answer; it is tried again, check the network if this lasts"),
            both("no answer", "check the network")
        );
        assert_eq!(parted("broken"), both("broken", DEFAULT_REMEDY));
    }

    #[test]
    fn a_finding_reads_as_a_sentence_and_as_json() {
        let about = CheckSubject::Name("www.example.com".to_owned());
        let fault = CheckResult::fault(&about, Check::Caa, "CAA forbids it", "change the record");
        assert_eq!(fault.to_string(), "www.example.com: CAA forbids it; change the record");
        let json = serde_json::json!({
            "about": {"kind": "name", "name": "www.example.com"}, "check": "caa", "verdict": "fault",
            "detail": "CAA forbids it", "remedy": "change the record",
        });
        assert_eq!(serde_json::to_value(&fault).unwrap(), json);
        assert_eq!(serde_json::from_value::<CheckResult>(json).unwrap(), fault);
        let set_up = CheckResult::ok(&CheckSubject::SetUp, Check::Clock, "right");
        assert_eq!(serde_json::to_value(&set_up).unwrap()["about"], serde_json::json!({"kind": "set-up"}));
    }
}
