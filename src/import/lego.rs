//! lego's tree: `certificates/<domain>.{crt,key,json,issuer.crt}` and `accounts/<host>/<id>/`. Up to version 4 an account's
//! id is its e-mail, its key lies in `keys/`, and the server's directory is nowhere, only its host: of well-known CAs it is
//! known here, of others the caller says it. From version 5 an account says its server, e-mail and URL, its key lies beside
//! that, and an id may be any word. Seen of version 4.9, and read in the source of 5.3.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::domain::value::email::Email;
use crate::import::account::{RawAccount, TreeAccount};
use crate::import::fault::Fault;
use crate::import::leftovers::KnownLeftover;
use crate::import::lineage::FoundCertificate;
use crate::import::servers::{LineageServer, host_and_port, known_directory, successor_directory};
use crate::import::{FileTree, ImportOverrides, pem};

/// What the tree says, by the names of lego's files.
pub(super) fn find_certificates(
    tree: &FileTree,
    overrides: &ImportOverrides,
) -> Vec<(String, Result<FoundCertificate, Fault>)> {
    let accounts = list_accounts(tree);
    let files = tree.paths_in("certificates").into_iter().filter_map(|path| path.strip_prefix("certificates/"));
    let of_file = |file: &'_ str| {
        let name = file.strip_suffix(".json").or_else(|| file.strip_suffix(".crt"))?;
        (!name.ends_with(".issuer")).then(|| name.to_owned())
    };
    let names: BTreeSet<String> = files.filter_map(of_file).collect();
    names.into_iter().map(|name| (name.clone(), read_certificate(tree, overrides, &accounts, &name))).collect()
}

fn read_certificate(
    tree: &FileTree,
    overrides: &ImportOverrides,
    accounts: &[LegoAccount],
    name: &str,
) -> Result<FoundCertificate, Fault> {
    let file = |ending: &str| format!("certificates/{name}.{ending}");
    let resource: Resource =
        tree.optional_text(&file("json")).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let certificate = tree.required_text(&file("crt"))?.to_owned();
    let chain = tree.optional_text(&file("issuer.crt")).map(str::to_owned);
    // The certificate with its key in one.
    tree.optional_text(&file("pem"));
    let private_key = pem::private_key(tree.required_text(&file("key"))?)?;
    let server = overrides.resolve_server(find_server(&resource.certificate_url.unwrap_or_default(), accounts))?;
    let (email, account) = find_account(tree, overrides, accounts, &server)?;
    let first_name = resource.domains.into_iter().flatten().next().or(resource.domain);
    Ok(FoundCertificate { certificate, chain, private_key, first_name, server, email, account, other_challenge: None })
}

/// The directory at which a certificate was ordered: that of a well-known CA, or what an account at the certificate's host
/// says, or the only one that there are accounts at.
fn find_server<'a>(certificate_url: &str, accounts: &'a [LegoAccount]) -> Option<&'a str> {
    if let Some(known) = known_directory(certificate_url) {
        return Some(known);
    }
    let host = host_and_port(certificate_url);
    let said = |account: &'a LegoAccount| account.file.server.as_deref().filter(|server| !server.is_empty());
    let at_host = accounts.iter().filter_map(said).filter(|server| host.is_some() && host_and_port(server) == host);
    single_value(at_host).or_else(|| {
        let all_say = accounts.iter().all(|account| said(account).is_some());
        single_value(accounts.iter().filter_map(said)).filter(|_| all_say)
    })
}

fn single_value<'a>(mut servers: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = servers.next()?;
    servers.all(|server| server == first).then_some(first)
}

/// The e-mail and the account at a server.
fn find_account(
    tree: &FileTree,
    overrides: &ImportOverrides,
    accounts: &[LegoAccount],
    server: &LineageServer,
) -> Result<(Option<String>, TreeAccount), Fault> {
    let is_wanted = |account: &&LegoAccount| {
        let email = overrides.email.as_ref().map(Email::as_str);
        account.is_at(server) && email.is_none_or(|email| account.id == email || account.email() == Some(email))
    };
    let candidates: Vec<&LegoAccount> = accounts.iter().filter(is_wanted).collect();
    match candidates[..] {
        [] => Ok((None, TreeAccount::Unknown)),
        [account] => Ok((account.email().map(str::to_owned), account.to_tree_account(tree, server))),
        // The certificate does not say which of them ordered it, and the e-mail is no help either.
        [first, ..] if overrides.email.is_some() || candidates.iter().all(|other| other.email() == first.email()) => {
            let ids: Vec<&str> = candidates.iter().map(|account| account.id.as_str()).collect();
            let reason = format!("several old ones have this contact ({})", ids.join(", "));
            Ok((first.email().map(str::to_owned), TreeAccount::Foreign { url: None, reason }))
        }
        _ => {
            let ids: Vec<&str> = candidates.iter().map(|account| account.id.as_str()).collect();
            Err(Fault::SeveralAccounts(ids.join(", ")))
        }
    }
}

