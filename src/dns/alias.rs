//! Aliases: CNAME records at `_acme-challenge` names, which a CA follows (RFC 8555 section 8.4). The record goes where
//! they end.

use crate::dns::error::DnsError;
use crate::dns::lookup::DnsLookup;
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
    pub async fn resolve(name: &str, lookup: &DnsLookup, randomness: &Randomness) -> Result<Self, DnsError> {
        let mut aliases = Self { chain: vec![name.to_owned()], wildcard: None };
        while let Some(target) = lookup.cname(aliases.end()).await? {
            aliases.wildcard = find_wildcard(aliases.end(), &target, lookup, randomness).await?;
            if aliases.wildcard.is_some() {
                return Ok(aliases);
            }
            let is_over = target.is_empty() || aliases.chain.contains(&target) || aliases.chain.len() > MAX_ALIASES;
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

/// The wildcard from which the alias at `name` comes, where it does.
async fn find_wildcard(
    name: &str,
    target: &str,
    lookup: &DnsLookup,
    randomness: &Randomness,
) -> Result<Option<WildcardAlias>, DnsError> {
    if is_own_record(name, target, lookup, randomness).await? {
        return Ok(None);
    }
    let mut parent = name;
    while let Some((_, above)) = parent.split_once('.') {
        parent = above;
        let star = format!("*.{parent}");
        let leads_there = lookup.cname(&star).await?.as_deref() == Some(target);
        if leads_there && is_own_record(&star, target, lookup, randomness).await? {
            break;
        }
    }
    Ok(Some(WildcardAlias { parent: parent.to_owned(), target: target.to_owned() }))
}

/// Whether the alias stands at the name itself. Below a name that is there no wildcard above it reaches (RFC 4592 section
/// 2.2.1): where one does, for a label that nobody ever made, the name is not there.
async fn is_own_record(
    name: &str,
    target: &str,
    lookup: &DnsLookup,
    randomness: &Randomness,
) -> Result<bool, DnsError> {
    let below = format!("{:08x}.{name}", u32::from_le_bytes(randomness.bytes()));
    // No name fits below one that is so long.
    Ok(below.len() > MAX_NAME_LENGTH || lookup.cname(&below).await?.as_deref() != Some(target))
}

/// As many as resolvers of CAs follow.
const MAX_ALIASES: usize = 10;
/// RFC 1035 section 2.3.4, in text form without the root.
const MAX_NAME_LENGTH: usize = 253;
