//! What lists are narrowed by, and how many elements they have.

use autocertd::config::api::LimitsSection;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{Fixture, TestResponse, auto_certificate, id_of, provider, upload};
use autocertd::runtime::clock::Clock;

#[tokio::test]
async fn auto_certificates_are_found_by_every_filter_and_by_all_together() {
    let daemon = Fixture::start().await;
    let (one, two) = (daemon.provider().await, daemon.provider().await);
    let issued = daemon.post("/auto-certificates", &auto_certificate(&one, "a.example.com")).await.created();
    let waiting = daemon.post("/auto-certificates", &auto_certificate(&two, "b.example.com")).await.created();
    let mut third = auto_certificate(&two, "c.example.com");
    third["properties"]["keyAlgorithm"] = json!("rsa2048");
    third["properties"]["name"] = json!("for a, or b");
    let third = daemon.post("/auto-certificates", &third).await.created();
    daemon.issue(&issued, 90).await;
    let (one, two) = (id_of::<Uuid>(&one), id_of::<Uuid>(&two));
    for (query, expected) in [
        (format!("filter.provider={one}"), vec![&issued]),
        (format!("filter.provider={two}"), vec![&waiting, &third]),
        (format!("filter.provider={one},{two}"), vec![&issued, &waiting, &third]),
        (format!("filter.provider={one}&filter.provider={two}&limit=2"), vec![&issued, &waiting]),
        ("filter.keyAlgorithm=rsa2048".to_owned(), vec![&third]),
        ("filter.keyAlgorithm=RSA2048,secp256r1".to_owned(), vec![&issued, &waiting, &third]),
        ("filter.name=for+a%2C+or+b".to_owned(), vec![&third]),
        ("filter.name=for+a".to_owned(), vec![]),
        ("filter.name=For+a%2C+or+b".to_owned(), vec![]),
        ("filter.commonName=a.example.com,C.example.com".to_owned(), vec![&issued, &third]),
        ("filter.state=AVAILABLE".to_owned(), vec![&issued]),
        ("filter.state=provisioning".to_owned(), vec![&waiting, &third]),
        ("filter.state=FAILED".to_owned(), vec![]),
        ("filter.state=FAILED,AVAILABLE".to_owned(), vec![&issued]),
        (format!("filter.state=PROVISIONING&filter.provider={two}&filter.keyAlgorithm=rsa2048"), vec![&third]),
        (format!("filter.state=AVAILABLE&filter.provider={two}"), vec![]),
    ] {
        let answer = daemon.get(&format!("/auto-certificates?{query}")).await;
        assert_eq!(hrefs(&answer.json()), expected.into_iter().cloned().collect::<Vec<_>>(), "{query}");
    }
    let links = daemon.get("/auto-certificates?filter.state=PROVISIONING&filter.name=x&limit=1").await.json();
    let expected = "/auto-certificates?filter.state=PROVISIONING&filter.name=x&offset=0&limit=1";
    assert_eq!(links["_links"]["self"], expected);
}

#[tokio::test]
async fn providers_and_certificates_have_theirs() {
    let daemon = Fixture::start().await;
    let failed = daemon.provider().await;
    let path = daemon.provider().await;
    let id = id_of::<Uuid>(&failed);
    let note = json!({ "fate": "deactivated", "account": "https://ca.example/1", "at": 1 });
    daemon.change(&format!("UPDATE providers SET account_note = '{note}' WHERE id = '{id}'")).await;
    let rename = json!({ "properties": { "name": "other" } });
    daemon.patch(&path, &rename).await;
    for (query, expected) in [
        ("filter.name=other", vec![&path]),
        ("filter.name=Let%27s+Encrypt", vec![&failed]),
        ("filter.state=FAILED", vec![&failed]),
        ("filter.state=AVAILABLE", vec![&path]),
        ("filter.state=AVAILABLE,FAILED", vec![&failed, &path]),
        ("filter.state=PROVISIONING", vec![]),
        ("filter.state=AVAILABLE&filter.name=Let%27s+Encrypt", vec![]),
    ] {
        let answer = daemon.get(&format!("/providers?{query}")).await;
        assert_eq!(hrefs(&answer.json()), expected.into_iter().cloned().collect::<Vec<_>>(), "{query}");
    }
    let certificate = daemon.upload("www.example.com").await;
    for (query, expected) in [
        ("filter.name=upload+of+www.example.com", 1),
        ("filter.name=upload", 0),
        ("filter.state=AVAILABLE", 1),
        ("filter.state=FAILED", 0),
    ] {
        let found = hrefs(&daemon.get(&format!("/certificates?{query}")).await.json());
        assert_eq!(found, vec![certificate.clone(); expected], "{query}");
    }
}

