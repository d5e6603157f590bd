//! `acme-dns`: the HTTP API of joohoi/acme-dns, which holds nothing but challenge records. Each name has an account of its
//! own there, and `_acme-challenge.<name>` is a CNAME to the account's name. The two values that came last stand there;
//! there is no call that removes one.

mod accounts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde::de::Error;
use serde_json::{Map, Value, json};

use self::accounts::{AccountsFile, AcmeDnsAccount};
use crate::config::time_span::TimeSpan;
use crate::dns::adapter::{DnsAdapter, MAX_CONCURRENT_CALLS, RecordId, Registration, TxtRecord, Zone, ZoneId};
use crate::dns::adapters::AdapterContext;
use crate::dns::error::DnsError;
use crate::dns::http::{DnsService, ServiceBehaviour};
use crate::dns::lookup::DnsLookup;
use crate::dns::zone_finder::ZoneFinder;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::name::DnsName;
use crate::domain::value::text::RemoteMessage;
use crate::domain::value::zone_name::ZoneName;

/// `[dns.adapter.NAME]` of the type `acme-dns`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    /// The address of the API; `http` only on this machine.
    endpoint: String,
    /// The file that holds the accounts, as lego and goacmedns keep it: JSON.
    accounts_file: PathBuf,
    /// How long one call may take. Default `30s`.
    #[serde(default = "usual_timeout")]
    timeout: TimeSpan,
    /// The zone of all accounts' names. Default what the DNS says.
    zone: Option<ZoneName>,
}

/// Makes the adapter of these settings.
///
/// # Errors
/// [`DnsError::Setting`] where one of them cannot be used.
pub fn make(given: AdapterContext) -> Result<Arc<dyn DnsAdapter>, DnsError> {
    let section: Section = given.settings()?;
    let zones = given.zone_finder(section.zone);
    let accounts = AccountsFile::new(given.name.clone(), section.accounts_file);
    let address = (section.endpoint.as_str(), section.timeout);
    let service = DnsService::new(given.name, BEHAVIOUR, address, given.clock, given.randomness)?;
    Ok(Arc::new(AcmeDns { service, accounts, zones, lookup: given.lookup }))
}

struct AcmeDns {
    service: DnsService,
    accounts: AccountsFile,
    zones: ZoneFinder,
    lookup: DnsLookup,
}

#[async_trait]
impl DnsAdapter for AcmeDns {
    fn name(&self) -> &AdapterName {
        self.service.name()
    }

    async fn zone_for(&self, name: &str) -> Result<Zone, DnsError> {
        self.zones.of(name).await
    }

    async fn present(&self, _zone: &ZoneId, record: &TxtRecord) -> Result<RecordId, DnsError> {
        if !self.are_visible(&[record]).await {
            self.send(record).await?;
        }
        Ok(record_id(record))
    }

    async fn present_all(&self, _zone: &ZoneId, records: &[TxtRecord]) -> Vec<Result<RecordId, DnsError>> {
        let mut names: BTreeMap<&str, Vec<(usize, &TxtRecord)>> = BTreeMap::new();
        for (place, record) in records.iter().enumerate() {
            names.entry(&record.name).or_default().push((place, record));
        }
        let names: Vec<_> = names.into_values().map(|at_one_name| self.present_at_name(at_one_name)).collect();
        let mut presented = stream::iter(names).buffered(MAX_CONCURRENT_CALLS).concat().await;
        presented.sort_by_key(|(place, _)| *place);
        presented.into_iter().map(|(_, result)| result).collect()
    }

    /// There is nothing to call: a value goes when two others have come.
    async fn remove(&self, _zone: &ZoneId, _id: Option<&RecordId>, _record: &TxtRecord) -> Result<(), DnsError> {
        Ok(())
    }

    async fn register(&self, name: &DnsName) -> Result<Option<Registration>, DnsError> {
        let (account, is_new) = self.accounts.find_or_register(name.base(), || self.register_account()).await?;
        Ok(Some(Registration { target: account.name, is_new }))
    }
}

/// A result, and where it belongs.
type IndexedResult = (usize, Result<RecordId, DnsError>);

