//! `exec`: a program of the user's publishes and removes the records. It is called as lego or dehydrated call theirs, so
//! that what was written for them serves here. Such programs have never met themselves: one call runs at a time.

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::config::time_span::TimeSpan;
use crate::dns::adapter::{DnsAdapter, RecordId, TxtRecord, Zone, ZoneId};
use crate::dns::adapters::AdapterContext;
use crate::dns::error::DnsError;
use crate::dns::zone_finder::ZoneFinder;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::zone_name::ZoneName;
use crate::runtime::program;

/// `[dns.adapter.NAME]` of the type `exec`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    /// The program, by its full path, and its first arguments. No shell is between.
    command: Vec<String>,
    /// Which arguments follow. Default `lego`.
    #[serde(default)]
    style: Style,
    /// How long a call may take before it is killed with all that it started. Default `2m`.
    #[serde(default = "usual_timeout")]
    timeout: TimeSpan,
    /// The zone of all names. Default what the DNS says.
    zone: Option<ZoneName>,
}

/// Whose conventions the arguments follow.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Style {
    /// `present|cleanup _acme-challenge.www.example.com. VALUE`
    #[default]
    Lego,
    /// `deploy_challenge|clean_challenge www.example.com "" VALUE`
    Dehydrated,
}

/// Makes the adapter of these settings.
///
/// # Errors
/// [`DnsError::Setting`] where one of them cannot be used.
pub fn make(given: AdapterContext) -> Result<Arc<dyn DnsAdapter>, DnsError> {
    let section: Section = given.settings()?;
    let Some((program, arguments)) = section.command.split_first().filter(|(program, _)| program.starts_with('/'))
    else {
        return Err(
            given.setting_error("command", "name a program by its full path, such as /usr/local/bin/dns".to_owned())
        );
    };
    Ok(Arc::new(Exec {
        program: program.clone(),
        arguments: arguments.to_vec(),
        style: section.style,
        timeout: section.timeout,
        zones: given.zone_finder(section.zone),
        running: Mutex::default(),
        name: given.name,
    }))
}

struct Exec {
    name: AdapterName,
    program: String,
    arguments: Vec<String>,
    style: Style,
    timeout: TimeSpan,
    zones: ZoneFinder,
    /// Held by the call that runs.
    running: Mutex<()>,
}

#[async_trait]
impl DnsAdapter for Exec {
    fn name(&self) -> &AdapterName {
        &self.name
    }

    async fn zone_for(&self, name: &str) -> Result<Zone, DnsError> {
        self.zones.of(name).await
    }

    async fn present(&self, zone: &ZoneId, record: &TxtRecord) -> Result<RecordId, DnsError> {
        self.run_program("present", zone, record).await?;
        // The program tells no id: what removes the record are its name and its content.
        Ok(record.name.clone().into())
    }

    async fn remove(&self, zone: &ZoneId, _id: Option<&RecordId>, record: &TxtRecord) -> Result<(), DnsError> {
        self.run_program("cleanup", zone, record).await
    }

    // Hooks are written for one call before and one after.
    fn is_repeatable(&self) -> bool {
        false
    }

    // Others may have their turn before.
    fn removal_timeout(&self) -> Duration {
        self.timeout.duration() * 3
    }
}

impl Exec {
    /// Runs the program to its end; exit code 0 is success.
    async fn run_program(&self, action: &'static str, zone: &ZoneId, record: &TxtRecord) -> Result<(), DnsError> {
        let mut command = program::isolated_command(&self.program);
        command.args(&self.arguments).args(self.style_arguments(action, record)?);
        command.env("AUTOCERTD_ACTION", action).env("AUTOCERTD_ZONE", zone.as_str());
        command.env("AUTOCERTD_NAME", &record.name).env("AUTOCERTD_VALUE", &record.content);

        let turn = self.running.lock().await;
        let ended = program::run(command, self.timeout.duration()).await;
        drop(turn);

        let ended = ended.map_err(|error| self.start_error(action, error))?;
        let how = match ended.status {
            Some(status) if status.success() => return Ok(()),
            Some(status) => format!("failed ({status})"),
            None => format!("had not ended after {} and was killed with all that it started", self.timeout),
        };
        Err(self.failed_error(action, format!("{how}; {}", ended.words())))
    }

    fn style_arguments(&self, action: &str, record: &TxtRecord) -> Result<Vec<String>, DnsError> {
        let TxtRecord { name, content } = record;
        match self.style {
            Style::Lego => Ok(vec![action.to_owned(), format!("{name}."), content.clone()]),
            Style::Dehydrated => {
                let action = if action == "present" { "deploy_challenge" } else { "clean_challenge" };
                let domain = name.strip_prefix("_acme-challenge.").ok_or_else(|| self.style_error(name))?;
                // The empty one is the file of HTTP-01, which DNS-01 has no use for.
                Ok([action, domain, "", content].map(str::to_owned).into())
            }
        }
    }

    /// Programs of this style put `_acme-challenge.` before the name by themselves.
    fn style_error(&self, name: &str) -> DnsError {
        DnsError::Setting {
            setting: format!("{}.style", self.name.section()),
            reason: format!("{name} does not begin with _acme-challenge; point the CNAME at a name that does"),
        }
    }

    fn start_error(&self, action: &'static str, source: Error) -> DnsError {
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => {
                DnsError::NoProgram { adapter: self.name.clone(), program: self.program.clone(), source }
            }
            // Passing: no memory, too many processes, the file is being written.
            _ => self.failed_error(action, format!("cannot be started ({source})")),
        }
    }

    fn failed_error(&self, action: &'static str, ended: String) -> DnsError {
        DnsError::ProgramFailed { adapter: self.name.clone(), program: self.program.clone(), action, ended }
    }
}

const fn usual_timeout() -> TimeSpan {
    TimeSpan::seconds(120)
}
