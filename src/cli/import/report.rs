//! What an import will do, and what it did: a table, lines and words for people, or one JSON object.

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::text::{RemoteMessage, printable};
use crate::import::{Leftover, Lineage, PlannedImport, SourceTool, TreeAccount};
use crate::store::{TakeoverOutcome, TakeoverProvider};

/// What becomes of a lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum LineageOutcome {
    /// It is taken over.
    TakenOver,
    /// It was there, and gets the newer certificate.
    Updated,
    /// It was there with this certificate or a newer one.
    Present,
    /// It cannot be taken.
    Refused,
}

/// Where the account comes from with which a lineage is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum AccountSource {
    /// From the tree.
    CarriedOver,
    /// It is registered anew.
    New,
    /// From a provider that was there.
    OfProvider,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LineageEntry {
    name: String,
    outcome: LineageOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(flatten)]
    facts: Option<LineageDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_certificate: Option<AutoCertificateId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<ProviderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountSource>,
    notes: Vec<String>,
    /// What the tree says of the account, for the words about it.
    #[serde(skip)]
    account_in_tree: TreeAccount,
}

/// What a lineage says, where it can be read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LineageDetails {
    common_name: String,
    subject_alternative_names: Vec<String>,
    key_algorithm: &'static str,
    not_after: String,
    serial_number: String,
    server: String,
    email: Option<String>,
}

/// Tells what becomes of the lineages.
pub(super) struct ImportReport {
    tool: SourceTool,
    entries: Vec<LineageEntry>,
    leftovers: Vec<Leftover>,
    limit: u32,
}

/// What the plan leaves out, in lines for people: as many as can be read.
pub(super) fn describe_leftovers(leftovers: &[Leftover]) -> impl Iterator<Item = String> {
    let line = |leftover: &Leftover| match leftover.count {
        1 => format!("left out: {}: {}", leftover.path, leftover.reason),
        count => format!("left out: {} ({count} files): {}", leftover.path, leftover.reason),
    };
    let more = leftovers.len().saturating_sub(MAX_DESCRIBED);
    let more = (more > 0).then(|| format!("left out: {more} other places; --json lists them"));
    leftovers.iter().take(MAX_DESCRIBED).map(line).chain(more)
}

impl ImportReport {
    pub(super) fn new(
        tool: SourceTool,
        lineages: &[Lineage],
        leftovers: Vec<Leftover>,
        planned: &[Option<TakeoverOutcome>],
        limit: u32,
    ) -> Self {
        let lines = lineages.iter().map(LineageEntry::from_lineage).collect();
        let mut report = Self { tool, entries: lines, leftovers, limit };
        for (number, planned) in planned.iter().enumerate() {
            if let Some(planned) = planned {
                report.record_takeover(number, planned);
            }
        }
        // A rehearsal makes ids that nobody will see again.
        for line in report.entries.iter_mut().filter(|line| line.outcome == LineageOutcome::TakenOver) {
            (line.auto_certificate, line.provider) = (None, None);
        }
        report
    }

    /// Notes what became, or will become, of one.
    pub(super) fn record_takeover(&mut self, number: usize, taken: &TakeoverOutcome) {
        if let Some(line) = self.entries.get_mut(number) {
            line.apply_takeover(taken, self.limit);
        }
    }

    pub(super) fn has_refused(&self) -> bool {
        self.count(LineageOutcome::Refused) > 0
    }

    pub(super) fn print_plan(&self) {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["NAME", "NAMES", "KEY", "VALID UNTIL", "SERVER", "ACCOUNT", "PLAN"]);
        for line in &self.entries {
            let of = |text: fn(&LineageDetails) -> String| line.facts.as_ref().map(text).unwrap_or_default();
            table.add_row([
                line.name.clone(),
                of(|facts| match facts.subject_alternative_names.len() {
                    0 => facts.common_name.clone(),
                    others => format!("{} +{others}", facts.common_name),
                }),
                of(|facts| facts.key_algorithm.to_owned()),
                of(|facts| facts.not_after.clone()),
                of(|facts| facts.server.clone()),
                line.account.map_or("", AccountSource::describe).to_owned(),
                line.outcome.plan_text().to_owned(),
            ]);
        }
        println!("{table}");
        for line in &self.entries {
            for text in line.reason.iter().chain(&line.notes) {
                println!("{}: {text}", line.name);
            }
        }
        for leftover in describe_leftovers(&self.leftovers) {
            println!("{leftover}");
        }
    }

    /// Says what is done, or how to do it.
    pub(super) fn finish(&self, applied: bool, json: bool) -> anyhow::Result<()> {
        let [taken, updated, present, refused] =
            [LineageOutcome::TakenOver, LineageOutcome::Updated, LineageOutcome::Present, LineageOutcome::Refused]
                .map(|outcome| self.count(outcome));
        if json {
            let document = serde_json::json!({
                "applied": applied,
                "takenOver": taken,
                "updated": updated,
                "present": present,
                "refused": refused,
                "lineages": self.entries,
                "leftOut": self.leftovers.iter().take(MAX_LISTED).map(|leftover| serde_json::json!({
                    "path": leftover.path,
                    "count": leftover.count,
                    "reason": leftover.reason,
                })).collect::<Vec<_>>(),
                "leftOutMore": self.leftovers.len().saturating_sub(MAX_LISTED),
            });
            crate::cli::output::print_json(&document)?;
            return Ok(());
        }
        if !applied {
            println!(
                "{taken} to take over, {updated} to update, {present} here already, {refused} that cannot be taken"
            );
            println!("nothing was changed; the same command with --yes carries this out");
            return Ok(());
        }
        for line in &self.entries {
            println!("{}: {}", line.name, line.outcome.done_text());
        }
        println!("{taken} taken over, {updated} updated, {present} here already, {refused} not taken");
        if taken > 0 && self.tool != SourceTool::Pem {
            println!("autocertd renews these from now on, by DNS-01; end the renewals of {} now", self.tool.as_str());
        }
        Ok(())
    }

    fn count(&self, outcome: LineageOutcome) -> usize {
        self.entries.iter().filter(|line| line.outcome == outcome).count()
    }
}

