//! The way of a challenge: from its name along the aliases to the adapter and the zone where the record goes.

use std::sync::Arc;

use crate::config::dns::PropagationCheck;
use crate::dns::DnsError;
use crate::dns::adapter::DnsAdapter;
use crate::dns::alias::Aliases;
use crate::dns::routes::RecordLocation;
use crate::doctor::check_list::CheckedName;
use crate::doctor::provider::words;
use crate::doctor::{DnsView, Doctor, Ending};
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use crate::domain::renewal::dns_persist::DnsPersist;

/// Where the way of a name leads.
pub(super) struct ChallengePath {
    /// Who publishes at its end.
    pub(super) adapter: Option<Arc<dyn DnsAdapter>>,
    /// What the adapter's service said for itself, where it did not get as far as the zone.
    pub(super) service_result: Option<CheckResult>,
    /// Where the record goes, or in a few words why that is not known.
    pub(super) location: Result<RecordLocation, String>,
    /// Whether it leads nowhere and need not, for the name is proven by a standing record.
    pub(super) is_unneeded: bool,
    pub(super) results: Vec<CheckResult>,
}

impl ChallengePath {
    fn cut_off(patient: &CheckedName, because: &str) -> Self {
        let about = CheckSubject::Name(patient.name.to_string());
        let findings = [Check::Aliases, Check::Zone].map(|check| CheckResult::skipped(&about, check, because));
        let location = Err(because.to_owned());
        Self { adapter: None, service_result: None, location, is_unneeded: false, results: findings.into() }
    }
}

impl Doctor {
    /// The way of a name; nothing where the round ends before it is found.
    pub(super) async fn find_path(&self, view: &DnsView, patient: &CheckedName, ending: &Ending) -> ChallengePath {
        let Some(way) = ending.during(self.follow_challenge(view, patient)).await else {
            return ChallengePath::cut_off(patient, ending.reason());
        };
        if self.dns_persist == DnsPersist::Off || way.location.is_ok() {
            return way;
        }
        let about = CheckSubject::Name(patient.name.to_string());
        let because = "proven by standing records (experimental), so that the way of DNS-01 is not checked";
        let findings = vec![CheckResult::skipped(&about, Check::Zone, because)];
        ChallengePath { adapter: None, service_result: None, is_unneeded: true, results: findings, ..way }
    }

    async fn follow_challenge(&self, view: &DnsView, patient: &CheckedName) -> ChallengePath {
        let about = CheckSubject::Name(patient.name.to_string());
        let challenge = patient.name.challenge_name();
        let (place, findings) = (Err(String::new()), Vec::new());
        let mut way = ChallengePath {
            adapter: None,
            service_result: None,
            location: place,
            is_unneeded: false,
            results: findings,
        };
        let aliases = match Aliases::resolve(&challenge, &view.lookup, &self.randomness).await {
            Ok(aliases) => {
                way.results.push(aliases_result(&about, &aliases));
                aliases
            }
            Err(error @ DnsError::NoLookup { .. })
                if matches!(self.propagation_section.look, PropagationCheck::Wait | PropagationCheck::Off) =>
            {
                way.results.push(aliases_unknown(&about, &challenge, &error));
                Aliases { chain: vec![challenge], wildcard: None }
            }
            Err(error) => {
                way.results.push(CheckResult::fault_from_message(&about, Check::Aliases, &describe_error(&error)));
                way.location = Err("where the aliases lead is not known".to_owned());
                way.results.push(CheckResult::skipped(&about, Check::Zone, "where the aliases lead is not known"));
                return way;
            }
        };
        let adapter = match self.dns.adapter_for(aliases.end()) {
            Ok(adapter) => Arc::clone(adapter),
            Err(error) => {
                way.results.push(CheckResult::fault_from_message(&about, Check::Zone, &describe_error(&error)));
                way.location = Err("no adapter serves it".to_owned());
                return way;
            }
        };
        match adapter.zone_for(aliases.end()).await {
            Ok(zone) => {
                let detail = format!("{} at {}, for {}", zone.name, adapter.name(), aliases.end());
                way.results.push(CheckResult::ok(&about, Check::Zone, detail));
                way.location = Ok(RecordLocation { adapter: Arc::clone(&adapter), zone, aliases });
            }
            Err(error) if is_service_fault(&error) => {
                let service = CheckSubject::Adapter(adapter.name().to_string());
                way.service_result =
                    Some(CheckResult::fault_from_message(&service, Check::Service, &describe_error(&error)));
                let because = format!("the DNS adapter {} is not working", adapter.name());
                way.results.push(CheckResult::skipped(&about, Check::Zone, because.as_str()));
                way.location = Err(because);
            }
            Err(error) => {
                way.results.push(CheckResult::fault_from_message(&about, Check::Zone, &describe_error(&error)));
                way.location = Err("there is no zone".to_owned());
            }
        }
        way.adapter = Some(adapter);
        way
    }
}

