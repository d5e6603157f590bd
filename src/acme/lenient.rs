//! Answers of CAs, made plain before they are read. instant-acme reads documents strictly: one member that is `null` or
//! of another type than RFC 8555 says costs the whole answer. Here `null` becomes absent, what is not understood is left
//! out where something usable stands beside it, and relative URLs are resolved. Requests, which are signed, never change.

use serde_json::{Map, Value};
use url::Url;

/// The body of a successful answer, as it is to be read; `url` is what was asked. A text that is no JSON object comes back
/// as it is, with what is no UTF-8 replaced.
pub(super) fn normalize_body(body: &[u8], url: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}');
    match serde_json::from_str(text) {
        Ok(Value::Object(document)) => {
            normalize_document(document, Url::parse(url).ok().as_ref()).to_string().into_bytes()
        }
        _ => text.as_bytes().to_vec(),
    }
}

/// A directory (RFC 8555 section 7.1.1) as it is to be read.
pub(super) fn normalize_directory_body(body: &[u8], url: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}');
    match serde_json::from_str(text) {
        Ok(Value::Object(document)) => {
            normalize_directory(document, Url::parse(url).ok().as_ref()).to_string().into_bytes()
        }
        _ => text.as_bytes().to_vec(),
    }
}

/// A URL that a CA gave, resolved against what was asked (RFC 9110 section 10.2.2); nothing where it is none. An absolute
/// one stays as it is, byte for byte.
pub(super) fn resolve_url(given: &str, base: Option<&Url>) -> Option<String> {
    let given = given.trim();
    if given.is_empty() || given.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    match Url::parse(given) {
        Ok(_) => Some(given.to_owned()),
        Err(url::ParseError::RelativeUrlWithoutBase) => Some(base?.join(given).ok()?.to_string()),
        Err(_) => None,
    }
}

fn normalize_document(document: Map<String, Value>, base: Option<&Url>) -> Value {
    let has = |names: &[&str]| names.iter().any(|name| document.contains_key(*name));
    if has(&["challenges", "identifier"]) {
        normalize_authorization(remove_nulls(document), base)
    } else if has(&["authorizations", "finalize", "identifiers"]) {
        normalize_order(remove_nulls(document), base)
    } else if has(&["token"]) || (has(&["type"]) && has(&["url"])) {
        normalize_challenge_answer(remove_nulls(document), base)
    } else if has(&["contact", "orders", "termsOfServiceAgreed", "key"]) {
        normalize_account(remove_nulls(document))
    } else {
        Value::Object(remove_nulls(document))
    }
}

fn normalize_directory(document: Map<String, Value>, base: Option<&Url>) -> Value {
    let mut document = remove_nulls(document);
    for name in ["newNonce", "newAccount", "newOrder", "newAuthz", "revokeCert", "keyChange", "renewalInfo"] {
        map_member(&mut document, name, |given| url_value(&given, base));
    }
    map_member(&mut document, "meta", |meta| {
        let Value::Object(mut meta) = meta else { return None };
        map_member(&mut meta, "termsOfService", |given| url_value(&given, base));
        map_member(&mut meta, "website", non_blank_string);
        map_member(&mut meta, "caaIdentities", |given| match given {
            Value::Array(names) => Some(names.into_iter().filter_map(non_blank_string).collect()),
            name => Some(Value::Array(vec![non_blank_string(name)?])),
        });
        map_member(&mut meta, "profiles", |given| match given {
            // Only the names count.
            Value::Object(profiles) => Some(Value::Object(
                profiles
                    .into_iter()
                    .map(|(name, words)| (name, non_blank_string(words).unwrap_or_else(|| Value::from(""))))
                    .collect(),
            )),
            Value::Array(names) => Some(Value::Object(
                names.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), Value::from(""))).collect(),
            )),
            _ => None,
        });
        Some(Value::Object(meta))
    });
    Value::Object(document)
}