/// Clients delete what a list returns.
#[tokio::test]
async fn a_filter_that_is_not_there_lists_nothing() {
    let daemon = Fixture::start().await;
    let path = daemon.provider().await;
    let answer = daemon.get("/providers?filter.commonName=x&filter.colour=red").await;
    assert_eq!(
        (answer.status, answer.messages()),
        (
            400,
            vec![
                "filter.commonName: there is no such filter; this list has filter.name, filter.state".to_owned(),
                "filter.colour: there is no such filter; this list has filter.name, filter.state".to_owned(),
            ]
        )
    );
    for (list, query) in [
        ("auto-certificates", "filter.commonname=x"),
        ("auto-certificates", "filter.autoCertificate=x"),
        ("auto-certificates", "filter.provider="),
        ("auto-certificates", "filter.provider=x"),
        ("auto-certificates", "filter.keyAlgorithm=ed25519"),
        ("auto-certificates", "filter.state=OK"),
        ("auto-certificates", "filter.state=FAILED,"),
        ("certificates", "filter.provider=00000000-0000-4000-8000-000000000000"),
        ("certificates", "filter%2Ecolour=red"),
        ("providers", "filter.name=a%00b"),
    ] {
        assert_eq!(daemon.get(&format!("/{list}?{query}")).await.status, 400, "{list} {query}");
    }
    let long = "x".repeat(1025);
    assert_eq!(daemon.get(&format!("/certificates?filter.name={long}")).await.status, 400);
    let many = vec!["FAILED"; 21].join(",");
    assert_eq!(daemon.get(&format!("/providers?filter.state={many}")).await.status, 400);
    let unknown = (0..200).map(|n| format!("filter.x{n}=1")).collect::<Vec<_>>().join("&");
    let answer = daemon.get(&format!("/providers?{unknown}")).await;
    assert_eq!((answer.status, answer.messages().len()), (400, 33));
    assert_eq!(answer.messages()[32], "168 more faults are not listed");
    assert_eq!(daemon.get(&format!("/providers?x={}", "y".repeat(17_000))).await.status, 400);
    // Elsewhere they are ignored, as ionosctl needs it.
    assert_eq!(daemon.get(&format!("{path}?filter.colour=red")).await.status, 200);
    assert_eq!(
        TestResponse::from_request(daemon.request(Method::DELETE, &format!("{path}?filter.colour=red"))).await.status,
        202
    );
}

#[tokio::test]
async fn the_total_is_told_where_it_is_known() {
    let daemon = Fixture::start().await;
    let total = async |path: &str| daemon.get(path).await.header("x-total-count").to_owned();
    assert_eq!(total("/providers").await, "0");
    let provider = daemon.provider().await;
    let mut paths = Vec::new();
    for n in 0..3 {
        let name = format!("n{n}.example.com");
        paths.push(daemon.post("/auto-certificates", &auto_certificate(&provider, &name)).await.created());
        daemon.upload(&name).await;
    }
    assert_eq!(total("/auto-certificates?limit=1").await, "3");
    assert_eq!(total("/auto-certificates?limit=1&offset=7").await, "3");
    assert_eq!(total("/auto-certificates?limit=2&filter.state=PROVISIONING").await, "", "it is not kept");
    assert_eq!(total("/auto-certificates?limit=2&offset=2&filter.state=PROVISIONING").await, "3", "it is seen");
    assert_eq!(total("/certificates?limit=3").await, "3");
    assert_eq!(total("/certificates?limit=2").await, "");
    assert_eq!(daemon.delete(&paths[0]).await.status, 202);
    assert_eq!(total("/auto-certificates?limit=1").await, "2");
    assert_eq!(total("/providers?limit=1").await, "1");
}

#[tokio::test]
async fn the_limits_name_themselves_and_their_settings() {
    let daemon = Fixture::with_limits(LimitsSection { auto_certificates: 1, providers: 2, certificates: 1 }).await;
    let wish = daemon.auto_certificate("www.example.com").await;
    let second = daemon.provider().await;
    let refused = daemon.post("/providers", &provider()).await;
    assert_eq!((refused.status, refused.at("/messages/0/errorCode")), (422, "autocertd-limit-1".to_owned()));
    assert!(refused.messages()[0].ends_with("the setting limits.providers"), "{}", refused.text);
    daemon.upload("www.example.com").await;
    let (body, _) = upload(daemon.clock.now(), "www.example.com");
    let refused = daemon.post("/certificates", &body).await;
    assert_eq!(refused.status, 422);
    assert!(refused.messages()[0].contains("limit of 1 uploaded certificates"), "{}", refused.text);
    let issued = daemon.issue(&wish, 90).await;
    assert_eq!(daemon.get("/certificates").await.header("x-total-count"), "2", "what is refused is not kept");
    assert_eq!(daemon.delete(&issued).await.status, 202);
    assert_eq!(daemon.post("/certificates", &body).await.status, 422, "issued ones do not count");
    assert_eq!(daemon.delete(&second).await.status, 202);
    daemon.provider().await;
}

fn hrefs(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["href"].as_str().unwrap().to_owned()).collect()
}
