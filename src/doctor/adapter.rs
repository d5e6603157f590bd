//! DNS adapters: their credentials are good, and their services answer. What a service says is learnt while the zones of
//! names are looked for.

use std::collections::BTreeMap;

use crate::doctor::Doctor;
use crate::doctor::way::Way;
use crate::domain::credential::Credential;
use crate::domain::finding::{Check, Finding, Subject};
use crate::domain::moment::Moment;

impl Doctor {
    /// What there is to say of the adapters that these ways lead to.
    pub(super) fn adapters(&self, ways: &[Way]) -> Vec<Finding> {
        let mut used = BTreeMap::new();
        for way in ways {
            let Some(adapter) = &way.adapter else { continue };
            let (_, service) = used.entry(adapter.name().clone()).or_insert((adapter, None));
            *service = service.take().or_else(|| way.service.clone());
        }
        let mut findings = Vec::new();
        for (name, (adapter, service)) in used {
            let about = Subject::Adapter(name.to_string());
            findings.extend(adapter.credential().map(|known| credential(&about, &known, self.clock.now())));
            findings.push(service.unwrap_or_else(|| Finding::ok(&about, Check::Service, "answers")));
        }
        findings
    }
}

fn credential(about: &Subject, known: &Credential, now: Moment) -> Finding {
    let parted = known.caution(now).map(|caution| match caution.rsplit_once("; ") {
        Some((detail, remedy)) => (detail.to_owned(), remedy.to_owned()),
        None => (caution, String::new()),
    });
    match parted {
        None => Finding::ok(about, Check::Credential, known.to_string()),
        Some((detail, remedy)) if known.is_over(now) => Finding::fault(about, Check::Credential, detail, remedy),
        Some((detail, remedy)) => Finding::warning(about, Check::Credential, detail, remedy),
    }
}
