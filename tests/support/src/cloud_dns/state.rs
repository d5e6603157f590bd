//! What the Cloud DNS holds: zones, records, waiting faults and the log of requests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fault::{Fault, InjectedFault, take};
use super::forward::ForwardedZone;
use super::lifecycle::{Provisioning, RecordLifecycle};

/// A record as tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView {
    /// The id of the record.
    pub id: String,
    /// The id of its zone.
    pub zone: String,
    /// Its full name.
    pub fqdn: String,
    /// Its type.
    pub kind: String,
    /// Its content, raw.
    pub content: String,
    /// Its state at this moment.
    pub state: String,
    /// In seconds.
    pub ttl: u32,
}

/// A request that the API has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query as it was sent; empty where there was none.
    pub query: String,
}

#[derive(Default)]
pub(super) struct State(Mutex<StateInner>);

#[derive(Default)]
pub(super) struct StateInner {
    pub(super) zones: Vec<Zone>,
    pub(super) records: Vec<Record>,
    pub(super) forwards: Vec<ForwardedZone>,
    provisioning: Option<Provisioning>,
    faults: Vec<InjectedFault>,
    /// Names for which the name servers fail.
    pub(super) failing: Vec<String>,
    /// For how many seconds resolvers may remember that there is nothing. From the start not at all: nobody may remember
    /// what a test is about to change.
    pub(super) negative_ttl: u32,
    log: Vec<Request>,
    ids: u64,
}

#[derive(Clone)]
pub(super) struct Zone {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) enabled: bool,
}

#[derive(Clone)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) zone: String,
    pub(super) fields: Fields,
    pub(super) life: RecordLifecycle,
}

/// What a client says of a record.
#[derive(Clone)]
pub(super) struct Fields {
    /// Relative to the zone, in lower case, empty at its apex.
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) content: String,
    pub(super) ttl: u32,
    pub(super) enabled: bool,
}

impl State {
    pub(super) fn lock(&self) -> MutexGuard<'_, StateInner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_zone(&self, name: &str, enabled: bool) -> String {
        self.lock().add_zone(name, "", enabled)
    }

    pub(super) fn remove_zone(&self, id: &str) {
        self.lock().remove_zone(id);
    }

    pub(super) fn add_available_record(&self, zone: &str, name: &str, kind: &str, content: &str) -> String {
        let fields = Fields {
            name: name.to_lowercase(),
            kind: kind.to_uppercase(),
            content: content.to_owned(),
            ttl: DEFAULT_TTL,
            enabled: true,
        };
        self.lock().add_record(zone, fields, RecordLifecycle::start(Provisioning::Reads(0))).id
    }

    pub(super) fn records(&self) -> Vec<RecordView> {
        let held = self.lock();
        let view = |record: &Record| RecordView {
            id: record.id.clone(),
            zone: record.zone.clone(),
            fqdn: held.fqdn(record),
            kind: record.fields.kind.clone(),
            content: record.fields.content.clone(),
            state: record.life.state().to_owned(),
            ttl: record.fields.ttl,
        };
        held.records.iter().map(view).collect()
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.lock().log.clone()
    }

    pub(super) fn inject_fault(&self, times: usize, method: &str, path: &str, fault: Fault) {
        if times > 0 {
            self.lock().faults.push(InjectedFault { times, method: method.to_owned(), path: path.to_owned(), fault });
        }
    }

    pub(super) fn set_provisioning(&self, how: Provisioning) {
        self.lock().provisioning = Some(how);
    }

    /// Writes the request down and takes its fault.
    pub(super) fn take_fault(&self, request: Request) -> Option<Fault> {
        let mut held = self.lock();
        let fault = take(&mut held.faults, &request.method, &request.path);
        held.log.push(request);
        fault
    }
}

impl StateInner {
    pub(super) fn add_zone(&mut self, name: &str, description: &str, enabled: bool) -> String {
        let id = self.next_id();
        let (name, description) = (name.to_lowercase(), description.to_owned());
        self.zones.push(Zone { id: id.clone(), name, description, enabled });
        id
    }

    pub(super) fn remove_zone(&mut self, id: &str) {
        self.zones.retain(|zone| zone.id != id);
        self.records.retain(|record| record.zone != id);
    }

    pub(super) fn add_record(&mut self, zone: &str, fields: Fields, life: RecordLifecycle) -> Record {
        let record = Record { id: self.next_id(), zone: zone.to_owned(), fields, life };
        self.records.push(record.clone());
        record
    }

    /// The life of a record that a client creates.
    pub(super) fn new_lifecycle(&self, fault: Option<&Fault>) -> RecordLifecycle {
        match fault {
            Some(Fault::StayProvisioning) => RecordLifecycle::Stuck,
            Some(Fault::TurnFailed) => RecordLifecycle::Failed,
            Some(Fault::Destroying) => RecordLifecycle::Destroying,
            _ => RecordLifecycle::start(self.provisioning.unwrap_or(Provisioning::Reads(1))),
        }
    }

    pub(super) fn fqdn(&self, record: &Record) -> String {
        let zone = self.zones.iter().find(|zone| zone.id == record.zone).map_or("", |zone| &zone.name);
        if record.fields.name.is_empty() { zone.to_owned() } else { format!("{}.{zone}", record.fields.name) }
    }

    /// Ids look like those of the service, but count: a test that fails does so in the same way again.
    fn next_id(&mut self) -> String {
        self.ids += 1;
        uuid::Builder::from_random_bytes(u128::from(self.ids).to_be_bytes()).into_uuid().to_string()
    }
}

pub(super) const TOKEN: &str = "token-of-the-local-cloud-dns";
pub(super) const DEFAULT_TTL: u32 = 3_600;
/// The names of the name servers in `metadata.nameservers` and NS records; both lead to this machine.
pub(super) const NAMESERVERS: [&str; 2] = ["ns1.cloud-dns.test", "ns2.cloud-dns.test"];
