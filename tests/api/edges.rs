//! Odd requests: each has an answer in the form of the contract, and changes nothing that it should not.

use std::time::Duration;

use autocertd::runtime::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, TestResponse, auto_certificate, id_of, provider, self_signed, upload};

/// The Python SDK and the Go SDK 1.3 send it for a host with a slash at its end.
#[tokio::test]
async fn a_doubled_slash_reaches_what_it_means() {
    let daemon = Fixture::start().await;
    let path = daemon.post("//providers", &provider()).await.created();
    for (sent, status) in [
        ("//providers".to_owned(), 200),
        ("//providers?limit=1&offset=0".to_owned(), 200),
        ("///providers".to_owned(), 200),
        (format!("/{path}"), 200),
        ("//healthz".to_owned(), 200),
        ("//providers/".to_owned(), 404),
        ("/providers/".to_owned(), 404),
        ("/providers//".to_owned(), 404),
        (path.replace("/providers/", "/providers//"), 404),
        ("//".to_owned(), 404),
        ("//control/renewals".to_owned(), 404),
    ] {
        let answer = daemon.get(&sent).await;
        assert_eq!(answer.status, status, "{sent}");
    }
    let list = daemon.get("//providers?limit=1").await.json();
    assert_eq!(
        (list["_links"]["self"].as_str(), list["href"].as_str()),
        (Some("/providers?offset=0&limit=1"), Some("/providers"))
    );
    let rename = json!({ "properties": { "name": "another" } });
    assert_eq!(daemon.patch(&format!("/{path}"), &rename).await.status, 200);
    assert_eq!(
        TestResponse::from_request(daemon.unauthenticated_request(Method::GET, "//providers")).await.status,
        401
    );
    assert_eq!(daemon.delete(&format!("/{path}")).await.status, 202);
}

#[tokio::test]
async fn odd_paths_and_methods_have_an_answer_in_the_contracts_form() {
    let daemon = Fixture::start().await;
    let token = format!("authorization: Bearer {}\r\n", daemon.token);
    for (line, expected) in [
        ("OPTIONS * HTTP/1.1", 404),
        ("OPTIONS /providers HTTP/1.1", 405),
        ("TRACE /providers HTTP/1.1", 405),
        ("PUT /providers HTTP/1.1", 405),
        ("BREW /providers HTTP/1.1", 405),
        ("GET /providers/../healthz HTTP/1.1", 404),
        ("GET /./providers HTTP/1.1", 404),
        ("GET /%70roviders HTTP/1.1", 404),
        ("GET /providers%2f HTTP/1.1", 404),
        ("GET /providers/%00 HTTP/1.1", 404),
        ("GET /providers/%zz HTTP/1.1", 404),
        ("GET /Providers HTTP/1.1", 404),
        ("GET /providers; HTTP/1.1", 404),
        ("GET /providers?limit=1&limit=x&%ff=%ff HTTP/1.1", 200),
        ("GET http://other.example//providers HTTP/1.1", 200),
    ] {
        let (status, body) = raw(&daemon, &format!("{line}\r\nhost: x\r\n{token}connection: close\r\n\r\n")).await;
        assert_eq!(status, expected, "{line}");
        let json: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{line}: {error}: {body}"));
        if status != 200 {
            assert_eq!(json["httpStatus"], status, "{line}");
            assert!(json["messages"][0]["errorCode"].is_string(), "{line}");
        }
    }
}

#[tokio::test]
async fn a_body_with_a_content_encoding_is_refused_by_its_name() {
    let daemon = Fixture::start().await;
    let path = daemon.provider().await;
    let send = |method: Method, path: &str, encoding: &str| {
        TestResponse::from_request(daemon.request(method, path).header("content-encoding", encoding).json(&provider()))
    };
    for encoding in ["gzip", "br", "identity, GZIP", "x", "deflate,gzip"] {
        for (method, path) in [(Method::POST, "/providers"), (Method::PATCH, &*path), (Method::POST, "/certificates")] {
            let answer = send(method, path, encoding).await;
            assert_eq!((answer.status, answer.header("accept-encoding")), (415, "identity"), "{encoding}");
            assert_eq!(answer.at("/messages/0/errorCode"), "autocertd-media-type-2");
            let named = encoding.trim_start_matches("identity, ").replace(',', ", ");
            assert!(answer.messages()[0].contains(&named), "{}", answer.text);
        }
    }
    for encoding in ["identity", "Identity", "", "identity, identity"] {
        assert_eq!(send(Method::POST, "/providers", encoding).await.status, 201, "{encoding}");
    }
}

