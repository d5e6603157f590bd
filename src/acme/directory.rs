//! The directories of CAs, kept for a few minutes so that not every attempt begins by fetching one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::Uri;
use serde::Deserialize;
use time::Duration;

use crate::domain::value::moment::Moment;
use crate::domain::value::text::is_printable;

/// Directories by their URL. Only what could be read is kept.
#[derive(Debug, Default)]
pub(super) struct DirectoryCache(Mutex<HashMap<Uri, (Moment, Bytes)>>);

impl DirectoryCache {
    /// The document that was kept, where it is still fresh.
    pub(super) fn get_fresh(&self, url: &Uri, now: Moment) -> Option<Bytes> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, document) = kept.get(url)?;
        (*since <= now && now - *since < CACHE_TTL).then(|| document.clone())
    }

    /// Keeps a document, where it is a directory that requests can be sent by; else says what is wrong with it.
    pub(super) fn check_and_store(&self, url: &Uri, now: Moment, document: Bytes) -> Result<(), String> {
        let directory: Directory = serde_json::from_slice(&document).map_err(|error| error.to_string())?;
        // instant-acme builds requests from these without a second look, and panics where they are no URLs.
        for (name, listed) in [
            ("newNonce", &directory.new_nonce),
            ("newAccount", &directory.new_account),
            ("newOrder", &directory.new_order),
        ] {
            if !listed.parse::<Uri>().is_ok_and(|url| url.host().is_some() && url.scheme().is_some()) {
                return Err(format!("{name} is no URL"));
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(url.clone(), (now, document));
        Ok(())
    }

    /// Has the directory fetched anew the next time.
    pub(super) fn invalidate(&self, url: &Uri) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(url);
    }
}

/// What a CA says of itself in its directory, RFC 8555 section 7.1.1; nothing where it cannot be read.
pub(super) fn parse_meta(document: &[u8]) -> DirectoryMeta {
    let mut meta = serde_json::from_slice::<Directory>(document).map(|directory| directory.meta).unwrap_or_default();
    meta.caa_identities.retain(|name| is_displayable(name));
    meta.caa_identities.truncate(MAX_LISTED);
    meta.profiles = meta.profiles.into_iter().filter(|(name, _)| is_displayable(name)).take(MAX_LISTED).collect();
    meta
}

/// What a CA says of itself.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DirectoryMeta {
    /// Where its terms are.
    pub(super) terms_of_service: Option<String>,
    /// The names by which it knows itself in CAA records.
    pub(super) caa_identities: Vec<String>,
    /// The profiles that it offers, each with words about it (draft-ietf-acme-profiles).
    pub(super) profiles: BTreeMap<String, String>,
}

/// Where a directory document says that renewal information is, RFC 9773 section 4.
pub(super) fn parse_renewal_info_url(document: &[u8]) -> Option<String> {
    serde_json::from_slice::<Directory>(document).ok()?.renewal_info
}

/// Where requests go that are signed here.
pub(super) struct Endpoints {
    pub(super) new_nonce: Uri,
    pub(super) new_account: Uri,
    /// Not every CA changes account keys.
    pub(super) key_change: Option<Uri>,
}

impl Endpoints {
    /// Those of a directory document; none where it is not a directory.
    pub(super) fn from_directory(document: &[u8]) -> Option<Self> {
        let directory: Directory = serde_json::from_slice(document).ok()?;
        Some(Self {
            new_nonce: directory.new_nonce.parse().ok()?,
            new_account: directory.new_account.parse().ok()?,
            key_change: directory.key_change.and_then(|url| url.parse().ok()),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    new_order: String,
    renewal_info: Option<String>,
    key_change: Option<String>,
    #[serde(default)]
    meta: DirectoryMeta,
}

/// Whether a name can be told to people and compared with theirs.
fn is_displayable(name: &str) -> bool {
    name.len() <= MAX_NAME_LENGTH && name.chars().all(is_printable)
}

/// In bytes: that of a DNS name.
const MAX_NAME_LENGTH: usize = 253;
const MAX_LISTED: usize = 100;

const CACHE_TTL: Duration = Duration::minutes(5);

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"newNonce": "https://ca.example/n", "newAccount": "https://ca.example/a",
        "newOrder": "https://ca.example/o", "meta": {"termsOfService": "https://ca.example/tos"}}"#;

    #[test]
    fn a_directory_is_fresh_for_some_minutes_and_not_before_it_was_read() {
        let (directories, url) = (DirectoryCache::default(), Uri::from_static("https://ca.example/dir"));
        let now = Moment::from_micros(0);
        assert_eq!(directories.get_fresh(&url, now), None);
        directories.check_and_store(&url, now, Bytes::from_static(DOCUMENT.as_bytes())).unwrap();
        assert!(directories.get_fresh(&url, now + Duration::minutes(4)).is_some());
        assert!(directories.get_fresh(&url, now + Duration::minutes(5)).is_none());
        assert!(directories.get_fresh(&url, now - Duration::minutes(1)).is_none());
        directories.invalidate(&url);
        assert!(directories.get_fresh(&url, now).is_none());
    }

    #[test]
    fn what_a_ca_says_of_itself_is_read_where_it_says_it() {
        let meta =
            |said: &str| parse_meta(DOCUMENT.replace(r#""meta": {"#, &format!(r#""meta": {{{said}"#)).as_bytes());
        let silent = meta("");
        assert_eq!(silent.terms_of_service.as_deref(), Some("https://ca.example/tos"));
        assert!(silent.caa_identities.is_empty() && silent.profiles.is_empty());
        let told = meta(r#""caaIdentities": ["ca.example"], "profiles": {"tlsserver": "short", "classic": "long"}, "#);
        assert_eq!(told.caa_identities, ["ca.example"]);
        assert_eq!(told.profiles.into_keys().collect::<Vec<_>>(), ["classic", "tlsserver"]);
    }

    #[test]
    fn what_is_no_directory_is_not_kept() {
        let (directories, url) = (DirectoryCache::default(), Uri::from_static("https://ca.example/dir"));
        let no_url = DOCUMENT.replace("https://ca.example/n", "not a url");
        for document in ["<html>", "{}", no_url.as_str()] {
            assert!(
                directories
                    .check_and_store(&url, Moment::from_micros(0), Bytes::copy_from_slice(document.as_bytes()))
                    .is_err()
            );
        }
        assert_eq!(directories.get_fresh(&url, Moment::from_micros(0)), None);
    }
}
