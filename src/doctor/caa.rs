//! CAA: whether the records let the CA issue to this account by the method at hand (RFC 8659, RFC 8657). They are judged as
//! the CA judges them.

use crate::dns::caa::CaaLookup;
use crate::doctor::challenge_path::describe_error;
use crate::doctor::check_list::{CheckedIssuer, CheckedName};
use crate::doctor::provider::ProviderReport;
use crate::domain::provider::caa::{CaaRecord, CaaRequest, check_issuance};
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use crate::domain::renewal::dns_persist::DnsPersist;

/// What the records say to each provider that is to issue by a method.
pub(super) async fn check_caa(
    lookup: &CaaLookup,
    about: &CheckSubject,
    patient: &CheckedName,
    seen: &[ProviderReport],
    persist: DnsPersist,
) -> Vec<CheckResult> {
    let method = if persist == DnsPersist::Off { DNS_01 } else { DNS_PERSIST_01 };
    let records = match lookup.find_relevant(&patient.name).await {
        Ok(records) => records,
        Err(error) => return vec![CheckResult::fault_from_message(about, Check::Caa, &describe_error(&error))],
    };
    if records.is_empty() {
        return vec![CheckResult::ok(about, Check::Caa, describe_records(&records))];
    }
    if patient.issuers.is_empty() {
        let because = format!("no provider is to issue for it yet; {}", describe_records(&records));
        return vec![CheckResult::skipped(about, Check::Caa, because)];
    }
    let judged = patient.issuers.iter().filter_map(|issuer| {
        let provider = seen.get(issuer.provider)?;
        Some(check_issuer(about, patient, &records, (*issuer, provider), method))
    });
    judged.collect()
}

fn check_issuer(
    about: &CheckSubject,
    patient: &CheckedName,
    records: &[CaaRecord],
    (issuer, provider): (CheckedIssuer, &ProviderReport),
    method: &str,
) -> CheckResult {
    let (name, account) = (&provider.name, provider.account_url.as_deref());
    let identities = provider.caa_identities.as_deref().unwrap_or_default();
    let by = |method| check_issuance(records, &CaaRequest { name: &patient.name, identities, account, method });
    let Err(forbidden) = by(method) else {
        return CheckResult::ok(about, Check::Caa, format!("{name} may issue"));
    };
    if provider.caa_identities.is_none() {
        return CheckResult::skipped(about, Check::Caa, format!("the directory of {name} does not answer"));
    }
    if identities.is_empty() {
        let detail =
            format!("{}; {name} does not tell by which name it knows itself in them", describe_records(records));
        return CheckResult::warning(about, Check::Caa, detail, "look into the CA's own documentation for it");
    }
    let own = account.unwrap_or("not registered yet");
    let detail = format!("{forbidden} ({}; the account at {name} is {own})", describe_records(records));
    let remedy = format!("let {} issue in these records, to this account by {method}", identities.join(" or "));
    let fault = CheckResult::fault(about, Check::Caa, detail, remedy);
    // What stands by is not needed for now, and a CA without standing records is asked for DNS-01.
    if issuer.is_fallback || by(DNS_01).is_ok() { fault.as_warning() } else { fault }
}

fn describe_records(records: &[CaaRecord]) -> String {
    if records.is_empty() {
        return "no records, so that every CA may issue".to_owned();
    }
    let words = records.iter().map(|record| format!("{} {:?}", record.tag, record.value));
    format!("the records say {}", words.collect::<Vec<_>>().join(", "))
}

/// How control of names is proven, as CAA records name it (RFC 8657 section 4).
const DNS_01: &str = "dns-01";
const DNS_PERSIST_01: &str = "dns-persist-01";
