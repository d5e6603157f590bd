//! What the name server does about those who ask too much.

use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::io::AsyncReadExt;

use super::fixture::{Fixture, NAME, ask, question, receive, values};

#[tokio::test]
async fn who_asks_too_often_is_put_off_and_nobody_else() {
    let stand = Fixture::at("127.0.0.1", "questions_per_second = 5");
    stand.set_values(NAME, &["one"]);
    let flooder = stand.client("127.0.0.1").await;
    let mut kinds = BTreeMap::from([("answered", 0), ("put off", 0)]);
    for _ in 0..45 {
        flooder.send(&question(NAME, RecordType::TXT).to_vec().unwrap()).await.unwrap();
    }
    // 5 are answered, and every other of the rest is put off; a slow machine may earn one or two more.
    while kinds["answered"] < 5 || kinds["put off"] < 18 {
        let answer = receive(&flooder).await;
        assert_eq!(answer.response_code, ResponseCode::NoError);
        assert_eq!(answer.truncation, answer.answers.is_empty(), "{answer:?}");
        *kinds.get_mut(if answer.truncation { "put off" } else { "answered" }).unwrap() += 1;
    }
    // Its neighbours are put off with it, or get nothing; other networks and TCP are not.
    let neighbour = stand.client("127.0.0.77").await;
    for _ in 0..2 {
        neighbour.send(&question(NAME, RecordType::TXT).to_vec().unwrap()).await.unwrap();
    }
    assert!(receive(&neighbour).await.truncation);
    let stranger = stand.client("127.0.1.1").await;
    stranger.send(&question(NAME, RecordType::TXT).to_vec().unwrap()).await.unwrap();
    assert_eq!(values(&receive(&stranger).await), ["one"]);
    assert_eq!(values(&stand.tcp(&question(NAME, RecordType::TXT)).await), ["one"]);
    let total: usize = kinds.values().sum();
    assert!(total <= 45 - 18, "half of what was too much is left without an answer: {kinds:?}");
}

#[tokio::test]
async fn a_connection_that_asks_too_often_is_closed() {
    let stand = Fixture::at("127.0.0.1", "questions_per_second = 5");
    stand.set_values(NAME, &["one"]);
    let mut connection = stand.connect().await;
    let mut answered = 0;
    while ask(&mut connection, &question(NAME, RecordType::TXT)).await.is_ok() {
        answered += 1;
        assert!(answered < 1_000, "there is no limit");
    }
    assert!(answered >= 5, "{answered}");
}

#[tokio::test]
async fn a_flood_leaves_the_database_to_others() {
    let stand = Fixture::at("127.0.0.1", "questions_per_second = 1000");
    let client = stand.client("127.0.0.1").await;
    for _ in 0..100 {
        client.send(&question(NAME, RecordType::TXT).to_vec().unwrap()).await.unwrap();
    }
    for _ in 0..100 {
        assert_eq!(receive(&client).await.response_code, ResponseCode::NXDomain);
    }
    assert!(stand.max_active_lookups() <= 2, "{}", stand.max_active_lookups());
}

#[tokio::test]
async fn connections_are_few_and_none_lingers() {
    let stand = Fixture::start();
    stand.set_values(NAME, &["one"]);
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut connection = stand.connect().await;
        assert_eq!(values(&ask(&mut connection, &question(NAME, RecordType::TXT)).await.unwrap()), ["one"]);
        open.push(connection);
    }
    let mut one_more = stand.connect().await;
    assert!(ask(&mut one_more, &question(NAME, RecordType::TXT)).await.is_err());
    // UDP goes on, and so does TCP once the others were closed for their silence.
    assert_eq!(values(&stand.udp(&question(NAME, RecordType::TXT)).await), ["one"]);
    for mut connection in open {
        let closed = tokio::time::timeout(Duration::from_secs(20), connection.read_u8()).await.expect("it lingers");
        assert!(closed.is_err());
    }
    assert_eq!(values(&stand.tcp(&question(NAME, RecordType::TXT)).await), ["one"]);
}