impl LineageEntry {
    fn from_lineage(lineage: &Lineage) -> Self {
        let (outcome, reason, notes, account) = match &lineage.wish {
            Ok(wish) => {
                let notes = wish.notes.iter().map(|note| printable(&note.to_string())).collect();
                (LineageOutcome::Present, None, notes, wish.account.clone())
            }
            Err(fault) => (
                LineageOutcome::Refused,
                Some(RemoteMessage::from_paragraph(&fault.to_string()).to_string()),
                Vec::new(),
                TreeAccount::Unknown,
            ),
        };
        Self {
            name: printable(&lineage.name),
            outcome,
            reason,
            facts: lineage.wish.as_ref().ok().map(|wish| LineageDetails::from_planned(wish)),
            auto_certificate: None,
            provider: None,
            account: None,
            notes,
            account_in_tree: account,
        }
    }

    fn apply_takeover(&mut self, taken: &TakeoverOutcome, limit: u32) {
        let refused = |reason: String| (LineageOutcome::Refused, None, Some(reason));
        let (outcome, id, reason) = match taken {
            TakeoverOutcome::Created { auto_certificate, provider } => {
                self.apply_provider(provider);
                (LineageOutcome::TakenOver, Some(*auto_certificate), None)
            }
            TakeoverOutcome::Newer(id) => (LineageOutcome::Updated, Some(*id), None),
            TakeoverOutcome::AlreadyPresent(id) => (LineageOutcome::Present, Some(*id), None),
            TakeoverOutcome::OtherNames(id) => refused(format!(
                "an auto-certificate of this name is here for other names ({id}); rename or delete it first"
            )),
            TakeoverOutcome::NoContact => {
                refused("the files do not say the contact of its account; give it by --email".to_owned())
            }
            TakeoverOutcome::CompromisedKey => {
                refused("its private key was reported as compromised and is never used again".to_owned())
            }
            TakeoverOutcome::LimitReached => {
                refused(format!("there are {limit} auto-certificates already (limits.auto_certificates)"))
            }
        };
        (self.outcome, self.auto_certificate, self.reason) = (outcome, id, reason);
    }

    fn apply_provider(&mut self, provider: &TakeoverProvider) {
        if self.account.is_some() {
            // The plan has said it.
            self.provider = Some(provider.id);
            return;
        }
        let in_tree = self.account_in_tree.url();
        let (account, note) = match (&self.account_in_tree, provider.account_url.as_deref()) {
            (_, Some(url)) if in_tree == Some(url) => (AccountSource::CarriedOver, None),
            (_, Some(_)) => (AccountSource::OfProvider, Some("its provider has another ACME account".to_owned())),
            (TreeAccount::Foreign { reason, .. }, None) => {
                (AccountSource::New, Some(format!("a new ACME account is registered, since {reason}")))
            }
            (TreeAccount::Unknown, None) => {
                (AccountSource::New, Some("a new ACME account is registered, since the files have none".to_owned()))
            }
            (TreeAccount::Usable(_), None) => (
                AccountSource::New,
                Some("its provider is here already, and registers an ACME account of its own".to_owned()),
            ),
        };
        self.provider = Some(provider.id);
        self.account = Some(account);
        self.notes.extend(
            note.map(|note| format!("{}; change CAA records that name the old one (accounturi)", printable(&note))),
        );
    }
}

impl LineageDetails {
    fn from_planned(wish: &PlannedImport) -> Self {
        Self {
            common_name: wish.common_name.sent().to_owned(),
            subject_alternative_names: wish
                .subject_alternative_names
                .iter()
                .map(|name| name.sent().to_owned())
                .collect(),
            key_algorithm: wish.key_algorithm.as_str(),
            not_after: wish.certificate.leaf.not_after.to_string(),
            serial_number: wish.certificate.leaf.serial_number.clone(),
            server: printable(wish.server.as_str()),
            email: wish.email.as_ref().map(|email| printable(email.as_str())),
        }
    }
}

impl LineageOutcome {
    const fn plan_text(self) -> &'static str {
        match self {
            Self::TakenOver => "take over",
            Self::Updated => "update",
            Self::Present => "nothing to do",
            Self::Refused => "cannot be taken",
        }
    }

    const fn done_text(self) -> &'static str {
        match self {
            Self::TakenOver => "taken over",
            Self::Updated => "updated with its newer certificate",
            Self::Present => "here already, with this certificate or a newer one",
            Self::Refused => "not taken",
        }
    }
}

impl AccountSource {
    const fn describe(self) -> &'static str {
        match self {
            Self::CarriedOver => "carried over",
            Self::New => "new",
            Self::OfProvider => "of its provider",
        }
    }
}

/// In places, in the text for people.
const MAX_DESCRIBED: usize = 50;

/// In places, in JSON.
const MAX_LISTED: usize = 10_000;
