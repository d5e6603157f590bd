//! `autocertd revoke`: one certificate is revoked, and a new one with a new key takes its place. The wish is stored
//! first, so that the daemon, or the next run, carries it out where the CA does not answer now.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::app::{App, IfStoreMissing, Integrations};
use crate::cli::{CommandOutcome, log, owner, renew_now, runtime};
use crate::config::Config;
use crate::domain::certificate::revocation::{Revocation, RevocationReason};
use crate::domain::certificate::serial_number::SerialNumber;
use crate::domain::certificate::{Certificate, CertificateOrigin};
use crate::domain::value::id::{AutoCertificateId, CertificateId};
use crate::http::control::RenewalTarget;
use crate::store::{RevocationRequestOutcome, Store, StoreError};

#[derive(Debug, Args)]
pub(super) struct RevokeCommand {
    /// The name, common name or id of an auto-certificate, which means its newest certificate, or the one that the CA is
    /// still to revoke; or one certificate exactly, by its serial number (hex, with or without colons) or its own id
    #[arg(value_name = "NAME|SERIAL|CERTIFICATE-ID")]
    certificate: String,

    /// Why; the CA makes it public
    #[arg(long, value_enum, ignore_case = true)]
    reason: ReasonArgument,

    /// Do not ask; needed where there is no terminal to ask at
    #[arg(long)]
    yes: bool,

    /// Do not wait for the new certificate
    #[arg(long)]
    no_wait: bool,

    /// Print the outcome as JSON on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "camelCase")]
enum ReasonArgument {
    /// No other one fits, or nobody is to know
    Unspecified,
    /// Somebody else has the private key, or may have it. Clients are warned soonest, and autocertd never takes this key
    /// again
    KeyCompromise,
    /// The owner of the names has another name by now, or other information in the certificate is no longer true
    AffiliationChanged,
    /// Another certificate takes its place, and nobody else has its key: the usual one
    Superseded,
    /// The names are given up, or are no longer yours
    CessationOfOperation,
}

impl From<ReasonArgument> for RevocationReason {
    fn from(reason: ReasonArgument) -> Self {
        match reason {
            ReasonArgument::Unspecified => Self::Unspecified,
            ReasonArgument::KeyCompromise => Self::KeyCompromise,
            ReasonArgument::AffiliationChanged => Self::AffiliationChanged,
            ReasonArgument::Superseded => Self::Superseded,
            ReasonArgument::CessationOfOperation => Self::CessationOfOperation,
        }
    }
}

pub(super) fn run(config: &Config, arguments: &RevokeCommand) -> anyhow::Result<CommandOutcome> {
    if !arguments.yes && !io::stdin().is_terminal() {
        eprintln!("autocertd: a revocation cannot be undone, and there is no terminal to ask at; give --yes");
        return Ok(CommandOutcome::UsageError);
    }
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let outside = Integrations::from_config(config)?;
        let app = App::open(config, IfStoreMissing::Fail).await?;
        let outcome = revoke(&app, outside, arguments).await;
        app.stop().await;
        match outcome? {
            RevokeOutcome::Refused(words) => {
                eprintln!("autocertd: {words}");
                Ok(CommandOutcome::UsageError)
            }
            RevokeOutcome::Declined => {
                eprintln!("autocertd: nothing was revoked");
                Ok(CommandOutcome::Failed)
            }
            RevokeOutcome::Requested(asked) => asked.finish(config, arguments).await,
        }
    })
}

/// What became of the request.
enum RevokeOutcome {
    /// It cannot be carried out, for this reason.
    Refused(String),
    /// The person thought better of it.
    Declined,
    /// It is stored, and the CA was told or is to be told.
    Requested(Box<RequestedRevocation>),
}

/// A revocation as it stands by now.
struct RequestedRevocation {
    certificate: Certificate,
    revocation: Revocation,
    /// The auto-certificate that needs a new one in its place.
    target: Option<RenewalTarget>,
}

async fn revoke(app: &App, outside: Integrations, arguments: &RevokeCommand) -> anyhow::Result<RevokeOutcome> {
    let certificate = match find_certificate(&app.store, &arguments.certificate).await? {
        Ok(certificate) => certificate,
        Err(words) => return Ok(RevokeOutcome::Refused(words)),
    };
    let CertificateOrigin::Issued { auto_certificate, .. } = certificate.origin else {
        return Ok(RevokeOutcome::Refused(UPLOADED_MESSAGE.to_owned()));
    };
    if !arguments.yes && !confirm(&certificate, arguments.reason.into())? {
        return Ok(RevokeOutcome::Declined);
    }
    let target = find_renewal_target(&app.store, auto_certificate, certificate.id).await?;
    let revocation = match app.store.request_revocation(certificate.id, arguments.reason.into()).await? {
        RevocationRequestOutcome::Stored(claim) => app.scheduler(outside).revoke(&claim).await?,
        RevocationRequestOutcome::AlreadyRevoked(revocation) => revocation,
        RevocationRequestOutcome::NotIssuedHere => return Ok(RevokeOutcome::Refused(UPLOADED_MESSAGE.to_owned())),
        RevocationRequestOutcome::Missing => {
            return Ok(RevokeOutcome::Refused("the certificate was deleted meanwhile".to_owned()));
        }
    };
    Ok(RevokeOutcome::Requested(Box::new(RequestedRevocation { certificate, revocation, target })))
}

