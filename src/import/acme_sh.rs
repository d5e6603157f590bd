//! acme.sh's tree: a folder `<domain>` or `<domain>_ecc` for each certificate, with `<domain>.conf` in it, and
//! `ca/<host>/<path>/` with the account at each CA. Seen of version 3.1.

use url::Url;

use crate::domain::server_url::ServerUrl;
use crate::import::account::{RawAccount, TreeAccount};
use crate::import::lineage::{Fault, Finding};
use crate::import::{Overrides, Tree, pem};

/// What the tree says, by the names of the folders.
pub(super) fn findings(tree: &Tree, overrides: &Overrides) -> Vec<(String, Result<Finding, Fault>)> {
    let with_settings = tree.folders_in("").into_iter().filter_map(|folder| {
        let domain = folder.strip_suffix("_ecc").unwrap_or(folder);
        let settings = tree.get(&format!("{folder}/{domain}.conf"))?;
        Some((folder.to_owned(), finding(tree, overrides, folder, domain, settings)))
    });
    with_settings.collect()
}

fn finding(tree: &Tree, overrides: &Overrides, folder: &str, domain: &str, settings: &str) -> Result<Finding, Fault> {
    let certificate = tree.text(&format!("{folder}/{domain}.cer"))?.to_owned();
    let private_key = pem::private_key(tree.text(&format!("{folder}/{domain}.key"))?)?;
    let server = overrides.server_or(value(settings, "Le_API"))?;
    let ca = ca_folder(&server);
    let ca_file = |name: &str| tree.get(&format!("{}/{name}", ca.as_deref()?));
    let ca_settings = ca_file("ca.conf").unwrap_or_default();
    let email =
        value(ca_settings, "CA_EMAIL").or_else(|| value(tree.get("account.conf").unwrap_or_default(), "ACCOUNT_EMAIL"));
    let account = ca_file("account.key").map_or(TreeAccount::Unknown, |key| {
        let url = value(ca_settings, "ACCOUNT_URL").map(str::to_owned);
        TreeAccount::judged(RawAccount { url, key }, &server)
    });
    Ok(Finding {
        certificate,
        chain: tree.get(&format!("{folder}/ca.cer")).map(str::to_owned),
        private_key,
        first_name: Some(domain.to_owned()),
        server,
        email: email.map(str::to_owned),
        account,
        other_challenge: other_challenge(value(settings, "Le_Webroot")),
    })
}

/// `ca/<host>/<path>`; the port is no part of it.
fn ca_folder(server: &ServerUrl) -> Option<String> {
    let url = Url::parse(server.as_str()).ok()?;
    Some(format!("ca/{}{}", url.host_str()?, url.path().trim_end_matches('/')))
}

/// How acme.sh proved the names, unless that was DNS-01: `Le_Webroot` names a DNS script for each name, or a folder, or
/// the web server.
fn other_challenge(ways: Option<&str>) -> Option<String> {
    let other = ways?.split(',').find(|way| !way.is_empty() && !way.starts_with("dns"))?;
    Some(if other == "alpn" { "TLS-ALPN-01" } else { "HTTP-01" }.to_owned())
}

/// The value of a line `NAME='value'`.
fn value<'t>(text: &'t str, wanted: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(wanted)?.strip_prefix('=')?.trim();
        let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value);
        (!value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_is_no_dns_script_is_told() {
        let told = |ways| other_challenge(Some(ways));
        assert_eq!((told("dns_ionos"), told("dns"), told("dns_cf,dns_ionos")), (None, None, None));
        assert_eq!(told("no"), Some("HTTP-01".to_owned()));
        assert_eq!(told("dns_cf,/var/www"), Some("HTTP-01".to_owned()));
        assert_eq!(told("alpn"), Some("TLS-ALPN-01".to_owned()));
    }
}
