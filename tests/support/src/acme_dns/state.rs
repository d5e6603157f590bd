//! What acme-dns holds: accounts with their values, waiting faults and the log of requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// An account as `POST /register` describes it.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// A UUID.
    pub username: String,
    /// 40 characters.
    pub password: String,
    /// The name of its records.
    pub fulldomain: String,
    /// The first label of that.
    pub subdomain: String,
    /// The networks that may use it; none means all.
    pub allowfrom: Vec<String>,
}

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Not carried out, this status with an error body.
    Status(u16),
    /// Not carried out, 429 with this `Retry-After`.
    TooManyRequests(&'static str),
    /// Carried out, and the connection cut within the answer.
    CutAfter,
    /// Carried out, and answered with a body that is no JSON.
    NotJson,
    /// Carried out after so much time.
    Slow(Duration),
}

pub(super) struct State {
    pub(super) zone: String,
    started: Instant,
    inner: Mutex<StateInner>,
}

#[derive(Default)]
struct StateInner {
    accounts: Vec<(Account, [StoredValue; VALUES_PER_ACCOUNT])>,
    faults: Vec<(usize, String, Fault)>,
    log: Vec<String>,
}

/// A value, and the second in which it came.
#[derive(Clone, Default)]
struct StoredValue {
    text: String,
    second: u64,
}

impl State {
    pub(super) fn new(zone: &str) -> Self {
        Self { zone: zone.to_lowercase(), started: Instant::now(), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, StateInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names and passwords count: a test that fails does so in the same way again.
    pub(super) fn register(&self) -> Account {
        let mut held = self.lock();
        let number = held.accounts.len() as u128 + 1;
        let id = |bytes: u128| uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid().to_string();
        let subdomain = id(number << 32);
        let account = Account {
            username: id(number),
            password: format!("password-of-the-account-{number:016}"),
            fulldomain: format!("{subdomain}.{}", self.zone),
            subdomain,
            allowfrom: Vec::new(),
        };
        held.accounts.push((account.clone(), Default::default()));
        account
    }

    pub(super) fn accounts(&self) -> usize {
        self.lock().accounts.len()
    }

    /// The values at a name; `None` where no account has it.
    pub(super) fn values(&self, name: &str) -> Option<Vec<String>> {
        let held = self.lock();
        let (_, values) = held.accounts.iter().find(|(account, _)| account.fulldomain.eq_ignore_ascii_case(name))?;
        Some(values.iter().map(|value| value.text.clone()).filter(|text| !text.is_empty()).collect())
    }

    /// The account that these credentials open.
    pub(super) fn authenticate(&self, username: &str, password: &str) -> Option<Account> {
        let held = self.lock();
        let mut accounts = held.accounts.iter().map(|(account, _)| account);
        accounts.find(|account| account.username == username && account.password == password).cloned()
    }

    /// A new value takes the place of the oldest; of the first of them, where several came in the same second.
    pub(super) fn update(&self, subdomain: &str, text: &str) {
        let second = self.started.elapsed().as_secs() + 1;
        let mut held = self.lock();
        let account = held.accounts.iter_mut().find(|(account, _)| account.subdomain == subdomain);
        if let Some(oldest) = account.and_then(|(_, values)| values.iter_mut().min_by_key(|value| value.second)) {
            *oldest = StoredValue { text: text.to_owned(), second };
        }
    }

    pub(super) fn inject_fault(&self, times: usize, path: &str, fault: Fault) {
        self.lock().faults.push((times, path.to_owned(), fault));
    }

    /// Writes the request down and takes its fault.
    pub(super) fn take_fault(&self, path: &str) -> Option<Fault> {
        let mut held = self.lock();
        held.log.push(path.to_owned());
        let (times, _, fault) = held.faults.iter_mut().find(|(times, of, _)| *times > 0 && of == path)?;
        *times -= 1;
        Some(fault.clone())
    }

    pub(super) fn count(&self, path: &str) -> usize {
        self.lock().log.iter().filter(|seen| *seen == path).count()
    }
}

const VALUES_PER_ACCOUNT: usize = 2;