fn normalize_order(mut document: Map<String, Value>, base: Option<&Url>) -> Value {
    map_member(&mut document, "certificate", |given| url_value(&given, base));
    let issued = document.contains_key("certificate");
    let status = match lowercase_word(document.get("status")).as_deref() {
        Some(known @ ("pending" | "ready" | "processing" | "valid" | "invalid")) => Some(known.to_owned()),
        Some("expired" | "revoked" | "deactivated" | "canceled" | "cancelled") => Some("invalid".to_owned()),
        _ if issued => Some("valid".to_owned()),
        _ => None,
    };
    set_member(&mut document, "status", status.clone());
    let authorizations = match document.remove("authorizations") {
        Some(Value::Array(given)) => given.into_iter().filter_map(|given| url_value(&given, base)).collect(),
        _ => Vec::new(),
    };
    document.insert("authorizations".to_owned(), Value::Array(authorizations));
    map_member(&mut document, "finalize", |given| url_value(&given, base));
    // Whoever sends the CSR looks at it first.
    document.entry("finalize").or_insert_with(|| Value::from(""));
    map_member(&mut document, "error", normalize_problem);
    if status.as_deref() != Some("invalid") {
        document.remove("error");
    }
    map_member(&mut document, "replaces", |given| {
        non_blank_string(given).filter(|given| given.as_str().is_some_and(|given| given.matches('.').count() == 1))
    });
    map_member(&mut document, "profile", non_blank_string);
    Value::Object(document)
}

fn normalize_authorization(mut document: Map<String, Value>, base: Option<&Url>) -> Value {
    let challenges: Vec<Value> = match document.remove("challenges") {
        Some(Value::Array(given)) => given.into_iter().filter_map(|given| normalize_challenge(given, base)).collect(),
        _ => Vec::new(),
    };
    let stands = |status: &str| challenges.iter().any(|challenge| challenge["status"] == status);
    let status = match lowercase_word(document.get("status")).as_deref() {
        Some(known @ ("pending" | "valid" | "invalid" | "revoked" | "expired" | "deactivated")) => {
            Some(known.to_owned())
        }
        _ => ["valid", "invalid", "pending"]
            .into_iter()
            .find(|status| stands(status))
            .map(ToOwned::to_owned)
            .or_else(|| stands("processing").then(|| "pending".to_owned())),
    };
    let mut wildcard = match document.remove("wildcard") {
        Some(Value::Bool(wildcard)) => wildcard,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    };
    map_member(&mut document, "identifier", |given| {
        let mut known = normalize_identifier(&given)?;
        if known["type"] == "dns"
            && let Some(name) = known["value"].as_str().and_then(|name| name.strip_prefix("*."))
        {
            // Some CAs name the wildcard here, which RFC 8555 section 7.1.4 forbids.
            wildcard = true;
            known["value"] = Value::from(name);
        }
        Some(known)
    });
    if status.as_deref().is_some_and(|status| status != "pending") {
        // Whom it was for matters no more.
        document.entry("identifier").or_insert_with(unnamed_identifier);
    }
    set_member(&mut document, "status", status);
    document.insert("wildcard".to_owned(), Value::Bool(wildcard));
    document.insert("challenges".to_owned(), Value::Array(challenges));
    Value::Object(document)
}

/// A challenge within its authorization; nothing where it cannot be answered.
fn normalize_challenge(given: Value, base: Option<&Url>) -> Option<Value> {
    let Value::Object(mut challenge) = given else { return None };
    let kind = lowercase_word(challenge.get("type"))?;
    // RFC 8555 section 8.4 makes the record of the token.
    map_member(&mut challenge, "token", non_blank_string);
    if kind == "dns-01" && !challenge.contains_key("token") {
        return None;
    }
    challenge.insert("type".to_owned(), Value::from(kind));
    map_member(&mut challenge, "url", |given| url_value(&given, base));
    if !challenge.contains_key("url") {
        return None;
    }
    let status = lowercase_word(challenge.get("status"));
    let known = status.filter(|status| matches!(status.as_str(), "pending" | "processing" | "valid" | "invalid"));
    set_member(&mut challenge, "status", Some(known.unwrap_or_else(|| "pending".to_owned())));
    map_member(&mut challenge, "error", normalize_problem);
    map_member(&mut challenge, "issuer-domain-names", |given| match given {
        Value::Array(names) => Some(names.into_iter().filter_map(non_blank_string).collect()),
        _ => None,
    });
    Some(Value::Object(challenge))
}

