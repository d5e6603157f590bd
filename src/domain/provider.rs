//! A provider: an ACME CA together with the account that autocertd has there.

pub mod admission;
pub mod breaker;
pub mod caa;
pub mod failover;
pub mod rate_limit_ledger;

use secrecy::SecretString;

use crate::domain::failure::back_off::FailureStreak;
use crate::domain::value::email::Email;
use crate::domain::value::id::ProviderId;
use crate::domain::value::mac_key::MacKey;
use crate::domain::value::moment::Moment;
use crate::domain::value::profile::Profile;
use crate::domain::value::resource::{Audit, ResourceName};
use crate::domain::value::server_url::ServerUrl;
use crate::domain::value::text::is_printable;

/// The binding of an ACME account to an account that the CA knows already (RFC 8555 section 7.3.4).
#[derive(Clone, Debug)]
pub struct ExternalAccountBinding {
    /// The key identifier that the CA gave.
    pub key_id: String,
    /// The HMAC key that the CA gave.
    pub key_secret: MacKey,
}

/// What is wrong with a key identifier of an external account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeyId {
    /// It says nothing.
    #[error("is empty")]
    Empty,
    /// It is no text that a CA hands out.
    #[error("holds control or invisible characters; copy it again from the CA")]
    Unprintable,
}

impl ExternalAccountBinding {
    /// Reads its key identifier, just as the CA gave it.
    ///
    /// # Errors
    /// Where it is empty or blank, or not printable.
    pub fn parse_key_id(text: &str) -> Result<String, InvalidKeyId> {
        match text {
            _ if text.trim().is_empty() => Err(InvalidKeyId::Empty),
            _ if !text.chars().all(is_printable) => Err(InvalidKeyId::Unprintable),
            _ => Ok(text.to_owned()),
        }
    }
}

/// A provider as it is asked for.
#[derive(Clone, Debug)]
pub struct NewProvider {
    /// Its name for people.
    pub name: ResourceName,
    /// The contact of its account.
    pub email: Email,
    /// Its directory.
    pub server: ServerUrl,
    /// The external account, where the CA wants one.
    pub external_account: Option<ExternalAccountBinding>,
    /// The profile to order; none where the CA chooses.
    pub profile: Option<Profile>,
}

/// A stored provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its identity.
    pub id: ProviderId,
    /// Its name for people.
    pub name: ResourceName,
    /// The contact of its account.
    pub email: Email,
    /// Its directory.
    pub server: ServerUrl,
    /// The key identifier of the external account, where one was given. The key itself stays in the store.
    pub external_account_key_id: Option<String>,
    /// The profile to order; none where the CA chooses.
    pub profile: Option<Profile>,
    /// Who is asked in its place when it fails for long, in this order. One of them may be gone.
    pub fallbacks: Vec<ProviderId>,
    /// Since when it is down for everyone; nothing where it is not.
    pub down_since: Option<Moment>,
    /// Who made and changed it.
    pub audit: Audit,
    /// The account's URL at the CA, once it is registered.
    pub account_url: Option<String>,
    /// What keeps the account from being registered.
    pub failure_streak: Option<FailureStreak>,
    /// What became of an account that it had before.
    pub account_note: Option<AccountNote>,
}

impl Provider {
    /// Whether a person had its account deactivated, so that it takes no order before one asks for another account.
    pub const fn is_deactivated(&self) -> bool {
        matches!(self.account_note, Some(AccountNote::Deactivated { .. }))
    }
}

/// An account of another ACME client that is to be a provider's, by its key.
#[derive(Clone, Debug)]
pub struct ImportedAccount {
    /// Its private key: PEM, or a JSON Web Key.
    pub key: SecretString,
    /// Its URL, where a person knows it.
    pub url: Option<String>,
    /// Whether it may take the place of an account that the provider has.
    pub replaces: bool,
}

/// What became of an account that was carried in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptionOutcome {
    /// Its URL, the same as before.
    pub url: String,
    /// Whether it has a new key now, because ours are ECDSA keys on P-256 only.
    pub has_new_key: bool,
}

/// What became of an account of a provider, where people have to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountNote {
    /// The CA no longer knew it, so that another one takes its place.
    Lost {
        /// Its URL.
        account: String,
        /// When the CA said so.
        at: Moment,
    },
    /// A person had it deactivated. No other one is registered before a person asks for it.
    Deactivated {
        /// Its URL.
        account: String,
        /// When that was asked for.
        at: Moment,
    },
}
