//! `/records` and `/zones/{zone}/records`.

use std::sync::Arc;

use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::page::{ApiError, ListQuery, matches_filter, metadata};
use crate::cloud_dns::fault::Fault;
use crate::cloud_dns::state::{DEFAULT_TTL, Fields, Record, State, StateInner};

pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    query.page("/records", filtered(&state.lock(), &query))
}

pub(super) async fn list_of_zone(
    Shared(state): Shared<Arc<State>>,
    Path(zone): Path<String>,
    Query(mut query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let held = state.lock();
    require_zone(&held, &zone)?;
    let href = format!("/zones/{zone}/records");
    query.zone_id = Some(zone);
    query.page(&href, filtered(&held, &query))
}

pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    Extension(fault): Extension<Option<Fault>>,
    Path(zone): Path<String>,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let mut held = state.lock();
    require_zone(&held, &zone)?;
    let fields = fields(&body)?;
    refuse_beside_cname(&held, &zone, None, &fields)?;
    let life = held.new_lifecycle(fault.as_ref());
    let record = held.add_record(&zone, fields, life);
    Ok((StatusCode::ACCEPTED, Json(describe(&held, &record))))
}

pub(super) async fn read(
    Shared(state): Shared<Arc<State>>,
    Path((zone, id)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let mut held = state.lock();
    let at = position(&held, &zone, &id)?;
    let described = describe(&held, &held.records[at]);
    held.records[at].life = held.records[at].life.after_read();
    Ok(Json(described))
}

pub(super) async fn replace(
    Shared(state): Shared<Arc<State>>,
    Path((zone, id)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let mut held = state.lock();
    let at = position(&held, &zone, &id)?;
    let fields = fields(&body)?;
    refuse_beside_cname(&held, &zone, Some(&id), &fields)?;
    held.records[at].fields = fields;
    held.records[at].life = held.new_lifecycle(None);
    Ok((StatusCode::ACCEPTED, Json(describe(&held, &held.records[at]))))
}

pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Path((zone, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let mut held = state.lock();
    let at = position(&held, &zone, &id)?;
    held.records.remove(at);
    Ok(StatusCode::ACCEPTED)
}

fn require_zone(held: &StateInner, id: &str) -> Result<(), ApiError> {
    if held.zones.iter().any(|zone| zone.id == id) { Ok(()) } else { Err(ApiError::not_found()) }
}

fn position(held: &StateInner, zone: &str, id: &str) -> Result<usize, ApiError> {
    let found = held.records.iter().position(|record| record.zone == zone && record.id == id);
    found.ok_or_else(ApiError::not_found)
}

/// No other data may stand beside a CNAME (RFC 1034 section 3.6.2).
fn refuse_beside_cname(held: &StateInner, zone: &str, but: Option<&str>, fields: &Fields) -> Result<(), ApiError> {
    let beside = held.records.iter().any(|record| {
        record.zone == zone
            && Some(record.id.as_str()) != but
            && record.fields.name == fields.name
            && (record.fields.kind == "CNAME" || fields.kind == "CNAME")
    });
    if beside { Err(ApiError::conflict("no record can stand beside a CNAME")) } else { Ok(()) }
}

fn filtered(held: &StateInner, query: &ListQuery) -> Vec<Value> {
    let passes_all = |record: &&Record| {
        query.zone_id.as_deref().is_none_or(|zone| zone == record.zone)
            && query.kind.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case(&record.fields.kind))
            && query.state.as_deref().is_none_or(|state| state == record.life.state())
            && matches_filter(query.name.as_deref(), &record.fields.name)
    };
    held.records.iter().filter(passes_all).map(|record| describe(held, record)).collect()
}

fn fields(body: &Value) -> Result<Fields, ApiError> {
    let properties = &body["properties"];
    let text = |name: &str| {
        let missing = || ApiError::bad_request(&format!("properties.{name} is missing"));
        properties[name].as_str().map(str::to_owned).ok_or_else(missing)
    };
    let ttl = properties["ttl"].as_u64().map_or(Some(DEFAULT_TTL), |ttl| u32::try_from(ttl).ok());
    let ttl = ttl.filter(|ttl| (60..=604_800).contains(ttl));
    Ok(Fields {
        name: text("name")?.to_lowercase(),
        kind: text("type")?.to_uppercase(),
        content: text("content")?,
        ttl: ttl.ok_or_else(|| ApiError::bad_request("properties.ttl is out of range"))?,
        enabled: properties["enabled"].as_bool().unwrap_or(true),
    })
}

fn describe(held: &StateInner, record: &Record) -> Value {
    let mut metadata = metadata(record.life.state());
    metadata["fqdn"] = held.fqdn(record).into();
    metadata["zoneId"] = record.zone.clone().into();
    let Fields { name, kind, content, ttl, enabled } = &record.fields;
    json!({
        "id": record.id, "type": "record", "href": format!("/zones/{}/records/{}", record.zone, record.id),
        "metadata": metadata,
        "properties": {"name": name, "type": kind, "content": content, "ttl": ttl, "enabled": enabled},
    })
}
