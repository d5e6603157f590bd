//! dehydrated's tree: `certs/<name>/` and `accounts/<the server's URL in base64url>/`. A certificate does not say who
//! issued it; where the tree has accounts at several servers the caller says it. Seen of version 0.7.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::import::account::{RawAccount, TreeAccount};
use crate::import::fault::Fault;
use crate::import::leftovers::KnownLeftover;
use crate::import::lineage::FoundCertificate;
use crate::import::servers::successor_directory;
use crate::import::{FileTree, ImportOverrides, pem};

/// What the tree says, by the names of the folders.
pub(super) fn find_certificates(
    tree: &FileTree,
    overrides: &ImportOverrides,
) -> Vec<(String, Result<FoundCertificate, Fault>)> {
    let accounts = accounts(tree);
    let folders = tree.folders_in("certs").into_iter();
    folders.map(|name| (name.to_owned(), read_certificate(tree, overrides, &accounts, name))).collect()
}

fn read_certificate(
    tree: &FileTree,
    overrides: &ImportOverrides,
    accounts: &[(String, String)],
    name: &str,
) -> Result<FoundCertificate, Fault> {
    let certificate = tree.required_text(&format!("certs/{name}/cert.pem"))?.to_owned();
    let chain = tree.optional_text(&format!("certs/{name}/chain.pem")).map(str::to_owned);
    let private_key = pem::private_key(tree.required_text(&format!("certs/{name}/privkey.pem"))?)?;
    // The chain behind the certificate in one.
    tree.optional_text(&format!("certs/{name}/fullchain.pem"));
    let server = overrides.resolve_server(only_server(accounts))?;
    let of_server = |address: &str| accounts.iter().find(|(url, _)| url == address).map(|(_, folder)| folder);
    let folder = server.addresses().find_map(of_server);
    let account_file = |name: &str| tree.optional_text(&format!("{}/{name}", folder?));
    let registration: Registration =
        account_file("registration_info.json").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let email = registration.contact.iter().find_map(|contact| contact.strip_prefix("mailto:"));
    let account = account_file("account_key.pem").map_or(TreeAccount::Unknown, |key| {
        let id = account_file("account_id.json").and_then(|text| serde_json::from_str::<AccountId>(text).ok());
        TreeAccount::from_raw(RawAccount { url: id.map(|id| id.url), key }, &server.url)
    });
    Ok(FoundCertificate {
        certificate,
        chain,
        private_key,
        first_name: first_name(tree, name),
        email: email.map(str::to_owned),
        account,
        other_challenge: other_challenge(tree.optional_text("config").unwrap_or_default()),
        server,
    })
}

/// The server, where all accounts are at one: an account that began with `ACMEv1` is at its successor.
fn only_server(accounts: &[(String, String)]) -> Option<&str> {
    let (first, _) = accounts.first()?;
    let present = |url: &str| successor_directory(url).unwrap_or(url).to_owned();
    accounts.iter().all(|(url, _)| present(url) == present(first)).then_some(first)
}

/// The servers at which there are accounts, each with the folder of its account.
fn accounts(tree: &FileTree) -> Vec<(String, String)> {
    let of_folder = |folder: &str| {
        let url = String::from_utf8(URL_SAFE_NO_PAD.decode(folder.trim_end_matches('=')).ok()?).ok()?;
        // dehydrated encodes the line with its end.
        Some((url.trim().to_owned(), format!("accounts/{folder}")))
    };
    tree.folders_in("accounts").into_iter().filter_map(of_folder).collect()
}

/// The first name of the line of `domains.txt` that this certificate is for: the one whose alias or first name it has.
fn first_name(tree: &FileTree, name: &str) -> Option<String> {
    let mut lines = tree.optional_text("domains.txt").unwrap_or_default().lines();
    let of_line = |line: &str| {
        let (names, alias) =
            line.split('#').next()?.split_once('>').map_or((line, None), |(names, alias)| (names, Some(alias)));
        let first = names.split_whitespace().next()?;
        (alias.map_or(first, str::trim) == name).then(|| first.to_owned())
    };
    lines.find_map(of_line).or_else(|| Some(name.to_owned()))
}

/// How dehydrated proves names, where its settings are in the tree and say another way than DNS-01.
fn other_challenge(settings: &str) -> Option<String> {
    let value = settings.lines().filter_map(|line| line.trim().strip_prefix("CHALLENGETYPE=")).next_back()?;
    let value = value.trim_matches(['"', '\'']);
    (value != "dns-01").then(|| value.to_uppercase())
}

/// Not the former certificates and keys, which have the time in their names; links lead to those in use.
pub(super) fn needs(path: &str) -> bool {
    let in_use = ["cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"];
    let of_certificate = |rest: &str| rest.split_once('/').is_some_and(|(_, file)| in_use.contains(&file));
    path.strip_prefix("certs/").is_some_and(of_certificate)
        || path.starts_with("accounts/")
        || matches!(path, "config" | "domains.txt")
}

pub(super) const LEFTOVERS: &[KnownLeftover] = &[
    ("accounts/", "of an ACME account that orders none of these certificates"),
    ("archive/", "former certificates and keys"),
    ("chains/", "chains that dehydrated keeps for itself"),
    ("hook", "a hook of dehydrated; give the delivery a reload or a hook instead"),
];

/// `registration_info.json`.
#[derive(Default, Deserialize)]
struct Registration {
    #[serde(default)]
    contact: Vec<String>,
}

/// `account_id.json`.
#[derive(Deserialize)]
struct AccountId {
    url: String,
}
