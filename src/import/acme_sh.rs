//! acme.sh's tree: a folder `<domain>` or `<domain>_ecc` for each certificate, with `<domain>.conf` in it, and
//! `ca/<host>/<path>/` with the account at each CA. Seen of version 3.1.

use url::Url;

use crate::import::account::{RawAccount, TreeAccount};
use crate::import::fault::Fault;
use crate::import::leftovers::KnownLeftover;
use crate::import::lineage::FoundCertificate;
use crate::import::servers::LineageServer;
use crate::import::{FileTree, ImportOverrides, pem};

/// What the tree says, by the names of the folders.
pub(super) fn find_certificates(
    tree: &FileTree,
    overrides: &ImportOverrides,
) -> Vec<(String, Result<FoundCertificate, Fault>)> {
    let with_settings = tree.folders_in("").into_iter().filter_map(|folder| {
        let domain = folder.strip_suffix("_ecc").unwrap_or(folder);
        match tree.required_text(&format!("{folder}/{domain}.conf")) {
            // A folder of something else.
            Err(Fault::Missing(_)) => None,
            settings => {
                let finding = settings.and_then(|settings| read_certificate(tree, overrides, folder, domain, settings));
                Some((folder.to_owned(), finding))
            }
        }
    });
    with_settings.collect()
}

fn read_certificate(
    tree: &FileTree,
    overrides: &ImportOverrides,
    folder: &str,
    domain: &str,
    settings: &str,
) -> Result<FoundCertificate, Fault> {
    let certificate = tree.required_text(&format!("{folder}/{domain}.cer"))?.to_owned();
    let private_key = pem::private_key(tree.required_text(&format!("{folder}/{domain}.key"))?)?;
    let server = overrides.resolve_server(setting(settings, "Le_API"))?;
    // The certificate with its chain in one.
    tree.optional_text(&format!("{folder}/fullchain.cer"));
    let ca = ca_folder(tree, &server);
    let ca_file = |name: &str| tree.optional_text(&format!("{}/{name}", ca.as_deref()?));
    ca_file("account.json");
    let ca_settings = ca_file("ca.conf").unwrap_or_default();
    let email = setting(ca_settings, "CA_EMAIL")
        .or_else(|| setting(tree.optional_text("account.conf").unwrap_or_default(), "ACCOUNT_EMAIL"));
    let account = ca_file("account.key").map_or(TreeAccount::Unknown, |key| {
        let url = setting(ca_settings, "ACCOUNT_URL").map(str::to_owned);
        TreeAccount::from_raw(RawAccount { url, key }, &server.url)
    });
    Ok(FoundCertificate {
        certificate,
        chain: tree.optional_text(&format!("{folder}/ca.cer")).map(str::to_owned),
        private_key,
        first_name: Some(domain.to_owned()),
        server,
        email: email.map(str::to_owned),
        account,
        other_challenge: other_challenge(setting(settings, "Le_Webroot")),
    })
}

/// `ca/<host>/<path>`, before version 2.9 `ca/<host>`; the port is no part of it.
fn ca_folder(tree: &FileTree, server: &LineageServer) -> Option<String> {
    let folders = |address: &str| {
        let url = Url::parse(address).ok()?;
        let host = url.host_str()?;
        Some([format!("ca/{host}{}", url.path().trim_end_matches('/')), format!("ca/{host}")])
    };
    let mut folders = server.addresses().filter_map(folders).flatten();
    folders.find(|folder| tree.paths_in(folder).contains(&format!("{folder}/account.key").as_str()))
}

/// How acme.sh proved the names, unless that was DNS-01: `Le_Webroot` names a DNS script for each name, or a folder, or
/// the web server.
fn other_challenge(ways: Option<&str>) -> Option<String> {
    let other = ways?.split(',').find(|way| !way.is_empty() && !way.starts_with("dns"))?;
    Some(if other == "alpn" { "TLS-ALPN-01" } else { "HTTP-01" }.to_owned())
}

/// `account.conf`, what is in the folders of certificates and of accounts; acme.sh itself and its scripts lie beside these.
pub(super) fn needs(path: &str) -> bool {
    let of_certificate = [".conf", ".cer", ".key"].into_iter().any(|ending| path.ends_with(ending));
    path == "account.conf" || path.starts_with("ca/") || (of_certificate && path.matches('/').count() == 1)
}

pub(super) const LEFTOVERS: &[KnownLeftover] = &[
    ("ca/", "of an ACME account that orders none of these certificates"),
    ("dnsapi/", "scripts of acme.sh"),
    ("deploy/", "scripts of acme.sh"),
    ("notify/", "scripts of acme.sh"),
    ("acme.sh", "acme.sh itself"),
    ("http.header", "notes of acme.sh on its last request"),
];

/// The value of a line `NAME='value'`.
fn setting<'t>(text: &'t str, wanted: &str) -> Option<&'t str> {
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
