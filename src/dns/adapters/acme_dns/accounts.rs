//! The file of accounts: a JSON object of names and what acme-dns answered when it made the account of each, as
//! goacmedns keeps it, so that lego's file serves as it is. It is read anew at each use, and what autocertd does not know in
//! it stays.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use crate::dns::error::DnsError;
use crate::domain::value::adapter_name::AdapterName;
use crate::runtime::atomic_file::AtomicFile;
use crate::runtime::files;

/// The accounts of one adapter.
pub(super) struct AccountsFile {
    adapter: AdapterName,
    path: PathBuf,
}

/// One account, which may change the values at one name.
pub(super) struct AcmeDnsAccount {
    /// In lower case, without a trailing dot.
    pub(super) name: String,
    /// The first label of the name, as the server knows it.
    pub(super) subdomain: String,
    /// The headers that prove who asks; no log prints them.
    pub(super) credentials: HeaderMap,
}

impl AcmeDnsAccount {
    /// The account that the server described; `None` where something is missing, or is what no header can carry.
    pub(super) fn from_json(described: &Map<String, Value>) -> Option<Self> {
        let text = |key: &str| described.get(key)?.as_str().filter(|text| !text.is_empty());
        let mut credentials = HeaderMap::new();
        for (header, key) in [("x-api-user", "username"), ("x-api-key", "password")] {
            // A header would carry more than these; no user name or password of acme-dns has it.
            let plain = text(key).filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))?;
            let mut value = HeaderValue::from_str(plain).ok()?;
            value.set_sensitive(true);
            credentials.insert(header, value);
        }
        let name = text("fulldomain")?.trim_end_matches('.').to_lowercase();
        Some(Self { name, subdomain: text("subdomain")?.to_owned(), credentials })
    }
}

impl AccountsFile {
    pub(super) const fn new(adapter: AdapterName, path: PathBuf) -> Self {
        Self { adapter, path }
    }

    /// The account whose name is that of a record.
    pub(super) async fn account_for_record(&self, name: &str) -> Result<AcmeDnsAccount, DnsError> {
        let accounts = self.load().await?;
        let mut known = accounts.values().filter_map(|described| AcmeDnsAccount::from_json(described.as_object()?));
        known
            .find(|account| account.name == name)
            .ok_or_else(|| DnsError::Unregistered { adapter: self.adapter.clone(), name: name.to_owned() })
    }

    /// The account of a domain, and whether it is new: where there is none, that which `make` describes. It is in the file
    /// before anybody hears of it. Waits where another process makes one at the same time.
    pub(super) async fn find_or_register<F>(
        &self,
        domain: &str,
        make: impl FnOnce() -> F,
    ) -> Result<(AcmeDnsAccount, bool), DnsError>
    where
        F: Future<Output = Result<(AcmeDnsAccount, Map<String, Value>), DnsError>>,
    {
        let _turn = self.lock_folder().await?;
        let mut accounts = self.load().await?;
        let known = accounts.iter().find(|(name, _)| name.eq_ignore_ascii_case(domain));
        if let Some((name, described)) = known {
            let account = described.as_object().and_then(AcmeDnsAccount::from_json);
            // It may be what the CNAME leads to.
            let unreadable =
                || self.setting_error(format!("its entry {name} lacks a field; mend or remove it by hand"));
            return account.map(|account| (account, false)).ok_or_else(unreadable);
        }
        // Before the call: an account that cannot be kept must not be made.
        self.write(None).await?;
        let (account, described) = make().await?;
        accounts.insert(domain.to_owned(), described.into());
        self.write(Some(format!("{:#}\n", Value::from(accounts)))).await?;
        Ok((account, true))
    }

    /// The lock under which the file is changed: that of its folder, since the file itself is replaced.
    async fn lock_folder(&self) -> Result<File, DnsError> {
        let folder = self.folder().to_owned();
        // Whoever has the lock may wait for the server of acme-dns.
        let locked = tokio::task::spawn_blocking(move || {
            let folder = File::open(folder)?;
            folder.lock()?;
            Ok(folder)
        });
        let locked: std::io::Result<File> = locked.await.unwrap_or_else(|error| Err(error.into()));
        locked.map_err(|error| {
            self.setting_error(format!("the folder of {} cannot be locked ({error})", self.path.display()))
        })
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// No file is one without accounts. No error quotes it.
    async fn load(&self) -> Result<Map<String, Value>, DnsError> {
        let path = self.path.display();
        let text = match files::read(&self.path).await {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
            Err(error) => return Err(self.setting_error(format!("{path} cannot be read ({error})"))),
        };
        serde_json::from_slice(text.strip_prefix(MARK).unwrap_or(&text)).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            self.setting_error(format!("{path} is no JSON object of acme-dns accounts (line {line}, column {column})"))
        })
    }

    /// Replaces the file; without a text it is only seen that this could be done.
    async fn write(&self, text: Option<String>) -> Result<(), DnsError> {
        let path = self.path.clone();
        let written = files::work(self.folder(), move || {
            let (draft, mut file) = AtomicFile::new_file(&path)?;
            let Some(text) = text else { return Ok(()) };
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
            draft.persist()
        });
        let written: std::io::Result<()> = written.await.flatten();
        written.map_err(|error| self.setting_error(format!("{} cannot be written ({error})", self.path.display())))
    }

    fn setting_error(&self, reason: String) -> DnsError {
        DnsError::Setting { setting: format!("{}.accounts_file", self.adapter.section()), reason }
    }
}

/// A file that some editors begin with a byte order mark is JSON behind it.
const MARK: &[u8] = b"\xef\xbb\xbf";