#[tokio::test]
async fn odd_json_is_taken_or_refused_with_its_reason() {
    let daemon = Fixture::start().await;
    let send = |body: Vec<u8>| {
        let request = daemon.request(Method::POST, "/providers").header("content-type", "application/json");
        TestResponse::from_request(request.body(body))
    };
    let properties = r#""name":"x","email":"a@b.example","server":"https://ca.example/dir""#;
    let with = |more: &str| format!(r#"{{{more}"properties":{{{properties}}}}}"#);
    for taken in [
        with(""),
        format!("\u{feff}{}", with("")),
        with(r#""metadata":{"n":1e999},"#),
        with(&format!(r#""metadata":{}{},"#, "[".repeat(50_000), "]".repeat(50_000))),
        with(r#""more":{"a":1,"a":2},"#),
        with(r#""metadata":null,"#),
    ] {
        let answer = send(taken.clone().into_bytes()).await;
        assert_eq!(answer.status, 201, "{taken:.80}: {}", answer.text);
    }
    for (refused, status, words) in [
        (format!(r#"{{"properties":{{{properties},"name":"y"}}}}"#), 422, "duplicate field `name`"),
        (format!(r#"{{"properties":{{}},"properties":{{{properties}}}}}"#), 422, "duplicate field `properties`"),
        (with("").replace(r#""x""#, "1e999"), 400, "not valid JSON"),
        (with("").replace(r#""x""#, "123456789012345678901234567890"), 422, "properties.name: must be a string"),
        (with("").replace(r#""x""#, r#""\ud800""#), 400, "not valid JSON"),
        (with("").replace(r#""x""#, r#""a\u0000b""#), 422, "properties.name: holds a NUL character"),
        (with("").replace(r#""x""#, &format!("{}{}", "[".repeat(50_000), "]".repeat(50_000))), 422, "must be a string"),
        (with("").replace(r#""x""#, r#"{"a":[{"b":1}]}"#), 422, "must be a string"),
        (format!("\u{feff}\u{feff}{}", with("")), 400, "not valid JSON"),
        (with("").replace('x', "a\u{1}b"), 400, "not valid JSON"),
        ("{'properties':{}}".to_owned(), 400, "not valid JSON"),
        ("NaN".to_owned(), 400, "not valid JSON"),
    ] {
        let answer = send(refused.clone().into_bytes()).await;
        assert_eq!(answer.status, status, "{refused:.80}: {}", answer.text);
        assert!(answer.messages().iter().any(|message| message.contains(words)), "{refused:.80}: {}", answer.text);
        assert!(answer.text.len() < 2_000, "{}", answer.text.len());
    }
    for damaged in [
        b"{\"properties\":{\"name\":\"\xff\"}}".to_vec(),
        "{\u{feff}}".encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ] {
        assert_eq!(send(damaged).await.status, 400);
    }
    // A million small things in what is ignored cost no more than their text.
    let small = with(&format!(r#""metadata":[{}],"#, vec![r#"{"":0}"#; 140_000].join(",")));
    assert_eq!(send(small.into_bytes()).await.status, 201);
}

#[tokio::test]
async fn every_property_has_a_documented_longest() {
    let daemon = Fixture::start().await;
    let document = daemon.get("/openapi.json").await.json();
    let longest = |schema: &str, property: &str| {
        let found = &document["components"]["schemas"][schema]["properties"][property]["maxLength"];
        usize::try_from(found.as_u64().unwrap_or_else(|| panic!("{schema}.{property} has no maxLength"))).unwrap()
    };
    let long = |prefix: &str, length: usize| json!(format!("{prefix}{}", "x".repeat(length - prefix.len())));
    let mut cases = Vec::new();
    for (property, prefix) in [("name", ""), ("server", "https://ca.example/")] {
        cases.push(("/providers", property, prefix, longest("ProviderCreateProperties", property), 201));
    }
    // An address as long as that has a domain that is too long for the DNS, which nobody asks here.
    cases.push(("/providers", "email", "a@b.", longest("ProviderCreateProperties", "email"), 201));
    for (path, property, prefix, most, status) in cases {
        let mut body = provider();
        body["properties"][property] = long(prefix, most);
        assert_eq!(daemon.post(path, &body).await.status, status, "{property}");
        body["properties"][property] = long(prefix, most + 1);
        let refused = daemon.post(path, &body).await;
        assert_eq!(refused.status, 422, "{property}");
        let expected = format!("properties.{property}: has {} characters, more than the {most} allowed", most + 1);
        assert_eq!(refused.messages(), [expected]);
        body["properties"][property] = long(prefix, 900_000);
        assert!(daemon.post(path, &body).await.text.len() < 500);
    }
    for member in ["keyId", "keySecret"] {
        let most = longest("ProviderExternalAccountBinding", member);
        let mut body = provider();
        body["properties"]["externalAccountBinding"] = json!({ "keyId": "kid", "keySecret": "c2VjcmV0" });
        body["properties"]["externalAccountBinding"][member] = long("", most + 1);
        let refused = daemon.post("/providers", &body).await;
        assert_eq!((refused.status, refused.messages().len()), (422, 1), "{member}");
    }
    let path = daemon.provider().await;
    for property in ["name", "commonName"] {
        let most = longest("AutoCertificateCreateProperties", property);
        let mut body = auto_certificate(&path, "www.example.com");
        body["properties"][property] = long("", most + 1);
        let refused = daemon.post("/auto-certificates", &body).await;
        assert_eq!(refused.status, 422, "{property}");
        assert!(refused.messages()[0].contains("characters, more than"), "{}", refused.text);
    }
    let mut body = auto_certificate(&path, "www.example.com");
    body["properties"]["subjectAlternativeNames"] = json!(vec!["x"; 200_000]);
    let refused = daemon.post("/auto-certificates", &body).await;
    assert!(refused.messages()[0].contains("has 200000 names; at most 10"), "{}", refused.text);
    assert!(refused.messages().len() <= 11, "{}", refused.text);

    let (right, _) = upload(daemon.clock.now(), "www.example.com");
    let pem = right["properties"]["certificate"].as_str().unwrap();
    for property in ["name", "certificate", "certificateChain", "privateKey"] {
        let most = longest("CertificateCreateProperties", property);
        let mut body = right.clone();
        let begun = body["properties"][property].as_str().unwrap().to_owned();
        body["properties"][property] = json!(format!("{begun}{}", "#".repeat(most + 1 - begun.len())));
        let refused = daemon.post("/certificates", &body).await;
        assert!(refused.status == 422 && refused.text.contains("more than"), "{property}: {}", refused.text);
    }
    let mut body = right.clone();
    body["properties"]["certificateChain"] = json!(pem.repeat(16));
    assert_eq!(daemon.post("/certificates", &body).await.status, 201);
    body["properties"]["certificateChain"] = json!(pem.repeat(17));
    let refused = daemon.post("/certificates", &body).await;
    assert_eq!(refused.messages(), ["properties.certificateChain: has 17 certificates, more than the 16 allowed"]);
    let (pem, key) = self_signed(daemon.clock.now(), 1, Some(&"n".repeat(256)), &[]);
    body["properties"] = json!({ "name": "x", "certificate": pem, "certificateChain": pem, "privateKey": key });
    assert_eq!(daemon.post("/certificates", &body).await.status, 422);
}

#[tokio::test]
async fn what_was_issued_ends_with_one_newline_and_an_upload_is_echoed() {
    let daemon = Fixture::start().await;
    let wish = daemon.auto_certificate("www.example.com").await;
    let (other, _) = self_signed(daemon.clock.now(), 1, Some("a CA"), &[]);
    for ending in ["", "\n", "\r\n\n"] {
        let issued = daemon.issue(&wish, 90).await;
        // As another release may have stored it.
        let id = id_of::<uuid::Uuid>(&issued);
        daemon
            .change(&format!(
                "UPDATE certificates SET certificate = rtrim(certificate, char(10)) || '{ending}', \
                 chain = '{}{ending}' WHERE id = '{id}'",
                other.trim_end()
            ))
            .await;
        let properties = daemon.get(&issued).await.json()["properties"].clone();
        for pem in ["certificate", "certificateChain"] {
            let pem = properties[pem].as_str().unwrap();
            assert!(pem.ends_with("-----END CERTIFICATE-----\n"), "{pem:?}");
        }
        let both = format!(
            "{}{}",
            properties["certificate"].as_str().unwrap(),
            properties["certificateChain"].as_str().unwrap()
        );
        assert_eq!(both.matches("-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----").count(), 1);
    }
    let (mut body, _) = upload(daemon.clock.now(), "www.example.com");
    for ending in ["", "\n\n", "\r\n \t"] {
        for pem in ["certificate", "certificateChain"] {
            let text = body["properties"][pem].as_str().unwrap().trim_end().to_owned();
            body["properties"][pem] = json!(format!("{text}{ending}"));
        }
        let echoed = daemon.post("/certificates", &body).await.json();
        assert_eq!(echoed["properties"]["certificate"], body["properties"]["certificate"]);
        assert_eq!(echoed["properties"]["certificateChain"], body["properties"]["certificateChain"]);
    }
}

/// The official Terraform provider's own tests use these.
#[tokio::test]
async fn keys_of_external_accounts_are_taken_as_other_clients_take_them() {
    let daemon = Fixture::start().await;
    for secret in ["secret", "ab+/cg==", "provider-secret-nKj"] {
        let mut body = provider();
        body["properties"]["externalAccountBinding"] = json!({ "keyId": "kid", "keySecret": secret });
        let created = daemon.post("/providers", &body).await;
        assert_eq!(
            created.json()["properties"]["externalAccountBinding"],
            json!({ "keyId": "kid" }),
            "{}",
            created.text
        );
        body["properties"]["externalAccountBinding"]["keySecret"] = json!("no key at all!");
        let refused = daemon.post("/providers", &body).await;
        assert!(refused.messages()[0].starts_with("properties.externalAccountBinding.keySecret: "), "{}", refused.text);
        assert!(!refused.text.contains("no key at all"), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_provider_with_many_users_names_some() {
    let daemon = Fixture::start().await;
    let path = daemon.provider().await;
    for n in 0..21 {
        daemon.post("/auto-certificates", &auto_certificate(&path, &format!("n{n}.example.com"))).await.created();
    }
    let message = daemon.delete(&path).await.messages().remove(0);
    assert!(message.contains("for n0.example.com (") && message.contains("for n19.example.com ("), "{message}");
    assert!(message.ends_with(", and others") && !message.contains("n20.example"), "{message}");
}

/// Each write waits for the database when its client leaves.
#[tokio::test]
async fn a_write_whose_client_leaves_is_carried_out_whole() {
    let fixture = Fixture::start().await;
    let renamed_provider = fixture.provider().await;
    let (renamed, deleted) =
        (fixture.auto_certificate("www.example.com").await, fixture.auto_certificate("deleted.example.com").await);
    let (renamed_upload, deleted_upload) =
        (fixture.upload("one.example.com").await, fixture.upload("two.example.com").await);
    let count = |answer: &TestResponse| answer.json()["items"].as_array().unwrap().len();
    let providers = count(&fixture.get("/providers").await);
    let _ = fixture.was_notified().await;

    let name = json!({ "properties": { "name": "renamed" } }).to_string();
    let made = auto_certificate(&renamed_provider, "made.example.com").to_string();
    let (uploaded, _) = upload(fixture.clock.now(), "uploaded.example.com");
    for (method, path, body) in [
        ("PATCH", renamed_provider.as_str(), name.as_str()),
        ("PATCH", &renamed, &name),
        ("PATCH", &renamed_upload, &name),
        ("POST", "/providers", &provider().to_string()),
        ("POST", "/auto-certificates", &made),
        ("POST", "/certificates", &uploaded.to_string()),
        ("DELETE", &deleted, ""),
        ("DELETE", &deleted_upload, ""),
    ] {
        let lock = fixture.lock_database().await;
        let mut stream = TcpStream::connect(fixture.base.trim_start_matches("http://")).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n", fixture.token);
        let length = body.len();
        let request = format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        // It is waiting by then; a slower machine makes the test weaker, and not wrong.
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(stream);
        tokio::time::sleep(Duration::from_millis(200)).await;
        lock.release().await;
    }

    for path in [&renamed_provider, &renamed, &renamed_upload] {
        fixture.wait_for(path, |answer| answer.at("/properties/name") == "renamed").await;
    }
    for path in [&deleted, &deleted_upload] {
        fixture.wait_for(path, |answer| answer.status == 404).await;
    }
    for (path, expected) in [("/providers", providers + 1), ("/auto-certificates", 2), ("/certificates", 2)] {
        fixture.wait_for(path, |answer| count(answer) == expected).await;
    }
    assert!(fixture.was_notified().await, "the scheduler hears of it");
}

/// Status and body of what a client sends that checks nothing.
async fn raw(daemon: &Fixture, request: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(daemon.base.trim_start_matches("http://")).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    let answer = tokio::time::timeout(Duration::from_mins(1), exchange).await.expect("an answer within a minute");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {head}")), body.to_owned())
}