impl AcmeDns {
    /// Values that are to stand at one name together, each with its place.
    async fn present_at_name(&self, wanted: Vec<(usize, &TxtRecord)>) -> Vec<IndexedResult> {
        let (places, records): (Vec<usize>, Vec<&TxtRecord>) = wanted.into_iter().unzip();
        let sent: Vec<Result<u32, DnsError>> = if records.len() > VALUES_PER_NAME {
            records.iter().map(|record| Err(self.too_many_values(record, records.len()))).collect()
        } else if self.are_visible(&records).await {
            records.iter().map(|_| Ok(0)).collect()
        } else {
            self.send_all(&records).await
        };
        let results = sent.into_iter().zip(records).map(|(sent, record)| sent.map(|_| record_id(record)));
        places.into_iter().zip(results).collect()
    }

    /// Sends values one after the other. Where one was sent again, both of its calls may have counted, and the second
    /// may have taken the place of another value: then all are sent once more.
    async fn send_all(&self, records: &[&TxtRecord]) -> Vec<Result<u32, DnsError>> {
        let mut sent = self.send_each(records).await;
        for _ in 1..MAX_PASSES {
            let is_sure = sent.iter().all(|sent| matches!(sent, Ok(1) | Err(_)));
            if is_sure || records.len() == 1 {
                break;
            }
            tokio::time::sleep(UPDATE_INTERVAL).await;
            sent = self.send_each(records).await;
        }
        sent
    }

    async fn send_each(&self, records: &[&TxtRecord]) -> Vec<Result<u32, DnsError>> {
        let mut sent = Vec::new();
        for record in records {
            sent.push(self.send(record).await);
        }
        sent
    }

    /// Sends a value, and says how many calls that took.
    async fn send(&self, record: &TxtRecord) -> Result<u32, DnsError> {
        let account = self.accounts.account_for_record(&record.name).await?;
        let mut calls = 0;
        let attempt = || {
            calls += 1;
            self.update(&account, &record.content)
        };
        self.service.with_retries(attempt).await?;
        Ok(calls)
    }

    async fn update(&self, account: &AcmeDnsAccount, value: &str) -> Result<(), DnsError> {
        let body = json!({ "subdomain": account.subdomain, "txt": value });
        let complete = |request: RequestBuilder| request.headers(account.credentials.clone()).json(&body);
        self.service.call(Method::POST, &["update"], complete).await?;
        Ok(())
    }

    /// Whether the values stand there already, as after a crash. What cannot be seen does not.
    async fn are_visible(&self, at_one_name: &[&TxtRecord]) -> bool {
        let Some(first) = at_one_name.first() else { return true };
        let shown = self.lookup.txt(&first.name).await.unwrap_or_default();
        at_one_name.iter().all(|record| shown.contains(&record.content))
    }

    /// Has the server make an account; what it said of it is to be kept.
    async fn register_account(&self) -> Result<(AcmeDnsAccount, Map<String, Value>), DnsError> {
        let complete = |request: RequestBuilder| request.json(&json!({}));
        let (call, body) = self.service.call(Method::POST, &["register"], complete).await?;
        let read = serde_json::from_slice(&body).and_then(|mut described: Map<String, Value>| {
            described.insert("server_url".to_owned(), self.service.endpoint().to_string().into());
            let account =
                AcmeDnsAccount::from_json(&described).ok_or_else(|| Error::custom("it describes no account"))?;
            Ok((account, described))
        });
        read.map_err(|source| DnsError::Unreadable { adapter: self.name().clone(), call, source })
    }

    fn too_many_values(&self, record: &TxtRecord, wanted: usize) -> DnsError {
        DnsError::TooManyValues {
            adapter: self.name().clone(),
            name: record.name.clone(),
            wanted,
            kept: VALUES_PER_NAME,
        }
    }
}

/// The service gives no ids.
fn record_id(record: &TxtRecord) -> RecordId {
    record.name.clone().into()
}

/// The words of `{"error": "forbidden"}`.
fn error_message(body: &[u8]) -> RemoteMessage {
    let words = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|body| Some(RemoteMessage::new(body.get("error")?.as_str()?)));
    words.unwrap_or_default()
}

const fn usual_timeout() -> TimeSpan {
    TimeSpan::seconds(30)
}

const BEHAVIOUR: ServiceBehaviour = ServiceBehaviour {
    read_message: error_message,
    unauthorized_remedy: "look whether accounts_file has the account as the server gave it, and whether the server lets this \
                   machine's address update it (allowfrom)",
    first_pause: UPDATE_INTERVAL,
};

/// Values that stand at one name.
const VALUES_PER_NAME: usize = 2;
/// acme-dns tells the older of two values by the second in which each came; of the same second it may take either.
const UPDATE_INTERVAL: Duration = Duration::from_millis(1_100);
const MAX_PASSES: usize = 3;