fn aliases_result(about: &CheckSubject, aliases: &Aliases) -> CheckResult {
    let chain = aliases.chain.join(" -> ");
    if let Some(wildcard) = &aliases.wildcard {
        let (end, parent, target) = (aliases.end(), &wildcard.parent, &wildcard.target);
        let detail = format!(
            "the wildcard *.{parent} makes {end} an alias of {target} for as long as no record is there; the challenge's \
             record goes to {end} itself, before which the wildcard gives way"
        );
        let remedy = format!("should it go to {target} instead, make {end} a CNAME of its own");
        return CheckResult::warning(about, Check::Aliases, detail, remedy);
    }
    let detail = if aliases.chain.len() > 1 { chain } else { format!("{chain} is no alias") };
    CheckResult::ok(about, Check::Aliases, detail)
}

/// By the settings nothing is looked for in the DNS, so that the record goes where no alias leads.
fn aliases_unknown(about: &CheckSubject, challenge: &str, error: &DnsError) -> CheckResult {
    let detail = format!("{challenge} is taken as no alias: {}", words(error));
    let remedy =
        "nothing, where it is none; otherwise set dns.propagation.resolvers to ones that can be asked from here";
    CheckResult::warning(about, Check::Aliases, detail, remedy)
}

/// Whether the service itself is at fault, and not what it was asked about.
const fn is_service_fault(error: &DnsError) -> bool {
    matches!(
        error,
        DnsError::NoToken { .. }
            | DnsError::Unauthorized { .. }
            | DnsError::Unreachable { .. }
            | DnsError::Busy { .. }
            | DnsError::Rejected { .. }
            | DnsError::Unreadable { .. }
            | DnsError::NoReply { .. }
    )
}

/// An error of the DNS room with its sources before what to do about it.
pub(super) fn describe_error(error: &DnsError) -> String {
    let whole = words(error);
    let (own, sources) = (error.to_string(), whole.strip_prefix(&error.to_string()).unwrap_or_default().to_owned());
    match own.rsplit_once("; ") {
        Some((what, remedy)) => format!("{what}{sources}; {remedy}"),
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::alias::WildcardAlias;
    use crate::domain::renewal::check_result::CheckVerdict;

    #[test]
    fn a_wildcard_that_hijacks_the_name_is_explained() {
        let wildcard = WildcardAlias { parent: "a.example".to_owned(), target: "shop.example.net".to_owned() };
        let aliases = Aliases { chain: vec!["_acme-challenge.a.example".to_owned()], wildcard: Some(wildcard) };
        let told = aliases_result(&CheckSubject::Name("a.example".to_owned()), &aliases);
        assert_eq!(told.verdict, CheckVerdict::Warning);
        assert!(told.detail.starts_with("the wildcard *.a.example makes _acme-challenge.a.example an alias of shop."));
        assert!(told.remedy.unwrap().contains("make _acme-challenge.a.example a CNAME of its own"));
    }

    #[test]
    fn the_source_of_an_error_stands_before_what_to_do() {
        let source = serde_json::from_str::<u8>("x").unwrap_err();
        let adapter = crate::domain::value::adapter_name::AdapterName::ionos();
        let error = DnsError::Unreadable { adapter, call: "GET /zones".to_owned(), source };
        let expected = "ionos: the answer to GET /zones cannot be read: expected value at line 1 column 1; it is tried again, \
                        check the endpoint if this lasts";
        assert_eq!(describe_error(&error), expected);
    }
}
