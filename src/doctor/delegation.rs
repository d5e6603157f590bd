//! Delegation: the parent's name servers lead to those on which records are published, and each of these speaks for the
//! zone. A CA follows the parent, whatever the DNS service says of itself.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::config::dns::PropagationCheck;
use crate::dns::DnsError;
use crate::dns::adapter::Zone;
use crate::dns::lookup::{Delegation, DnsLookup};
use crate::dns::question::DnsQuestion;
use crate::dns::routes::RecordLocation;
use crate::dns::server::Server;
use crate::doctor::challenge_path::describe_error;
use crate::doctor::provider::words;
use crate::doctor::{DnsView, Doctor};
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use crate::domain::value::zone_name::relative_name;

impl Doctor {
    pub(super) async fn check_delegation(
        &self,
        view: &DnsView,
        about: &CheckSubject,
        place: &RecordLocation,
    ) -> Vec<CheckResult> {
        let looked = async {
            let begun = view.lookup.find_zone(place.name()).await?;
            if begun != place.zone.name {
                return Ok(vec![zone_mismatch(about, place, &begun)]);
            }
            Ok::<_, DnsError>(self.delegation_of_zone(view, place).await)
        };
        let findings = looked.await.unwrap_or_else(|error| vec![unlooked(about, &error)]);
        let findings = findings.into_iter().map(|finding| finding.about(about)).collect();
        // Who does not rely on the authoritative servers may see other ones than the world does.
        match self.propagation_section.look {
            PropagationCheck::Authoritative => findings,
            PropagationCheck::Resolvers | PropagationCheck::Wait | PropagationCheck::Off => {
                findings.into_iter().map(cap_at_warning).collect()
            }
        }
    }

    /// What holds for all names of a zone, looked at once.
    async fn delegation_of_zone(&self, view: &DnsView, place: &RecordLocation) -> Vec<CheckResult> {
        let zone = &place.zone;
        let about = CheckSubject::Name(zone.name.clone());
        let find = async {
            let delegation = match view.lookup.delegation(&zone.name).await {
                Ok(delegation) => delegation,
                Err(error) => return vec![unlooked(&about, &error)],
            };
            let mut lame = Vec::new();
            // Servers of the settings stand in for those that the world sees.
            if self.propagation_section.servers.is_empty() {
                let servers = delegation.nameservers.iter().take(MOST_SERVERS);
                let looks = servers.map(|server| check_nameserver(&view.lookup, &about, &zone.name, server));
                lame = join_all(looks).await.into_iter().flatten().collect();
            }
            let answers = lame.len() < delegation.nameservers.len();
            let mut findings = vec![compare_nameservers(&about, zone, &delegation, answers)];
            findings.append(&mut lame);
            findings
        };
        // Adapters may each have a zone of this name, with other servers.
        view.delegations.get((place.adapter.name().clone(), zone.id.to_string()), find).await
    }
}

fn unlooked(about: &CheckSubject, error: &DnsError) -> CheckResult {
    CheckResult::fault_from_message(about, Check::Delegation, &describe_error(error)).as_warning()
}

fn cap_at_warning(finding: CheckResult) -> CheckResult {
    if finding.is_fault() { finding.as_warning() } else { finding }
}

/// What cannot be looked at without a zone.
pub(super) fn not_checked_results(about: &CheckSubject, because: &str) -> [CheckResult; 2] {
    [Check::Delegation, Check::Dnssec].map(|check| CheckResult::skipped(about, check, because))
}

/// The DNS has another zone at the record's name than the service.
fn zone_mismatch(about: &CheckSubject, place: &RecordLocation, begun: &str) -> CheckResult {
    let (zone, record) = (&place.zone.name, place.name());
    if relative_name(begun, zone).is_some() {
        let detail = format!("in the DNS {record} belongs to the zone {begun}, not to {zone} where its record goes");
        return CheckResult::fault(
            about,
            Check::Delegation,
            detail,
            format!("publish in {begun}, or remove its delegation"),
        );
    }
    let detail = format!("{zone} is not delegated: in the DNS {record} belongs to {begun}");
    CheckResult::fault(about, Check::Delegation, detail, delegation_remedy(&place.zone, begun))
}

/// `answers` is whether any of the servers to which the parent leads speaks for the zone. Where one does, the servers that
/// only the service names may be hidden primaries, or the same ones by other names.
fn compare_nameservers(about: &CheckSubject, zone: &Zone, delegation: &Delegation, answers: bool) -> CheckResult {
    let (parent, named) = (&delegation.parent, delegation.nameservers.join(", "));
    let fault = |detail: String| CheckResult::fault(about, Check::Delegation, detail, delegation_remedy(zone, parent));
    if delegation.nameservers.is_empty() {
        return fault(format!("the servers of {parent} do not delegate {}", zone.name));
    }
    let own: Vec<String> = zone.nameservers.iter().map(|server| normalized_name(server)).collect();
    let unnamed: Vec<&str> = own
        .iter()
        .map(String::as_str)
        .filter(|server| !delegation.nameservers.iter().any(|name| name == server))
        .collect();
    if !own.is_empty() && unnamed.len() == own.len() && !answers {
        return fault(format!("{parent} delegates {} to {named}, where its records are not published", zone.name));
    }
    if !unnamed.is_empty() {
        let detail = format!("{parent} delegates {} to {named}, and not to {}", zone.name, unnamed.join(", "));
        return CheckResult::warning(about, Check::Delegation, detail, delegation_remedy(zone, parent));
    }
    CheckResult::ok(about, Check::Delegation, format!("{parent} delegates {} to {named}", zone.name))
}

