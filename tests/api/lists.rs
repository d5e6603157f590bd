//! Paging, the same for every list.

use insta::assert_json_snapshot;
use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Fixture, TestResponse, auto_certificate, provider};

#[tokio::test]
async fn links_lead_through_all_pages_and_back() {
    let daemon = Fixture::start().await;
    let provider = daemon.provider().await;
    let mut all = Vec::new();
    for n in 1..=5 {
        let name = format!("n{n}.example.com");
        all.push(daemon.post("/auto-certificates", &auto_certificate(&provider, &name)).await.created());
    }
    assert_json_snapshot!(
        "list_middle_links",
        daemon.get("/auto-certificates?offset=2&limit=2&depth=1").await.json()["_links"]
    );
    let (mut seen, mut next) = (Vec::new(), Some("/auto-certificates?limit=2".to_owned()));
    let mut last = Value::Null;
    while let Some(link) = next {
        last = daemon.get(&link).await.json();
        seen.extend(last["items"].as_array().unwrap().iter().map(|item| item["href"].as_str().unwrap().to_owned()));
        next = last["_links"].get("next").map(|link| link.as_str().unwrap().to_owned());
    }
    assert_eq!(seen, all);
    assert_eq!(last["_links"]["self"], "/auto-certificates?offset=4&limit=2");
    let before = daemon.get(last["_links"]["prev"].as_str().unwrap()).await.json();
    assert_eq!((before["offset"].as_i64(), before["items"][0]["href"].as_str()), (Some(2), Some(all[2].as_str())));
}

#[tokio::test]
async fn an_empty_list_has_its_shape() {
    let daemon = Fixture::start().await;
    for list in ["/providers", "/auto-certificates", "/certificates"] {
        assert_json_snapshot!(format!("list_empty{}", list.replace('/', "_")), daemon.get(list).await.shown());
    }
    let beyond = daemon.get("/providers?offset=2147483647&limit=1000").await.json();
    assert_eq!((&beyond["items"], beyond["_links"].get("next")), (&json!([]), None));
}

#[tokio::test]
async fn links_keep_the_filters() {
    let daemon = Fixture::start().await;
    let path = "/certificates?filter.commonName=b%C3%BCcher.example&limit=7";
    let links = daemon.get(path).await.json()["_links"].clone();
    assert_eq!(links, json!({ "self": "/certificates?filter.commonName=b%C3%BCcher.example&offset=0&limit=7" }));
}

#[tokio::test]
async fn what_cannot_be_a_page_is_a_400_that_names_every_parameter() {
    let daemon = Fixture::start().await;
    let query = "offset=-1&limit=1001&filter.autoCertificate=x";
    assert_json_snapshot!("list_faults", daemon.get(&format!("/certificates?{query}")).await.shown());
    for list in ["/auto-certificates", "/certificates"] {
        assert_eq!(daemon.get(&format!("{list}?filter.commonName=a%00b")).await.status, 400);
    }
    for query in ["limit=0", "limit=", "limit=ten", "offset=2147483648", "offset=1.5", "limit=99999999999999999999"] {
        for list in ["/providers", "/auto-certificates", "/certificates"] {
            assert_eq!(daemon.get(&format!("{list}?{query}")).await.status, 400, "{list}?{query}");
        }
    }
}

/// ionosctl adds paging to all calls.
#[tokio::test]
async fn parameters_that_mean_nothing_are_ignored_on_every_method() {
    let daemon = Fixture::start().await;
    let query = "depth=1&limit=50&offset=0&filter.colour=red";
    let path = daemon.post(&format!("/providers?{query}"), &provider()).await.created();
    assert_eq!(daemon.get("/providers?depth=1&colour=red&filters=x").await.status, 200);
    assert_eq!(daemon.get(&format!("{path}?{query}")).await.status, 200);
    let rename = json!({ "properties": { "name": "x", "colour": "red" }, "more": 1 });
    assert_eq!(daemon.patch(&format!("{path}?{query}"), &rename).await.status, 200);
    let deletion = daemon.request(Method::DELETE, &format!("{path}?{query}&limit=-5"));
    assert_eq!(TestResponse::from_request(deletion).await.status, 202);
}
