//! lego's tree: `certificates/<domain>.{crt,key,json,issuer.crt}` and `accounts/<host>/<e-mail>/`. The directory of the
//! server is nowhere in it, only its host: of well-known CAs it is known here, of others the caller says it. Seen of
//! version 4.9.

use std::collections::BTreeSet;

use serde::Deserialize;
use url::Url;

use crate::domain::server_url::ServerUrl;
use crate::import::account::{RawAccount, TreeAccount};
use crate::import::lineage::{Fault, Finding};
use crate::import::{Overrides, Tree, pem};

/// What the tree says, by the names of lego's files.
pub(super) fn findings(tree: &Tree, overrides: &Overrides) -> Vec<(String, Result<Finding, Fault>)> {
    let files = tree.files().filter_map(|(path, _)| path.strip_prefix("certificates/"));
    let of_file = |file: &'_ str| {
        let name = file.strip_suffix(".json").or_else(|| file.strip_suffix(".crt"))?;
        (!name.ends_with(".issuer")).then(|| name.to_owned())
    };
    let names: BTreeSet<String> = files.filter_map(of_file).collect();
    names.into_iter().map(|name| (name.clone(), finding(tree, overrides, &name))).collect()
}

fn finding(tree: &Tree, overrides: &Overrides, name: &str) -> Result<Finding, Fault> {
    let file = |ending: &str| format!("certificates/{name}.{ending}");
    let resource: Resource =
        tree.get(&file("json")).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let certificate = tree.text(&file("crt"))?.to_owned();
    let private_key = pem::private_key(tree.text(&file("key"))?)?;
    let server = overrides.server_or(directory_of(&resource.certificate_url))?;
    let (email, account) = account(tree, overrides, &server)?;
    Ok(Finding {
        certificate,
        chain: tree.get(&file("issuer.crt")).map(str::to_owned),
        private_key,
        first_name: Some(resource.domain),
        server,
        email,
        account,
        other_challenge: None,
    })
}

/// The e-mail and the account at a server.
fn account(tree: &Tree, overrides: &Overrides, server: &ServerUrl) -> Result<(Option<String>, TreeAccount), Fault> {
    let Some(host) = host_of(server.as_str()) else { return Ok((None, TreeAccount::Unknown)) };
    let folder = format!("accounts/{}", host.replace(':', "_"));
    let emails = tree.folders_in(&folder);
    let email = match (&overrides.email, emails.as_slice()) {
        (Some(email), _) => email.as_str(),
        (None, []) => return Ok((None, TreeAccount::Unknown)),
        (None, [email]) => email,
        (None, several) => return Err(Fault::SeveralAccounts(several.join(", "))),
    };
    let key = tree.get(&format!("{folder}/{email}/keys/{email}.key"));
    let account = key.map_or(TreeAccount::Unknown, |key| {
        let text = tree.get(&format!("{folder}/{email}/account.json")).unwrap_or_default();
        let url = serde_json::from_str::<Account>(text).ok().map(|account| account.registration.uri);
        TreeAccount::judged(RawAccount { url, key }, server)
    });
    Ok((Some(email.to_owned()), account))
}

/// The directory of a well-known CA, by a URL at it.
fn directory_of(url: &str) -> Option<&'static str> {
    let host = host_of(url)?;
    DIRECTORIES.into_iter().find(|directory| host_of(directory).as_ref() == Some(&host))
}

/// Host and port, as far as the URL names one.
fn host_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// `<domain>.json`.
#[derive(Default, Deserialize)]
struct Resource {
    #[serde(default)]
    domain: String,
    #[serde(default, rename = "certUrl")]
    certificate_url: String,
}

/// `account.json`.
#[derive(Deserialize)]
struct Account {
    registration: Registration,
}

#[derive(Deserialize)]
struct Registration {
    uri: String,
}

const DIRECTORIES: [&str; 5] = [
    "https://acme-v02.api.letsencrypt.org/directory",
    "https://acme-staging-v02.api.letsencrypt.org/directory",
    "https://acme.zerossl.com/v2/DV90",
    "https://dv.acme-v02.api.pki.goog/directory",
    "https://api.buypass.com/acme/directory",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_known_by_its_host_alone() {
        let of = |url| directory_of(url);
        assert_eq!(of("https://acme-v02.api.letsencrypt.org/acme/cert/03ab"), Some(DIRECTORIES[0]));
        assert_eq!(of("https://localhost:14000/certZ/1"), None);
        assert_eq!(of("https://acme-v02.api.letsencrypt.org:8443/x"), None);
        assert_eq!(of(""), None);
    }
}