/// The certificate that is meant, or why it cannot be told.
async fn find_certificate(store: &Store, text: &str) -> anyhow::Result<Result<Certificate, String>> {
    if let Ok(id) = text.parse::<CertificateId>()
        && let Some(certificate) = store.certificate(id).await?
    {
        return Ok(Ok(certificate));
    }
    let ids = match store.matching_auto_certificates(&[text]).await?.concat().as_slice() {
        [] => match text.parse::<SerialNumber>() {
            Ok(serial) => store.certificates_with_serial(&serial).await?,
            Err(_) => Vec::new(),
        },
        [id] => match store.auto_certificate(*id).await?.and_then(|found| found.standing.newest) {
            Some(newest) => vec![find_unfinished_revocation(store, *id, newest.id).await?.unwrap_or(newest.id)],
            None => return Ok(Err(format!("{text} has no certificate yet; there is nothing to revoke"))),
        },
        several => {
            let ids: Vec<String> = several.iter().map(ToString::to_string).collect();
            return Ok(Err(format!("{text} names several auto-certificates; give the id of one: {}", ids.join(", "))));
        }
    };
    let mut found = Vec::new();
    for id in ids {
        found.extend(store.certificate(id).await?);
    }
    // A copy of it may have been uploaded as well.
    if found.iter().any(|certificate| certificate.origin != CertificateOrigin::Uploaded) {
        found.retain(|certificate| certificate.origin != CertificateOrigin::Uploaded);
    }
    let ids: Vec<String> = found.iter().map(|certificate| certificate.id.to_string()).collect();
    Ok(match (found.pop(), ids.len()) {
        (Some(certificate), 1) => Ok(certificate),
        (Some(_), _) => {
            Err(format!("several certificates have the serial number; give the id of one: {}", ids.join(", ")))
        }
        (None, _) => Err(format!("no auto-certificate or certificate has the name, serial number or id {text:?}")),
    })
}

/// An older certificate than the `newest` whose revocation has not come to its end: that one was meant, not what took its
/// place meanwhile.
async fn find_unfinished_revocation(
    store: &Store,
    of: AutoCertificateId,
    newest: CertificateId,
) -> Result<Option<CertificateId>, StoreError> {
    let begun = store.certificate_to_revoke(of).await?.filter(|begun| *begun != newest);
    if begun.is_some() {
        eprintln!(
            "autocertd: the revocation that was begun before is carried on; the newest certificate stays as it is, and \
             is revoked by its own id, {newest}"
        );
    }
    Ok(begun)
}

/// How the auto-certificate stands before the revocation makes it due; nothing where it needs no new certificate, having
/// a newer one or being deleted.
async fn find_renewal_target(
    store: &Store,
    id: AutoCertificateId,
    revoked: CertificateId,
) -> anyhow::Result<Option<RenewalTarget>> {
    let progress = store.progress(&[id]).await?.pop().filter(|progress| !progress.deleted);
    Ok(progress.map(RenewalTarget::from).filter(|target| target.newest == Some(revoked)))
}

fn confirm(certificate: &Certificate, reason: RevocationReason) -> io::Result<bool> {
    let (name, leaf) = (&certificate.common_name, &certificate.leaf);
    let (serial, not_after) = (&leaf.serial_number, leaf.not_after);
    eprint!("revoke {name} ({serial}, valid until {not_after}) for {reason}? It cannot be undone [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

impl RequestedRevocation {
    /// Tells how it went, once the new certificate is there where that is waited for.
    async fn finish(self, config: &Config, arguments: &RevokeCommand) -> anyhow::Result<CommandOutcome> {
        if !arguments.json {
            self.print();
        }
        let revoked = if self.revocation.done_at.is_some() { CommandOutcome::Success } else { CommandOutcome::Failed };
        let target = self.target.clone().filter(|_| !arguments.no_wait);
        let Some(target) = target else {
            // What is due is not waited for, but begun.
            renew_now::notify_daemon(config).await?;
            if arguments.json {
                crate::cli::output::print_json(&json!({ "revocation": self.to_json() }))?;
            }
            return Ok(revoked);
        };
        let report = renew_now::follow_due(config, target, arguments.json).await?;
        if arguments.json {
            let mut summary = report.to_json();
            summary["revocation"] = self.to_json();
            crate::cli::output::print_json(&summary)?;
        }
        Ok(if revoked == CommandOutcome::Success && report.renewed_count() == 1 {
            report.command_outcome()
        } else {
            CommandOutcome::Failed
        })
    }

    fn print(&self) {
        let (name, serial) = (&self.certificate.common_name, &self.certificate.leaf.serial_number);
        match &self.revocation {
            Revocation { done_at: Some(_), .. } => println!("{name}: {serial} is {}", self.revocation),
            Revocation { failure_streak: Some(trouble), .. } => {
                println!("{name}: {serial} is not revoked yet, and is tried again: {trouble}");
            }
            Revocation { .. } => println!("{name}: {serial} is not revoked yet"),
        }
    }

    fn to_json(&self) -> Value {
        let Revocation { reason, done_at: done, failure_streak: trouble, .. } = &self.revocation;
        json!({
            "certificate": self.certificate.id,
            "commonName": self.certificate.common_name,
            "serialNumber": self.certificate.leaf.serial_number,
            "reason": reason.as_str(),
            "revokedAt": done.map(|done| done.to_string()),
            "message": trouble.as_ref().map(|trouble| &trouble.last.message),
            "nextTry": trouble.as_ref().map(|trouble| trouble.next_try.to_string()),
        })
    }
}

const UPLOADED_MESSAGE: &str = "\
    the certificate was uploaded, not issued here, so that no account of autocertd can have it revoked; \
    revoke it where it was ordered, or with its private key by another ACME client (RFC 8555 section 7.6)";
