//! `/zones`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::page::{ApiError, ListQuery, matches_filter, metadata};
use crate::cloud_dns::state::{NAMESERVERS, State, Zone};

pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let zones = state.lock().zones.clone();
    let found = zones
        .iter()
        .filter(|zone| matches_filter(query.zone_name.as_deref(), &zone.name))
        .filter(|_| query.state.as_deref().is_none_or(|state| state == AVAILABLE))
        .map(describe)
        .collect();
    query.page("/zones", found)
}

pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (name, description, enabled) = properties(&body)?;
    let mut held = state.lock();
    if held.zones.iter().any(|zone| zone.name == name) {
        return Err(ApiError::conflict("the zone exists already"));
    }
    let id = held.add_zone(&name, &description, enabled);
    Ok((StatusCode::ACCEPTED, Json(describe(&Zone { id, name, description, enabled }))))
}

pub(super) async fn read(Shared(state): Shared<Arc<State>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let zone = state.lock().zones.iter().find(|zone| zone.id == id).cloned();
    zone.map(|zone| Json(describe(&zone))).ok_or_else(ApiError::not_found)
}

pub(super) async fn replace(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (_, description, enabled) = properties(&body)?;
    let mut held = state.lock();
    let zone = held.zones.iter_mut().find(|zone| zone.id == id).ok_or_else(ApiError::not_found)?;
    (zone.description, zone.enabled) = (description, enabled);
    Ok((StatusCode::ACCEPTED, Json(describe(zone))))
}

pub(super) async fn remove(Shared(state): Shared<Arc<State>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let mut held = state.lock();
    if !held.zones.iter().any(|zone| zone.id == id) {
        return Err(ApiError::not_found());
    }
    held.remove_zone(&id);
    Ok(StatusCode::ACCEPTED)
}

fn properties(body: &Value) -> Result<(String, String, bool), ApiError> {
    let properties = &body["properties"];
    let name =
        properties["zoneName"].as_str().ok_or_else(|| ApiError::bad_request("properties.zoneName is missing"))?;
    let description = properties["description"].as_str().unwrap_or_default();
    Ok((name.to_lowercase(), description.to_owned(), properties["enabled"].as_bool().unwrap_or(true)))
}

fn describe(zone: &Zone) -> Value {
    let mut metadata = metadata(AVAILABLE);
    metadata["nameservers"] = json!(NAMESERVERS);
    json!({
        "id": zone.id, "type": "zone", "href": format!("/zones/{}", zone.id), "metadata": metadata,
        "properties": {"zoneName": zone.name, "description": zone.description, "enabled": zone.enabled},
    })
}

const AVAILABLE: &str = "AVAILABLE";
