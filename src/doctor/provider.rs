//! A provider: its directory answers, it knows the account, it offers the profiles. Nothing is registered.

use std::error::Error;

use time::Duration;

use crate::acme::{AccountCredentials, AcmeError, ProblemKind};
use crate::doctor::check_list::{CheckedProvider, ExaminedProvider};
use crate::doctor::{Doctor, Ending};
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::provider::{AccountNote, Provider};
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use crate::store::ProviderAccount;

/// What was seen of a provider, and what the looks at names need of it.
pub(super) struct ProviderReport {
    pub(super) name: String,
    pub(super) server: String,
    /// The URL of its account.
    pub(super) account_url: Option<String>,
    /// The names by which it knows itself in CAA records; nothing where its directory does not answer.
    pub(super) caa_identities: Option<Vec<String>>,
    /// By how much our clock is ahead of its own; nothing where it does not tell.
    pub(super) clock_ahead: Option<Duration>,
    pub(super) results: Vec<CheckResult>,
}

impl Doctor {
    /// What there is to say of a provider, and what of it cannot be said before the round ends.
    pub(super) async fn check_provider(&self, examined: &CheckedProvider, ending: &Ending) -> ProviderReport {
        let CheckedProvider { provider, profiles } = examined;
        let (about, server) = (CheckSubject::Provider(provider.name()), provider.server());
        let mut seen = ProviderReport {
            name: provider.name(),
            server: server.to_string(),
            account_url: provider.account_url().cloned(),
            caa_identities: None,
            clock_ahead: None,
            results: Vec::new(),
        };
        let unasked = |because: &str| {
            let profile = (!profiles.is_empty()).then(|| CheckResult::skipped(&about, Check::Profile, because));
            std::iter::once(CheckResult::skipped(&about, Check::Account, because)).chain(profile)
        };
        match ending.during(self.acme.check_directory(server)).await {
            Some(Ok(date)) => {
                seen.clock_ahead = date.map(|date| self.clock.now() - date);
                seen.results.push(CheckResult::ok(&about, Check::Directory, format!("{server} answers")));
                seen.caa_identities = ending.during(self.acme.caa_identities(server)).await.and_then(Result::ok);
                let account = ending.during(self.check_account(&about, provider)).await;
                seen.results
                    .push(account.unwrap_or_else(|| CheckResult::skipped(&about, Check::Account, ending.reason())));
                let offered = ending.during(self.check_profiles(&about, examined)).await;
                seen.results.extend(offered.unwrap_or_else(|| unasked(ending.reason()).skip(1).collect()));
            }
            Some(Err(error)) => {
                let remedy = "check the provider's server, the network, and extra_roots in [acme] for a private CA";
                seen.results.push(CheckResult::fault(&about, Check::Directory, words(&error), remedy));
                seen.results.extend(unasked("the directory does not answer"));
            }
            None => {
                let because = format!("{}: {server} has not answered yet", ending.reason());
                seen.results.push(CheckResult::skipped(&about, Check::Directory, because));
                seen.results.extend(unasked(ending.reason()));
            }
        }
        seen
    }

    async fn check_account(&self, about: &CheckSubject, provider: &ExaminedProvider) -> CheckResult {
        let skipped = |because: &str| CheckResult::skipped(about, Check::Account, because);
        let (store, provider) = match (&self.store, provider) {
            (None, _) => return skipped("there is no database yet; the daemon registers the account"),
            (_, ExaminedProvider::Declared(..)) => {
                return skipped("the provider is declared, but not stored yet; the daemon registers its account");
            }
            (Some(store), ExaminedProvider::Stored(provider)) => (store, provider),
        };
        let account = match store.account(provider.id).await {
            Ok(Some(account)) => account,
            Ok(None) => return skipped("the provider was deleted meanwhile"),
            Err(error) => {
                return CheckResult::fault(about, Check::Account, words(&error), "check the database and its keys");
            }
        };
        let Some(url) = account.registered.as_ref().map(|registered| registered.url.clone()) else {
            return unregistered_result(about, provider, &account);
        };
        if account.key_change.is_some() {
            return skipped("a change of its key was begun; what became of it is found out at its next use");
        }
        let known = async {
            let registered = account.registered.ok_or(AcmeError::UnusableCredentials("it is gone"))?;
            let key = AccountCredentials::from_stored(registered.credentials)?.key()?;
            self.acme.find_account(&provider.server, &key, Some(&url)).await
        };
        let another = format!("`autocertd account register {:?}` registers another one", provider.name.as_str());
        match known.await {
            Ok(Some(_)) => CheckResult::ok(about, Check::Account, format!("{url} is valid")),
            Ok(None) => CheckResult::fault(about, Check::Account, format!("the CA does not know {url}"), another),
            Err(error) if is_about_account(&error) => CheckResult::fault(about, Check::Account, words(&error), another),
            Err(error) => CheckResult::warning(about, Check::Account, words(&error), "look again when the CA is back"),
        }
    }

    async fn check_profiles(&self, about: &CheckSubject, examined: &CheckedProvider) -> Vec<CheckResult> {
        let CheckedProvider { provider, profiles } = examined;
        let server = provider.server();
        if profiles.is_empty() {
            return Vec::new();
        }
        let offered = match self.acme.profiles(server).await {
            Ok(offered) => offered,
            Err(error) => return vec![CheckResult::skipped(about, Check::Profile, words(&error))],
        };
        let listed = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
        let look = |profile: &str| {
            if offered.iter().any(|name| name == profile) {
                return CheckResult::ok(about, Check::Profile, format!("{profile} is offered"));
            }
            let detail = format!("the CA does not offer {profile}, only: {listed}");
            CheckResult::fault(about, Check::Profile, detail, "correct `profile` in the settings")
        };
        profiles.iter().map(|profile| look(profile.as_str())).collect()
    }
}

fn unregistered_result(about: &CheckSubject, provider: &Provider, account: &ProviderAccount) -> CheckResult {
    match (&account.note, &provider.failure_streak) {
        (Some(AccountNote::Deactivated { account, at }), _) => {
            let detail = format!("{account} was deactivated at {at}, as was asked for");
            CheckResult::fault(about, Check::Account, detail, "`autocertd account register` registers another one")
        }
        (_, Some(trouble)) if trouble.last.disposition == Disposition::Operator => {
            let detail = format!("it is not registered: {}", trouble.last);
            CheckResult::fault(about, Check::Account, detail, "correct the provider, then reload")
        }
        (_, Some(trouble)) => {
            let detail = format!("it is not registered yet: {}", trouble.last);
            CheckResult::warning(about, Check::Account, detail, format!("it is tried again at {}", trouble.next_try))
        }
        (_, None) => CheckResult::ok(about, Check::Account, "it is not registered yet; the first order does that"),
    }
}

/// CAs word the refusal of an account that has ended in ways of their own.
fn is_about_account(error: &AcmeError) -> bool {
    let kinds = [ProblemKind::AccountDoesNotExist, ProblemKind::Unauthorized];
    matches!(error, AcmeError::AccountNotValid { .. } | AcmeError::UnusableCredentials(_))
        || error.kind().is_some_and(|kind| kinds.contains(&kind))
}

/// An error with its sources.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    Failure::from_error(error, Disposition::RETRY).message.to_string()
}
