//! The Secrets, and the rules that the real API server holds them to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Map, Value, json};

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query.
    pub query: String,
}

/// An answer that is given in place of the right one.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// `Retry-After`.
    pub retry_after: Option<String>,
}

/// An error as Kubernetes tells it.
#[derive(Debug)]
pub(super) struct KubernetesStatus {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

#[derive(Default)]
pub(super) struct State(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    token: Option<String>,
    denied: Vec<&'static str>,
    refusals: Vec<Refusal>,
    concurrent_write: Option<Value>,
    requests: Vec<Request>,
    secrets: BTreeMap<(String, String), StoredSecret>,
    version: u64,
}

struct StoredSecret {
    secret: Value,
    /// Who applied it last; fields of anybody else are only taken by force.
    applied_by: Option<String>,
}

impl State {
    pub(super) fn token(&self) -> String {
        self.lock().token.clone().unwrap_or_else(|| TOKEN.to_owned())
    }

    pub(super) fn exchange_token(&self, token: &str) {
        self.lock().token = Some(token.to_owned());
    }

    pub(super) fn deny(&self, verb: &'static str) {
        self.lock().denied.push(verb);
    }

    pub(super) fn refuse_next(&self, refusal: Refusal) {
        self.lock().refusals.push(refusal);
    }

    pub(super) fn take_refusal(&self) -> Option<Refusal> {
        self.lock().refusals.pop()
    }