/// The accounts of the tree, in the order of their folders.
fn list_accounts(tree: &FileTree) -> Vec<LegoAccount> {
    let of_host = |host: &str| -> Vec<LegoAccount> {
        let ids = tree.folders_in(&format!("accounts/{host}")).into_iter();
        ids.map(|id| {
            let folder = format!("accounts/{host}/{id}");
            let text = tree.peek(&format!("{folder}/account.json"));
            let file = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            LegoAccount { host: host.to_owned(), id: id.to_owned(), folder, file }
        })
        .collect()
    };
    tree.folders_in("accounts").into_iter().flat_map(of_host).collect()
}

/// An account of lego.
struct LegoAccount {
    /// The server's host, as lego writes it in the name of a folder.
    host: String,
    id: String,
    folder: String,
    file: AccountFile,
}

impl LegoAccount {
    /// An account that says its server is at that one; else its folder has the server's host.
    fn is_at(&self, server: &LineageServer) -> bool {
        match self.file.server.as_deref().filter(|server| !server.is_empty()) {
            Some(said) => server.addresses().any(|address| is_same_url(address, said)),
            None => server.addresses().any(|address| {
                host_and_port(address).is_some_and(|host| host.replace(':', "_") == self.host)
                    || directory_of_folder(&self.host) == Some(address)
            }),
        }
    }

    /// The contact; the id of an account without one is a word that lego made up.
    fn email(&self) -> Option<&str> {
        let email = if self.file.server.is_some() { self.file.email.as_deref() } else { Some(self.id.as_str()) };
        email.filter(|email| !email.is_empty() && *email != NO_EMAIL)
    }

    fn to_tree_account(&self, tree: &FileTree, server: &LineageServer) -> TreeAccount {
        tree.optional_text(&format!("{}/account.json", self.folder));
        let (folder, id) = (&self.folder, &self.id);
        let keys = [format!("{folder}/{id}.key"), format!("{folder}/keys/{id}.key")];
        let Some(key) = keys.iter().find_map(|path| tree.optional_text(path)) else { return TreeAccount::Unknown };
        TreeAccount::from_raw(
            RawAccount { url: self.file.registration.as_ref().and_then(Registration::url), key },
            &server.url,
        )
    }
}

fn is_same_url(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// The successor of the server whose host is the name of a folder.
fn directory_of_folder(host: &str) -> Option<&'static str> {
    successor_directory(&format!("https://{host}"))
}

pub(super) fn needs(path: &str) -> bool {
    let of_certificate =
        |name: &str| [".crt", ".key", ".json", ".pem"].into_iter().any(|ending| name.ends_with(ending));
    path.starts_with("accounts/") || path.strip_prefix("certificates/").is_some_and(of_certificate)
}

pub(super) const LEFTOVERS: &[KnownLeftover] = &[
    ("accounts/", "of an ACME account that orders none of these certificates"),
    ("archives/", "former certificates and keys"),
];

/// `<domain>.json`: version 4 has `domain`, version 5 `domains`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    domain: Option<String>,
    domains: Option<Vec<String>>,
    #[serde(rename = "certUrl")]
    certificate_url: Option<String>,
}

/// `account.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AccountFile {
    email: Option<String>,
    /// Since version 5.
    server: Option<String>,
    registration: Option<Registration>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Registration {
    /// Up to version 4.
    uri: Option<String>,
    /// Since version 5.
    #[serde(rename = "accountURL")]
    account_url: Option<String>,
}

impl Registration {
    fn url(&self) -> Option<String> {
        self.account_url.clone().or_else(|| self.uri.clone()).filter(|url| !url.is_empty())
    }
}

/// The id that lego gives to an account without a contact.
const NO_EMAIL: &str = "noemail@example.com";
