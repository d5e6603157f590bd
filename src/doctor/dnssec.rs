//! DNSSEC: a zone whose signatures are wrong is not there for CAs, all of which validate.

use crate::dns::lookup::{DnsLookup, DnssecStatus};
use crate::doctor::DnsView;
use crate::doctor::challenge_path::describe_error;
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};

/// What a resolver that validates would see of `zone`, looked at once for all its names.
pub(super) async fn check_dnssec(view: &DnsView, about: &CheckSubject, zone: &str) -> CheckResult {
    view.securities.get(zone.to_owned(), look(&view.lookup, about, zone)).await.about(about)
}

async fn look(lookup: &DnsLookup, about: &CheckSubject, zone: &str) -> CheckResult {
    match lookup.dnssec_status(zone).await {
        Ok(DnssecStatus::Validated) => CheckResult::ok(about, Check::Dnssec, format!("{zone} is signed and valid")),
        Ok(DnssecStatus::Unvalidated) => {
            let because = format!("{zone} is not signed, or the resolver does not validate");
            CheckResult::skipped(about, Check::Dnssec, because)
        }
        Ok(DnssecStatus::Bogus) => {
            let detail = format!("{zone} is bogus: resolvers that validate answer SERVFAIL, and so will CAs");
            let remedy = "correct or remove the DS record at the parent, or sign the zone again";
            CheckResult::fault(about, Check::Dnssec, detail, remedy)
        }
        Err(error) => CheckResult::fault_from_message(about, Check::Dnssec, &describe_error(&error)).as_warning(),
    }
}
