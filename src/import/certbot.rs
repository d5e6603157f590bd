//! certbot's tree: `renewal/<name>.conf` says how, `live/<name>/` links to the present files, and
//! `accounts/<host>/<path>/<id>/` has the accounts. Seen of versions 2.1 and, in the same form, since 0.10.

use serde::Deserialize;

use crate::domain::server_url::ServerUrl;
use crate::import::account::{RawAccount, TreeAccount};
use crate::import::lineage::{Fault, Finding};
use crate::import::{Overrides, Tree, pem};

/// What the tree says, by the names of the lineages. A folder in `live/` without its settings is one that certbot would
/// not renew either.
pub(super) fn findings(tree: &Tree, overrides: &Overrides) -> Vec<(String, Result<Finding, Fault>)> {
    let settings = tree.files().filter_map(|(path, _)| path.strip_prefix("renewal/")?.strip_suffix(".conf"));
    let mut names: Vec<&str> = settings.chain(tree.folders_in("live")).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (name.to_owned(), finding(tree, overrides, name))).collect()
}

fn finding(tree: &Tree, overrides: &Overrides, name: &str) -> Result<Finding, Fault> {
    let settings = tree.text(&format!("renewal/{name}.conf"))?;
    let certificate = tree.text(&format!("live/{name}/cert.pem"))?.to_owned();
    let chain = tree.text(&format!("live/{name}/chain.pem"))?.to_owned();
    let path = format!("live/{name}/privkey.pem");
    let private_key = pem::private_key(tree.text(&path)?)?;
    let server = overrides.server_or(setting(settings, "server"))?;
    let folder = setting(settings, "account").and_then(|id| account_folder(&server, id));
    let registration: Option<Registration> =
        folder.as_ref().and_then(|folder| serde_json::from_str(tree.get(&format!("{folder}/regr.json"))?).ok());
    let email = registration
        .as_ref()
        .and_then(|registration| registration.body.contact.iter().find_map(|contact| contact.strip_prefix("mailto:")))
        .or_else(|| tree.get("cli.ini").and_then(|text| setting(text, "email")));
    let key = folder.as_ref().and_then(|folder| tree.get(&format!("{folder}/private_key.json")));
    Ok(Finding {
        certificate,
        chain: Some(chain),
        private_key,
        first_name: Some(name.to_owned()),
        email: email.map(str::to_owned),
        account: key.map_or(TreeAccount::Unknown, |key| {
            let url = registration.as_ref().map(|registration| registration.uri.clone());
            TreeAccount::judged(RawAccount { url, key }, &server)
        }),
        server,
        other_challenge: other_challenge(settings),
    })
}

/// `accounts/<host and port>/<path>/<id>`, out of the server's URL.
fn account_folder(server: &ServerUrl, id: &str) -> Option<String> {
    let (_, place) = server.as_str().split_once("://")?;
    Some(format!("accounts/{}/{id}", place.trim_end_matches('/')))
}

/// How certbot proved the names, unless that was DNS-01.
fn other_challenge(settings: &str) -> Option<String> {
    let preferred = setting(settings, "pref_challs").unwrap_or_default();
    let authenticator = setting(settings, "authenticator").unwrap_or_default();
    let by_web_server = matches!(authenticator, "webroot" | "standalone" | "nginx" | "apache");
    (preferred.contains("http-01") || by_web_server).then(|| "HTTP-01".to_owned())
}

/// The value of a setting; certbot writes no setting twice.
fn setting<'t>(text: &'t str, wanted: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == wanted && !value.trim().is_empty()).then(|| value.trim())
    })
}

/// `regr.json`.
#[derive(Deserialize)]
struct Registration {
    uri: String,
    #[serde(default)]
    body: Body,
}

#[derive(Default, Deserialize)]
struct Body {
    #[serde(default)]
    contact: Vec<String>,
}
