//! `/openapi.json`: the document and the router say the same.

use std::path::Path;

use insta::assert_json_snapshot;
use reqwest::Method;
use serde_json::Value;

use crate::fixture::{Fixture, TestResponse};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

#[tokio::test]
async fn the_document_is_whole() {
    let daemon = Fixture::start().await;
    let answer = TestResponse::from_request(daemon.unauthenticated_request(Method::GET, "/openapi.json")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    for reference in &references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
    assert_json_snapshot!("openapi", document, { ".info.version" => "[version]" });
}

#[tokio::test]
async fn every_documented_operation_is_served_and_no_other() {
    let daemon = Fixture::start().await;
    let document = daemon.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let mut documented = 0;
    for (path, item) in paths {
        let real =
            path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/");
        for method in METHODS {
            let request =
                daemon.unauthenticated_request(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), &real);
            let answer = TestResponse::from_request(request).await;
            match item.get(method) {
                Some(operation) => {
                    let open = operation["security"] == serde_json::json!([{}]);
                    assert_eq!(answer.status, if open { 200 } else { 401 }, "{method} {path}");
                    assert!(operation["responses"].get(answer.status.to_string()).is_some(), "{method} {path}");
                    documented += 1;
                }
                None => assert_eq!(answer.status, 405, "{method} {path}"),
            }
        }
    }
    assert_eq!(documented, annotated_operations(), "an operation is annotated and not served");
}

/// How many operations the sources annotate. A route that is put in by hand could escape the document, so only the
/// control paths, which are none of the API's, may be.
fn annotated_operations() -> usize {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http")];
    let mut annotated = 0;
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let by_hand = text.contains(".route(");
            assert!(!by_hand || path.ends_with("control.rs"), "{} has a route of its own", path.display());
            annotated += text.matches("#[utoipa::path(").count();
        }
    }
    annotated
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
            members.values().for_each(|member| collect_references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}