/// The answer to the answer of a challenge. Only its status decides: an error beside `pending` or `processing` tells why the
/// CA tries again (RFC 8555 section 8.2).
fn normalize_challenge_answer(document: Map<String, Value>, base: Option<&Url>) -> Value {
    let mut plain = document;
    // Neither is looked at again, and instant-acme wants both.
    for name in ["token", "type"] {
        if lowercase_word(plain.get(name)).is_none() {
            plain.insert(name.to_owned(), Value::from("unknown"));
        }
    }
    let untouched = Value::Object(plain.clone());
    let Some(mut challenge) = normalize_challenge(Value::Object(plain), base) else { return untouched };
    if challenge["status"] != "invalid"
        && let Some(members) = challenge.as_object_mut()
    {
        members.remove("error");
    }
    challenge
}

fn normalize_account(mut document: Map<String, Value>) -> Value {
    // Only its end would have to be told.
    let status = lowercase_word(document.get("status")).unwrap_or_else(|| "valid".to_owned());
    set_member(&mut document, "status", Some(status));
    Value::Object(document)
}

fn normalize_problem(given: Value) -> Option<Value> {
    let mut problem = match given {
        Value::Object(problem) => problem,
        Value::String(words) => Map::from_iter([("detail".to_owned(), Value::String(words))]),
        _ => return None,
    };
    for name in ["type", "detail", "title", "instance"] {
        map_member(&mut problem, name, non_blank_string);
    }
    map_member(&mut problem, "status", |given| given.as_u64().filter(|code| *code < 1000).map(Value::from));
    map_member(&mut problem, "subproblems", |given| {
        let Value::Array(given) = given else { return None };
        Some(given.into_iter().filter(Value::is_object).filter_map(normalize_subproblem).collect())
    });
    Some(Value::Object(problem))
}

fn normalize_subproblem(given: Value) -> Option<Value> {
    let mut known = normalize_problem(given)?;
    map_member(known.as_object_mut()?, "identifier", |given| normalize_identifier(&given));
    Some(known)
}

/// An identifier: a DNS name, or something that only its text is kept of.
fn normalize_identifier(given: &Value) -> Option<Value> {
    let value = given.get("value")?.as_str()?.trim().to_owned();
    let kind = if lowercase_word(given.get("type")).as_deref() == Some("dns") { "dns" } else { OTHER_IDENTIFIER_TYPE };
    Some(serde_json::json!({ "type": kind, "value": value }))
}

fn unnamed_identifier() -> Value {
    serde_json::json!({ "type": OTHER_IDENTIFIER_TYPE, "value": "" })
}

fn remove_nulls(document: Map<String, Value>) -> Map<String, Value> {
    document
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name, remove_nulls_in_value(value)))
        .collect()
}

fn remove_nulls_in_value(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(remove_nulls(members)),
        Value::Array(entries) => {
            entries.into_iter().filter(|entry| !entry.is_null()).map(remove_nulls_in_value).collect()
        }
        value => value,
    }
}

/// Puts what `read` makes of a member in its place, or takes it out.
fn map_member(document: &mut Map<String, Value>, name: &str, read: impl FnOnce(Value) -> Option<Value>) {
    if let Some(read) = document.remove(name).and_then(read) {
        document.insert(name.to_owned(), read);
    }
}

fn set_member(document: &mut Map<String, Value>, name: &str, text: Option<String>) {
    match text {
        Some(text) => document.insert(name.to_owned(), Value::String(text)),
        None => document.remove(name),
    };
}

fn url_value(given: &Value, base: Option<&Url>) -> Option<Value> {
    resolve_url(given.as_str()?, base).map(Value::String)
}

fn non_blank_string(given: Value) -> Option<Value> {
    given.as_str().is_some_and(|text| !text.trim().is_empty()).then_some(given)
}

/// A status or type in the spelling of the RFC.
fn lowercase_word(given: Option<&Value>) -> Option<String> {
    Some(given?.as_str()?.trim().to_ascii_lowercase()).filter(|word| !word.is_empty())
}

/// What is read of an identifier as its text alone.
const OTHER_IDENTIFIER_TYPE: &str = "permanent-identifier";

#[cfg(test)]
mod tests;
