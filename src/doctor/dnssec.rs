//! DNSSEC: a zone whose signatures are wrong is not there for CAs, all of which validate.

use crate::dns::lookup::{Lookup, Security};
use crate::doctor::DnsView;
use crate::doctor::way::told;
use crate::domain::finding::{Check, CheckResult, CheckSubject};

/// What a resolver that validates would see of `zone`, looked at once for all its names.
pub(super) async fn dnssec(view: &DnsView, about: &CheckSubject, zone: &str) -> CheckResult {
    view.securities.get(zone.to_owned(), look(&view.lookup, about, zone)).await.about(about)
}

async fn look(lookup: &Lookup, about: &CheckSubject, zone: &str) -> CheckResult {
    match lookup.security(zone).await {
        Ok(Security::Validated) => CheckResult::ok(about, Check::Dnssec, format!("{zone} is signed and valid")),
        Ok(Security::Unvalidated) => {
            let because = format!("{zone} is not signed, or the resolver does not validate");
            CheckResult::skipped(about, Check::Dnssec, because)
        }
        Ok(Security::Bogus) => {
            let detail = format!("{zone} is bogus: resolvers that validate answer SERVFAIL, and so will CAs");
            let remedy = "correct or remove the DS record at the parent, or sign the zone again";
            CheckResult::fault(about, Check::Dnssec, detail, remedy)
        }
        Err(error) => CheckResult::fault_of_words(about, Check::Dnssec, &told(&error)).as_warning(),
    }
}
