//! Accounts that a DNS service wants for each name: made, and what of the way to them is still missing.

use crate::dns::adapter::Registration;
use crate::dns::alias::Aliases;
use crate::dns::error::DnsError;
use crate::dns::routes::DnsRoutes;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::name::DnsName;

/// An account for the challenges of one name, and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeRegistration {
    /// The name of the challenge.
    pub challenge: String,
    /// Where its CNAME must lead.
    pub target: String,
    /// Whether the account was made just now.
    pub is_new: bool,
    /// Whether it leads there already; `None` where that cannot be seen.
    pub leads_there: Option<bool>,
    /// Whether a route gives the target to the adapter that has the account.
    pub is_routed: bool,
}

impl DnsRoutes {
    /// Makes the account that the service of `adapter` wants for the challenges of `name`; `None` where it wants none.
    ///
    /// # Errors
    /// [`DnsError::NoSuchAdapter`], or what the adapter reports.
    pub async fn register(
        &self,
        adapter: &AdapterName,
        name: &DnsName,
    ) -> Result<Option<ChallengeRegistration>, DnsError> {
        let Some(Registration { target, is_new }) = self.named(adapter.as_str())?.register(name).await? else {
            return Ok(None);
        };
        let challenge = name.challenge_name();
        let leads_there = match Aliases::resolve(&challenge, &self.lookup, &self.randomness).await {
            Ok(aliases) => Some(aliases.chain.contains(&target)),
            Err(error) => {
                tracing::debug!(name = challenge, "its aliases are not seen: {error}");
                None
            }
        };
        let is_routed = self.adapter_for(&target)?.name() == adapter;
        Ok(Some(ChallengeRegistration { challenge, target, is_new, leads_there, is_routed }))
    }
}
