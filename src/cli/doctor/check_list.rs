//! What `doctor` is to look at: what its arguments name, or all that is declared and stored.

use crate::cli::selection::{UnknownNames, load_by_ids};
use crate::doctor::{CheckList, declares};
use crate::domain::declared::DeclaredResources;
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use crate::domain::value::name::DnsName;
use crate::domain::value::text::printable;
use crate::store::Store;

/// What a person asks for.
pub(super) struct CheckRequest<'a> {
    /// Auto-certificates or DNS names; without any it is about all.
    pub(super) names: &'a [String],
    /// What the settings declare, where they can be used.
    pub(super) declared: Option<DeclaredResources>,
}

/// What there is to look at. A store that fails hides nothing of what is declared.
pub(super) async fn build_check_list(
    store: Option<&Store>,
    asked: &CheckRequest<'_>,
    findings: &mut Vec<CheckResult>,
) -> anyhow::Result<CheckList> {
    let mut round = CheckList::default();
    if let Err(error) = add_stored(&mut round, store, asked, findings).await {
        if error.is::<UnknownNames>() {
            return Err(error);
        }
        findings.push(unreadable_store(&error));
    }
    if let Some(declared) = &asked.declared {
        let wanted = (!asked.names.is_empty()).then_some(asked.names);
        if let Err(error) = round.add_declared(store, declared, wanted).await {
            findings.push(unreadable_store(&error.into()));
            round.add_declared(None, declared, wanted).await?;
        }
    }
    Ok(round)
}

async fn add_stored(
    round: &mut CheckList,
    store: Option<&Store>,
    asked: &CheckRequest<'_>,
    findings: &mut Vec<CheckResult>,
) -> anyhow::Result<()> {
    let (mut unknown, mut wanted) = (Vec::new(), Vec::new());
    let matching = match store {
        Some(store) => store.matching_auto_certificates(asked.names).await?,
        None => vec![Vec::new(); asked.names.len()],
    };
    for (name, matching) in asked.names.iter().zip(matching) {
        let is_declared = asked.declared.as_ref().is_some_and(|declared| declares(declared, name));
        match name.parse::<DnsName>() {
            _ if !matching.is_empty() => wanted.extend(matching),
            _ if is_declared => {}
            Ok(name) => round.add_name(name),
            Err(_) => unknown.push(printable(name)),
        }
    }
    if !unknown.is_empty() {
        return Err(UnknownNames(unknown).into());
    }
    let Some(store) = store else { return Ok(()) };
    if !asked.names.is_empty() {
        return add_auto_certificates(round, store, &load_by_ids(store, &wanted).await?, findings).await;
    }
    let mut last = None;
    loop {
        let page = store.auto_certificates_after(last.as_ref(), PAGE_SIZE).await?;
        add_auto_certificates(round, store, &page, findings).await?;
        if page.len() < PAGE_SIZE as usize {
            return Ok(());
        }
        if round.names_count() >= MAX_NAMES {
            let because = format!("of all names only the first {} are checked; name the others", round.names_count());
            findings.push(CheckResult::skipped(&CheckSubject::SetUp, Check::Database, because));
            return Ok(());
        }
        last = page.into_iter().next_back();
    }
}

async fn add_auto_certificates(
    round: &mut CheckList,
    store: &Store,
    subjects: &[AutoCertificate],
    findings: &mut Vec<CheckResult>,
) -> anyhow::Result<()> {
    for subject in subjects {
        if store.ok_unless_damaged(round.add(store, subject).await)?.is_none() {
            let detail = format!("the provider of {} cannot be read; the log says why", subject.name);
            findings.push(CheckResult::fault(
                &CheckSubject::SetUp,
                Check::Database,
                detail,
                "restore it from a backup",
            ));
        }
    }
    Ok(())
}

fn unreadable_store(error: &anyhow::Error) -> CheckResult {
    let remedy = "check the database and the disk";
    CheckResult::fault(
        &CheckSubject::SetUp,
        Check::Database,
        format!("what is stored cannot be read: {error:#}"),
        remedy,
    )
}

const PAGE_SIZE: u32 = 500;
/// More are not checked at once: each takes room, and time that nobody waits.
const MAX_NAMES: usize = 20_000;
