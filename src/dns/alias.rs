//! Aliases: CNAME records at `_acme-challenge` names, which a CA follows (RFC 8555 section 8.4). The record goes where
//! they end.

use crate::dns::error::DnsError;
use crate::dns::lookup::Lookup;
use crate::runtime::randomness::Randomness;

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aliases {
    /// The names passed, from the first to the one where the record goes; the first alone where it is no alias.
    pub chain: Vec<String>,
    /// A wildcard that makes an alias of the last name as long as no record is there. It is not followed: a record at the
    /// name itself goes before it (RFC 4592 section 2.2.1).
    pub wildcard: Option<WildcardAlias>,
}

/// `*.<parent>` is a CNAME to somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WildcardAlias {
    /// What the wildcard stands below.
    pub parent: String,
    /// Where it leads.
    pub target: String,
}

impl Aliases {
    /// The aliases from `name` on.
    ///
    /// # Errors
    /// [`DnsError::EndlessAlias`] where they lead round or too far, [`DnsError::NoLookup`] where they cannot be seen.
    pub async fn from(name: &str, lookup: &Lookup, randomness: &Randomness) -> Result<Self, DnsError> {
        let mut aliases = Self { chain: vec![name.to_owned()], wildcard: None };
        while let Some(target) = lookup.cname(aliases.end()).await? {
            aliases.wildcard = wildcard(aliases.end(), &target, lookup, randomness).await?;
            if aliases.wildcard.is_some() {
                return Ok(aliases);
            }
            let is_over = aliases.chain.contains(&target) || aliases.chain.len() > MOST_ALIASES;
            aliases.chain.push(target);
            if is_over {
                return Err(DnsError::EndlessAlias { name: name.to_owned(), chain: aliases.chain });
            }
        }
        Ok(aliases)
    }

    /// Where the record goes.
    pub fn end(&self) -> &str {
        self.chain.last().map_or("", String::as_str)
    }
}

/// Whether the alias is one of all names beside it: a name that nobody ever made leads to the same place.
async fn wildcard(
    name: &str,
    target: &str,
    lookup: &Lookup,
    randomness: &Randomness,
) -> Result<Option<WildcardAlias>, DnsError> {
    let Some((_, parent)) = name.split_once('.') else {
        return Ok(None);
    };
    let nobody = format!("{}.{parent}", randomness.uuid().simple());
    let is_wildcard = lookup.cname(&nobody).await?.as_deref() == Some(target);
    Ok(is_wildcard.then(|| WildcardAlias { parent: parent.to_owned(), target: target.to_owned() }))
}

/// As many as resolvers of CAs follow.
const MOST_ALIASES: usize = 10;
