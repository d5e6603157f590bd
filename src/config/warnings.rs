//! What is unwise in settings that can be used: said at the start, at a reload, and by `check-config`.

use std::collections::HashSet;
use std::path::Path;

use crate::config::declared::AutoCertificateEntry;
use crate::config::delivery::DeliveryEntry;
use crate::config::exposure::find_exposures;
use crate::config::{Config, ConfigError, secret};
use crate::domain::declared::DeclaredKey;
use crate::domain::value::name::DnsName;
use crate::domain::value::pattern::{AutoCertificatePattern, Selection};

impl Config {
    /// Everything unwise about these settings and the files that they name, in words.
    pub fn warnings(&self) -> Vec<String> {
        let mut cautions = self.fragment_warnings();
        cautions.extend(self.delivery_warnings());
        cautions.extend(self.secret_warnings());
        cautions.extend(find_exposures(self).iter().map(ToString::to_string));
        let more = cautions.len().saturating_sub(MAX_WARNINGS);
        if more > 0 {
            cautions.truncate(MAX_WARNINGS);
            cautions.push(format!("there are {more} more warnings about the settings; correct these first"));
        }
        cautions
    }

    fn fragment_warnings(&self) -> Vec<String> {
        let passed_over = &self.skipped_fragments;
        let dangling = passed_over.dangling_links.iter().map(|path| {
            format!(
                "{} is a link to a file that does not exist: what that file declares is not known, so nothing is deleted \
                 and the rest goes on; restore the file, or remove the link. Until then no reload is accepted",
                path.display()
            )
        });
        let left_out = passed_over.left_out_keys.iter().map(|key| {
            format!(
                "[[auto_certificate]] {key} is left as it is stored: its provider may be declared in the missing file"
            )
        });
        let unread = passed_over.misnamed.iter().map(|path| {
            format!("{} is not read: the names of settings in conf.d end in .toml, in lower case", path.display())
        });
        dangling.chain(left_out).chain(unread).collect()
    }

    fn delivery_warnings(&self) -> Vec<String> {
        let keys: HashSet<&DeclaredKey> = self.auto_certificates.iter().map(|entry| &entry.key).collect();
        let declared: Vec<(&DeclaredKey, Vec<DnsName>)> =
            self.auto_certificates.iter().filter_map(|entry| Some((&entry.key, parse_names(entry)?))).collect();
        let mut cautions = Vec::new();
        for entry in &self.deliveries {
            let dead = entry.matching.iter().filter(|pattern| !keys.iter().any(|key| pattern.matches_key(key)));
            cautions.extend(dead.filter_map(|pattern| unmatched_pattern_warning(entry, pattern)));
            let selection = Selection::new(&entry.matching, &keys);
            cautions.extend(declared.iter().filter_map(|(key, names)| {
                let partly = selection.partly_covers(Some(key), names)?;
                let (delivery, covered, uncovered) = (&entry.key, partly.covered, partly.uncovered);
                Some(format!(
                    "[[delivery]] {delivery}: match covers {covered} of [[auto_certificate]] {key}, but not {uncovered}, so \
                     that it is not delivered there; add \"{key}\" or \"{uncovered}\" to match if it should be"
                ))
            }));
            if cautions.len() > MAX_WARNINGS {
                break;
            }
        }
        cautions
    }

    /// Tokens and passwords of deliveries are read when they are used. One that is missing may be on its way; one that
    /// cannot be used is told before.
    fn secret_warnings(&self) -> Vec<String> {
        let mut cautions = Vec::new();
        for entry in &self.deliveries {
            let mut tell = |read: Result<_, ConfigError>| {
                if let Err(error @ ConfigError::UnusableSecret { .. }) = read {
                    cautions.push(format!("[[delivery]] {}: {error}", entry.key));
                }
            };
            if let Some(manager) = &entry.certificate_manager {
                tell(secret::token("certificate_manager.token_file", &manager.token_file));
            }
            if let Some(path) = entry.files.as_ref().and_then(|files| files.pkcs12_password_file.as_deref()) {
                tell(secret::password("files.pkcs12_password_file", path));
            }
            if let Some(account) =
                entry.kubernetes.as_ref().and_then(|kubernetes| kubernetes.service_account.as_deref())
            {
                tell(secret::token("kubernetes.service_account", &Path::new(account).join("token")));
            }
        }
        cautions
    }
}