fn delegation_remedy(zone: &Zone, parent: &str) -> String {
    let servers = zone.nameservers.iter().map(|server| normalized_name(server)).collect::<Vec<_>>().join(", ");
    let to = if servers.is_empty() { "its name servers".to_owned() } else { servers };
    format!("have NS records for {} in {parent} that name {to}, at the registrar or in the parent zone", zone.name)
}

/// What is wrong with a server to which the parent leads.
async fn check_nameserver(lookup: &DnsLookup, about: &CheckSubject, zone: &str, server: &str) -> Option<CheckResult> {
    let addresses = match lookup.addresses(server).await {
        Ok(addresses) => addresses,
        Err(error) => {
            let detail = format!("the delegation leads to {server}, which could not be looked up: {}", words(&error));
            return Some(CheckResult::warning(about, Check::Delegation, detail, "check dns.propagation.resolvers"));
        }
    };
    let question = DnsQuestion::to_authority(zone, RecordType::SOA).ok()?;
    let asked = addresses.iter().map(async |ip| {
        let address = SocketAddr::new(*ip, DNS_PORT);
        (address, Server::at(address).ask(&question, PATIENCE).await)
    });
    let answers = join_all(asked).await;
    let refusal = answers.iter().find_map(|(address, answer)| match answer {
        Ok(reply) if reply.code() != ResponseCode::NoError => Some(format!("{address} answers {}", reply.code())),
        Ok(reply) if !reply.is_authoritative() => Some(format!("{address} does not speak for the zone")),
        _ => None,
    });
    let remedy = format!("have {server} serve {zone}, or remove it from the delegation");
    if let Some(refusal) = refusal {
        let detail = format!("the delegation leads to {server}, which is lame: {refusal}");
        return Some(CheckResult::fault(about, Check::Delegation, detail, remedy));
    }
    if addresses.is_empty() {
        let detail = format!("the delegation leads to {server}, which has no address");
        return Some(CheckResult::fault(about, Check::Delegation, detail, remedy));
    }
    // It may be this host that does not reach it.
    let silent = answers.iter().all(|(_, answer)| answer.is_err());
    let detail = format!("the delegation leads to {server}, which gives no answer here");
    let remedy = "check the server, and whether this host may ask name servers; see dns.propagation.look";
    silent.then(|| CheckResult::warning(about, Check::Delegation, detail, remedy))
}

fn normalized_name(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}

const DNS_PORT: u16 = 53;
/// A delegation has 13 at the most, or else is somebody's joke.
const MOST_SERVERS: usize = 20;
/// For one server over one transport.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::renewal::check_result::CheckVerdict;

    fn verdict(own: &[&str], named: &[&str]) -> (CheckVerdict, String) {
        verdict_where(own, named, false)
    }

    fn verdict_where(own: &[&str], named: &[&str], answers: bool) -> (CheckVerdict, String) {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let zone = Zone { id: "1".to_owned().into(), name: "a.example".to_owned(), nameservers: owned(own) };
        let delegation = Delegation { parent: "example".to_owned(), nameservers: owned(named) };
        let finding = compare_nameservers(&CheckSubject::Name("www.a.example".to_owned()), &zone, &delegation, answers);
        (finding.verdict, finding.to_string())
    }

    #[test]
    fn the_parent_and_the_service_must_name_the_same_servers() {
        assert_eq!(verdict(&["NS1.dns.test.", "ns2.dns.test"], &["ns1.dns.test", "ns2.dns.test"]).0, CheckVerdict::Ok);
        assert_eq!(verdict(&[], &["ns1.dns.test"]).0, CheckVerdict::Ok, "the service does not say");
        assert_eq!(verdict(&["ns1.dns.test"], &["ns1.dns.test", "second.test"]).0, CheckVerdict::Ok, "a secondary");
        let (none, words) = verdict(&["ns1.dns.test"], &[]);
        assert!(none == CheckVerdict::Fault && words.contains("do not delegate a.example"), "{words}");
        assert!(words.contains("NS records for a.example in example that name ns1.dns.test"), "{words}");
        let (other, words) = verdict(&["ns1.dns.test"], &["ns.parking.test"]);
        assert!(
            other == CheckVerdict::Fault && words.contains("to ns.parking.test, where its records are not"),
            "{words}"
        );
        let (hidden, words) = verdict_where(&["ns1.dns.test"], &["ns.vanity.test"], true);
        assert!(hidden == CheckVerdict::Warning && words.contains("and not to ns1.dns.test"), "{words}");
        let (some, words) = verdict(&["ns1.dns.test", "ns2.dns.test"], &["ns1.dns.test"]);
        assert!(some == CheckVerdict::Warning && words.contains("and not to ns2.dns.test"), "{words}");
    }
}
