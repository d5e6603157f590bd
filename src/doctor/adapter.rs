//! DNS adapters: their credentials are good, and their services answer. What a service says is learnt while the zones of
//! names are looked for.

use std::collections::BTreeMap;

use crate::doctor::Doctor;
use crate::doctor::challenge_path::ChallengePath;
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject, CheckVerdict};
use crate::domain::value::credential::Credential;
use crate::domain::value::moment::Moment;

impl Doctor {
    /// What there is to say of the adapters that these ways lead to, with what was found of each name.
    pub(super) fn check_adapters(&self, ways: &[(ChallengePath, Vec<CheckResult>)]) -> Vec<CheckResult> {
        let mut used = BTreeMap::new();
        for (way, found) in ways {
            let Some(adapter) = &way.adapter else { continue };
            let (_, service) = used.entry(adapter.name().clone()).or_insert((adapter, None));
            let about = CheckSubject::Adapter(adapter.name().to_string());
            let has_written =
                found.iter().any(|finding| finding.check == Check::Canary && finding.verdict == CheckVerdict::Ok);
            let answers = has_written || (adapter.asks_service_for_zones() && way.location.is_ok());
            let here = way
                .service_result
                .clone()
                .or_else(|| answers.then(|| CheckResult::ok(&about, Check::Service, "answers")));
            let told = service.take().filter(CheckResult::is_fault);
            *service = told.or(here);
        }
        let mut findings = Vec::new();
        for (name, (adapter, service)) in used {
            let about = CheckSubject::Adapter(name.to_string());
            findings.extend(adapter.credential().map(|known| check_credential(&about, &known, self.clock.now())));
            let unknown =
                || CheckResult::skipped(&about, Check::Service, "only a canary record shows whether it answers");
            findings.push(service.unwrap_or_else(unknown));
        }
        findings
    }
}

fn check_credential(about: &CheckSubject, known: &Credential, now: Moment) -> CheckResult {
    let parted = known.expiry_warning(now).map(|caution| match caution.rsplit_once("; ") {
        Some((detail, remedy)) => (detail.to_owned(), remedy.to_owned()),
        None => (caution, String::new()),
    });
    match parted {
        None => CheckResult::ok(about, Check::Credential, known.to_string()),
        Some((detail, remedy)) if known.is_expired(now) => CheckResult::fault(about, Check::Credential, detail, remedy),
        Some((detail, remedy)) => CheckResult::warning(about, Check::Credential, detail, remedy),
    }
}