    pub(super) fn record(&self, request: Request) {
        self.lock().requests.push(request);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    pub(super) fn secret(&self, namespace: &str, name: &str) -> Option<Value> {
        self.lock().secrets.get(&(namespace.to_owned(), name.to_owned())).map(|kept| kept.secret.clone())
    }

    pub(super) fn put(&self, secret: Value) {
        self.lock().put(secret);
    }

    pub(super) fn put_before_next_write(&self, secret: Value) {
        self.lock().concurrent_write = Some(secret);
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Result<Value, KubernetesStatus> {
        self.lock().check_allowed("get", namespace, name)?;
        self.secret(namespace, name).ok_or_else(|| KubernetesStatus::not_found("secrets", name))
    }

    pub(super) fn create(&self, namespace: &str, sent: &Value) -> Result<Value, KubernetesStatus> {
        let mut inner = self.lock();
        let name = named(sent)?;
        inner.check_allowed("create", namespace, &name)?;
        inner.apply_concurrent_write();
        if namespace != "default" {
            return Err(KubernetesStatus::not_found("namespaces", namespace));
        }
        if inner.secrets.contains_key(&(namespace.to_owned(), name.clone())) {
            return Err(KubernetesStatus::new(409, "AlreadyExists", format!("secrets {name:?} already exists")));
        }
        check(sent, &name)?;
        Ok(inner.store_secret(namespace, &name, sent.clone(), None))
    }

    /// Server-side apply: what is sent is merged into what is there.
    pub(super) fn apply(
        &self,
        namespace: &str,
        name: &str,
        sent: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, KubernetesStatus> {
        let mut inner = self.lock();
        inner.check_allowed("patch", namespace, name)?;
        inner.apply_concurrent_write();
        if named(sent)? != name {
            return Err(KubernetesStatus::new(
                400,
                "BadRequest",
                "the name of the object does not match that of the URL".into(),
            ));
        }
        let Some(kept) = inner.secrets.get(&(namespace.to_owned(), name.to_owned())) else {
            return Err(conflict(name, "it is not there to be applied to at a version"));
        };
        let live = &kept.secret;
        let version = &sent["metadata"]["resourceVersion"];
        if !version.is_null() && version != &live["metadata"]["resourceVersion"] {
            return Err(conflict(
                name,
                "the object has been modified; please apply your changes to the latest version",
            ));
        }
        let merged = merged(live.clone(), sent);
        if !force && kept.applied_by.as_deref() != Some(manager) && merged["data"] != live["data"] {
            return Err(conflict(name, "Apply failed with conflicts: .data"));
        }
        if merged["type"] != live["type"] {
            return Err(KubernetesStatus::invalid("type: Invalid value: field is immutable"));
        }
        if live["immutable"] == true && merged["data"] != live["data"] {
            return Err(KubernetesStatus::invalid("data: Forbidden: field is immutable when `immutable` is set"));
        }
        check(&merged, name)?;
        Ok(inner.store_secret(namespace, name, merged, Some(manager.to_owned())))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn check_allowed(&self, verb: &'static str, namespace: &str, name: &str) -> Result<(), KubernetesStatus> {
        if !self.denied.contains(&verb) {
            return Ok(());
        }
        let words = format!(
            "secrets {name:?} is forbidden: User \"system:serviceaccount:default:autocertd\" cannot {verb} resource \
             \"secrets\" in API group \"\" in the namespace {namespace:?}"
        );
        Err(KubernetesStatus::new(403, "Forbidden", words))
    }

    fn apply_concurrent_write(&mut self) {
        if let Some(secret) = self.concurrent_write.take() {
            self.put(secret);
        }
    }

    fn put(&mut self, secret: Value) {
        let name = secret["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.store_secret("default", &name, secret, None);
    }

    fn store_secret(&mut self, namespace: &str, name: &str, mut secret: Value, applied_by: Option<String>) -> Value {
        self.version += 1;
        secret["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.secrets
            .insert((namespace.to_owned(), name.to_owned()), StoredSecret { secret: secret.clone(), applied_by });
        secret
    }
}

impl KubernetesStatus {
    pub(super) const fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self { code, reason, message }
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(422, "Invalid", format!("Secret is invalid: {message}"))
    }

    fn not_found(kind: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{kind} {name:?} not found"))
    }
}

fn conflict(name: &str, words: &str) -> KubernetesStatus {
    KubernetesStatus::new(409, "Conflict", format!("Operation cannot be fulfilled on secrets {name:?}: {words}"))
}

fn named(sent: &Value) -> Result<String, KubernetesStatus> {
    if sent["apiVersion"] != "v1" || sent["kind"] != "Secret" {
        return Err(KubernetesStatus::new(400, "BadRequest", format!("no Secret of v1: {sent}")));
    }
    sent["metadata"]["name"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| KubernetesStatus::invalid("metadata.name: Required value"))
}

fn check(secret: &Value, name: &str) -> Result<(), KubernetesStatus> {
    let part = |part: &str| {
        part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(part) {
        return Err(KubernetesStatus::invalid(
            "metadata.name: Invalid value: a lowercase RFC 1123 subdomain must consist of ...",
        ));
    }
    let no_data = Map::new();
    let data = secret["data"].as_object().unwrap_or(&no_data);
    for (key, value) in data {
        if value.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()).is_none() {
            return Err(KubernetesStatus::new(400, "BadRequest", format!("illegal base64 data in {key}: {value}")));
        }
    }
    let annotations = secret["metadata"]["annotations"].as_object().unwrap_or(&no_data);
    if annotations.values().any(|value| !value.is_string()) {
        return Err(KubernetesStatus::new(400, "BadRequest", "annotations are strings".to_owned()));
    }
    if secret["type"] == "kubernetes.io/tls" && !(data.contains_key("tls.crt") && data.contains_key("tls.key")) {
        return Err(KubernetesStatus::invalid("data[tls.crt]: Required value"));
    }
    Ok(())
}

/// What is sent wins; what only the other has stays.
fn merged(live: Value, sent: &Value) -> Value {
    match (live, sent) {
        (Value::Object(mut live), Value::Object(sent)) => {
            for (key, value) in sent {
                let before = live.remove(key).unwrap_or(json!(null));
                live.insert(key.clone(), merged(before, value));
            }
            Value::Object(live)
        }
        (_, sent) => sent.clone(),
    }
}

const TOKEN: &str = "service-account-token-1";
