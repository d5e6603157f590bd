//! certbot's tree: `renewal/<name>.conf` says how, `live/<name>/` links to the present files, and
//! `accounts/<host>/<path>/<id>/` has the accounts. Seen of versions 2.1 and, in the same form, since 0.10. Settings of that
//! age may name `ACMEv1` addresses; certbot renews these at their successors too.

use serde::Deserialize;

use crate::import::account::{RawAccount, TreeAccount};
use crate::import::fault::Fault;
use crate::import::leftovers::KnownLeftover;
use crate::import::lineage::FoundCertificate;
use crate::import::servers::LineageServer;
use crate::import::{FileTree, ImportOverrides, pem};

/// What the tree says, by the names of the lineages. A folder in `live/` without its settings is one that certbot would
/// not renew either.
pub(super) fn find_certificates(
    tree: &FileTree,
    overrides: &ImportOverrides,
) -> Vec<(String, Result<FoundCertificate, Fault>)> {
    let settings = tree.paths_in("renewal").into_iter();
    let settings = settings.filter_map(|path| path.strip_prefix("renewal/")?.strip_suffix(".conf"));
    let mut names: Vec<&str> = settings.chain(tree.folders_in("live")).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (name.to_owned(), read_certificate(tree, overrides, name))).collect()
}

fn read_certificate(tree: &FileTree, overrides: &ImportOverrides, name: &str) -> Result<FoundCertificate, Fault> {
    let settings = tree.required_text(&format!("renewal/{name}.conf"))?;
    let certificate = tree.required_text(&format!("live/{name}/cert.pem"))?.to_owned();
    let chain = tree.required_text(&format!("live/{name}/chain.pem"))?.to_owned();
    let path = format!("live/{name}/privkey.pem");
    let private_key = pem::private_key(tree.required_text(&path)?)?;
    // The two others in one.
    tree.optional_text(&format!("live/{name}/fullchain.pem"));
    let server = overrides.resolve_server(setting(settings, "server"))?;
    let folder = setting(settings, "account").and_then(|id| account_folder(tree, &server, id));
    let account_file = |name: &str| tree.optional_text(&format!("{}/{name}", folder.as_deref()?));
    let registration: Option<Registration> = account_file("regr.json").and_then(|text| serde_json::from_str(text).ok());
    account_file("meta.json");
    let email = registration
        .as_ref()
        .and_then(|registration| registration.body.contact.iter().find_map(|contact| contact.strip_prefix("mailto:")))
        .or_else(|| tree.optional_text("cli.ini").and_then(|text| setting(text, "email")));
    let key = account_file("private_key.json");
    Ok(FoundCertificate {
        certificate,
        chain: Some(chain),
        private_key,
        first_name: Some(name.to_owned()),
        email: email.map(str::to_owned),
        account: key.map_or(TreeAccount::Unknown, |key| {
            let url = registration.as_ref().map(|registration| registration.uri.clone());
            TreeAccount::from_raw(RawAccount { url, key }, &server.url)
        }),
        server,
        other_challenge: other_challenge(settings),
    })
}

/// `accounts/<host and port>/<path>/<id>`, out of the server's URL: today's, or that under which the account was made.
fn account_folder(tree: &FileTree, server: &LineageServer, id: &str) -> Option<String> {
    let folder = |url: &str| Some(format!("accounts/{}/{id}", url.split_once("://")?.1.trim_end_matches('/')));
    server.addresses().filter_map(folder).find(|folder| !tree.paths_in(folder).is_empty())
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

/// Not the former certificates and keys, which links in `live/` lead to where they are in use.
pub(super) fn needs(path: &str) -> bool {
    let in_renewal = path.strip_prefix("renewal/").and_then(|name| name.strip_suffix(".conf")).is_some();
    in_renewal || path == "cli.ini" || path.starts_with("live/") || path.starts_with("accounts/")
}

pub(super) const LEFTOVERS: &[KnownLeftover] = &[
    ("archive/", "former certificates and keys, to which nothing in live/ links"),
    ("csr/", "signing requests; autocertd makes its own"),
    ("keys/", "keys of former orders"),
    ("accounts/", "of an ACME account that orders none of these certificates"),
    ("renewal-hooks/", "hooks of certbot; give the delivery a reload or a hook instead"),
    ("live/README", "an explanation of certbot's"),
];

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
