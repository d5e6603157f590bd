//! Long lists are answered piece by piece, whatever their clients do.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;

use crate::fixture::{Fixture, TestResponse};
use crate::log::log;

/// Far more than sockets and servers hold for a client that does not read: 300 rows of 60 KB.
const ROWS: i64 = 300;
const CHAIN: i64 = 60_000;
const ALL: &str = "/certificates?limit=1000";

#[tokio::test]
async fn a_long_list_is_whole_and_in_order() {
    let daemon = with_rows(ROWS).await;
    let answer = daemon.get("/certificates?limit=200&offset=1").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.header("content-length"), "", "it is not held whole");
    let list = answer.json();
    let (ids, expected) = (ids(&list), (1..=200).map(id).collect::<Vec<_>>());
    assert_eq!(ids, expected);
    assert_eq!(list["_links"]["next"], "/certificates?offset=201&limit=200");
    assert_eq!((list["offset"].as_u64(), list["limit"].as_u64()), (Some(1), Some(200)));

    let small = daemon.get("/certificates?limit=1").await;
    assert_eq!(small.header("content-length"), small.text.len().to_string());
    let head = TestResponse::from_request(daemon.request(Method::HEAD, ALL)).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn what_is_deleted_meanwhile_is_left_out() {
    let daemon = with_rows(ROWS).await;
    let begun = begin(&daemon).await;
    daemon.change(&format!("DELETE FROM certificates WHERE id >= '{}'", id(ROWS / 2))).await;
    let list: Value = serde_json::from_str(&begun.text().await.unwrap()).expect("it is still JSON");
    let (ids, count) = (ids(&list), usize::try_from(ROWS).unwrap());
    assert!((count / 2..count).contains(&ids.len()), "{}", ids.len());
    assert_eq!(ids, (0..).map(id).take(ids.len()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_list_that_cannot_be_read_on_is_broken_off() {
    let daemon = with_rows(ROWS).await;
    let begun = begin(&daemon).await;
    daemon.store().close().await;
    assert!(begun.text().await.is_err(), "half a list must not look like a whole one");
    assert!(log().text().contains("a list was broken off"));
}

/// A connection for each of them would leave none for the others.
#[tokio::test]
async fn clients_that_do_not_read_hold_no_connection_to_the_database() {
    let daemon = with_rows(ROWS).await;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(begin(&daemon).await);
    }
    for _ in 0..5 {
        assert_eq!(daemon.get("/certificates?limit=2").await.status, 200);
        assert_eq!(daemon.get(&format!("/certificates/{}", id(3))).await.status, 200);
    }
    daemon.provider().await;
    for response in stalled {
        let list: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(ids(&list).len(), usize::try_from(ROWS).unwrap());
    }
}

#[tokio::test]
async fn one_token_that_never_reads_keeps_no_other_from_reading() {
    let daemon = with_rows(ROWS).await;
    let list = || daemon.unauthenticated_request(Method::GET, ALL).bearer_auth(&daemon.reader);
    let mut stalled = Vec::new();
    for _ in 0..16 {
        stalled.push(list().send().await.unwrap());
    }
    let refused = TestResponse::from_request(list()).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"));
    assert_eq!(refused.at("/messages/0/errorCode"), "autocertd-busy-1");
    assert_eq!(daemon.get(ALL).await.status, 200, "another token has a share of its own");
    drop(stalled);
    let again = async {
        while TestResponse::from_request(list()).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), again).await.expect("what was given up is free again");
}

#[tokio::test]
async fn a_damaged_row_hides_no_other() {
    let daemon = with_rows(3).await;
    daemon.change(&format!("UPDATE certificates SET certificate = 'damaged' WHERE id = '{}'", id(1))).await;
    let answer = daemon.get("/certificates").await;
    assert_eq!((answer.status, ids(&answer.json())), (200, vec![id(0), id(2)]));
    assert_eq!(daemon.get(&format!("/certificates/{}", id(1))).await.status, 500);
    let log = log().text();
    assert!(log.lines().any(|line| line.contains("left out of a list") && line.contains(&id(1))), "{log}");
}

/// The answer to a list whose client has read nothing of the body yet.
async fn begin(daemon: &Fixture) -> Response {
    let response = daemon.request(Method::GET, ALL).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

/// A daemon with so many copies of an uploaded certificate, each with a long chain.
async fn with_rows(rows: i64) -> Fixture {
    let daemon = Fixture::start().await;
    let uploaded = daemon.upload("www.example.com").await;
    let uploaded = uploaded.rsplit('/').next().unwrap();
    daemon
        .change(&format!(
            "INSERT INTO certificates (id, name, common_name, common_name_form, certificate, chain, private_key, \
             not_before, not_after, created_at, created_by, created_by_id, modified_at, modified_by, modified_by_id) \
             WITH RECURSIVE counter(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counter WHERE n < {rows} - 1) \
             SELECT '00000000-0000-4000-8000-' || (100000000000 + n), name, common_name, common_name_form, certificate, \
             substr(certificate || hex(zeroblob({CHAIN})), 1, {CHAIN}), private_key, not_before, not_after, \
             created_at + n, created_by, created_by_id, modified_at, modified_by, modified_by_id \
             FROM certificates, counter"
        ))
        .await;
    daemon.change(&format!("DELETE FROM certificates WHERE id = '{uploaded}'")).await;
    daemon
}

fn id(place: i64) -> String {
    format!("00000000-0000-4000-8000-{}", 100_000_000_000 + place)
}

fn ids(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}
