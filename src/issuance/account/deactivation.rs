//! The deactivation of an account that nothing uses any more, as a person asks for it.

use std::fmt::Display;

use crate::acme::{AccountCredentials, ProblemKind};
use crate::domain::failure::disposition::Failure;
use crate::domain::provider::AccountNote;
use crate::domain::value::id::ProviderId;
use crate::domain::value::resource::ResourceName;
use crate::issuance::AttemptError;
use crate::issuance::account::AccountRegistrar;
use crate::issuance::account::request::AccountRequest;
use crate::store::{ProviderAccount, RegisteredAccount};

impl AccountRegistrar {
    /// Deactivates the account of a provider for good (RFC 8555 section 7.3.6), and returns the URL that it had. No other
    /// one is registered before a person asks for it.
    ///
    /// # Errors
    /// Where there is no account, auto-certificates or other providers use the provider, or the CA refuses or cannot be
    /// reached.
    pub async fn deactivate(&self, id: ProviderId) -> Result<String, AttemptError> {
        self.run_on_request(id, async |request| {
            let users = self.store.users_of_provider(id).await?;
            if !users.is_empty() {
                let words = format!("these auto-certificates use the provider: {}", list_names(&users));
                return Err(
                    Failure::operator(format!("{words}; delete them or give them another provider first")).into()
                );
            }
            let others = self.store.providers_with_fallback(id).await?;
            if !others.is_empty() {
                let words = format!("these providers fall back on the provider: {}", list_names(&others));
                return Err(Failure::operator(format!("{words}; take it out of their `fallbacks` first")).into());
            }
            let no_account = request.no_account_failure();
            let registered = request.account.registered.clone().ok_or(no_account)?;
            self.deactivate_at_ca(&request, registered).await
        })
        .await
    }

    /// Carries a deactivation to its end that was asked for before and got no clear answer.
    pub(super) async fn finish_deactivation(&self, id: ProviderId) -> Result<(), AttemptError> {
        let unfinished = |account: &ProviderAccount| {
            account.registered.clone().filter(|_| matches!(account.note, Some(AccountNote::Deactivated { .. })))
        };
        if self.store.account(id).await?.as_ref().and_then(unfinished).is_none() {
            return Ok(());
        }
        self.run_on_request(id, async |request| {
            if let Some(registered) = unfinished(&request.account) {
                self.deactivate_at_ca(&request, registered).await?;
            }
            Ok(())
        })
        .await
    }

    async fn deactivate_at_ca(
        &self,
        request: &AccountRequest<'_>,
        registered: RegisteredAccount,
    ) -> Result<String, AttemptError> {
        let begun_before = matches!(request.account.note, Some(AccountNote::Deactivated { .. }));
        let note = AccountNote::Deactivated { account: registered.url.clone(), at: self.clock.now() };
        self.store.store_account_note(request.lease, Some(&note)).await?;
        let credentials = AccountCredentials::from_stored(registered.credentials)?;
        match self.acme.deactivate_account(&credentials).await {
            Ok(()) => {}
            Err(error) if error.kind() == Some(ProblemKind::AccountDoesNotExist) => {}
            // So says a CA of an account that is deactivated already.
            Err(error) if begun_before && error.kind() == Some(ProblemKind::Unauthorized) => {}
            Err(error) => {
                if error.had_no_effect() && !begun_before {
                    self.store.store_account_note(request.lease, request.account.note.as_ref()).await?;
                }
                return Err(error.into());
            }
        }
        self.store.forget_account(request.lease, &note, None).await?;
        tracing::info!(provider = %request.provider.id, account = registered.url, "account deactivated");
        Ok(registered.url)
    }
}

/// Names with ids.
fn list_names<I: Display>(all: &[(I, ResourceName)]) -> String {
    let names: Vec<String> = all.iter().map(|(id, name)| format!("{name} ({id})")).collect();
    names.join(", ")
}