/// What there is to say of a pattern that matches no declared key.
fn unmatched_pattern_warning(entry: &DeliveryEntry, pattern: &AutoCertificatePattern) -> Option<String> {
    let delivery = &entry.key;
    if pattern.can_match_names() {
        return None;
    }
    Some(if pattern.can_be_key() {
        format!(
            "[[delivery]] {delivery}: match has \"{pattern}\", which is the key of no [[auto_certificate]] in these settings \
             and no DNS name; names that the API gives to auto-certificates do not count. Write a declared key, or DNS names \
             such as www.example.com"
        )
    } else {
        let pattern = crate::domain::value::text::quoted(&pattern.to_string());
        format!(
            "[[delivery]] {delivery}: match has {pattern}, which can be neither a key nor a DNS name and matches nothing; \
             write a declared key, or DNS names such as www.example.com"
        )
    })
}

/// The names of an auto-certificate; nothing where one is none, which is refused elsewhere.
fn parse_names(entry: &AutoCertificateEntry) -> Option<Vec<DnsName>> {
    let names = std::iter::once(&entry.common_name).chain(&entry.subject_alternative_names);
    names.map(|name| name.parse().ok()).collect()
}

/// Nobody reads more of them.
const MAX_WARNINGS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &str = "[[provider]]\nkey = 'le'\nemail = 'a@example.com'\nserver = 'https://ca.example/dir'\n\
        [[auto_certificate]]\nkey = 'www'\nprovider = 'le'\ncommon_name = 'www.example.com'\n\
        subject_alternative_names = ['shop.example']\n";

    fn cautions(delivery: &str) -> Vec<String> {
        let text = format!("state_directory = '/nowhere'\n{DECLARED}[[delivery]]\nkey = 'web'\n{delivery}");
        Config::parse(&text, Path::new("test.toml")).unwrap().warnings()
    }

    #[test]
    fn a_match_that_can_never_match_is_told() {
        let matching = |patterns: &str| cautions(&format!("match = [{patterns}]\nhook.command = ['/bin/true']\n"));
        for patterns in
            ["", "'www'", "'w*'", "'*'", "'other.example'", "'*.other.example'", "'www.example.com', 'shop.example'"]
        {
            assert_eq!(matching(patterns), [""; 0], "{patterns}");
        }
        for (patterns, words) in [
            ("'wwww'", "match has \"wwww\", which is the key of no [[auto_certificate]]"),
            ("'WWW'", "match has \"WWW\", which is the key of no"),
            ("'www', 'The shop'", "can be neither a key nor a DNS name"),
            ("''", "can be neither a key nor a DNS name"),
            ("'*.example.com'", "match covers www.example.com of [[auto_certificate]] www, but not shop.example"),
        ] {
            let told = matching(patterns);
            assert!(told.len() == 1 && told[0].contains(words) && told[0].contains("[[delivery]] web"), "{told:?}");
        }
    }

    #[test]
    fn there_are_not_more_of_them_than_somebody_reads() {
        let patterns: Vec<String> = (0..200).map(|number| format!("'key{number}'")).collect();
        let told = cautions(&format!("match = [{}]\nhook.command = ['/bin/true']\n", patterns.join(", ")));
        assert_eq!(told.len(), MAX_WARNINGS + 1);
        assert_eq!(told[MAX_WARNINGS], "there are 150 more warnings about the settings; correct these first");
    }

    #[test]
    fn a_token_of_a_delivery_that_cannot_be_used_is_told_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let settings =
            format!("certificate_manager = {{ endpoint = 'https://cm.example', token_file = '{}' }}\n", path.display());
        assert_eq!(cautions(&settings), [""; 0]);
        std::fs::write(&path, "two words").unwrap();
        let told = cautions(&settings);
        assert!(told.iter().any(|told| told.contains("[[delivery]] web") && told.contains("has blanks")), "{told:?}");
        assert!(!told.concat().contains("two words"));
    }
}
