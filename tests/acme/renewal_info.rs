//! When a CA would like a renewal (RFC 9773), from its own answers and from broken ones; and what orders replace.

use std::sync::Arc;

use autocertd::acme::{AcmeAccount, NewOrder};
use autocertd::config::time_span::TimeSpan;
use autocertd::domain::renewal::renewal_info::{CertId, RenewalInfo, RenewalInfoAnswer, RenewalWindow};
use autocertd::domain::value::moment::Moment;
use autocertd::runtime::clock::{Clock, ManualClock, SystemClock};
use autocertd_support::fault_proxy::{Action, ResponseAlteration};
use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use time::Duration;

use crate::faults::{headers, limited, on, page};
use crate::fixture::{Fixture, client_at, complete, names, settings};

/// A Pebble that has issued one certificate.
struct Issued {
    stage: Fixture,
    account: AcmeAccount,
    /// The leaf, PEM.
    certificate: String,
    id: CertId,
}

impl Issued {
    async fn start() -> Self {
        let stage = Fixture::start_trusting().await;
        let account = stage.account().await;
        let (certificate, id) = issue(&account).await;
        Self { stage, account, certificate, id }
    }

    async fn ask(&self) -> RenewalInfoAnswer {
        self.stage.client.renewal_info(&self.stage.server(), &self.id).await
    }

    /// The answer where Pebble says this.
    async fn told(&self, said: &str) -> RenewalInfoAnswer {
        self.stage.pebble.set_renewal_info(&self.certificate, said).await.unwrap();
        self.ask().await
    }
}

#[tokio::test]
async fn the_window_of_the_ca_is_read_with_its_pace_and_its_explanation() {
    let issued = Issued::start().await;
    let RenewalInfoAnswer::Window { window, explanation_url, retry_after } = issued.ask().await else {
        panic!("Pebble suggests a window of its own")
    };
    let now = SystemClock.now();
    assert!(window.start() > now + Duration::days(30) && window.end() < now + Duration::days(90), "{window}");
    assert_eq!(explanation_url, None);
    let pause = retry_after.unwrap() - now;
    assert!((Duration::hours(5)..=Duration::hours(6)).contains(&pause), "Pebble asks for {pause}");

    for (from, to) in [(-48, -24), (-1, 1), (24 * 365, 24 * 366)] {
        let at = |hours| (now + Duration::hours(hours)).whole_seconds();
        let said = json!({
            "suggestedWindow": { "start": at(from).to_string(), "end": at(to).to_string() },
            "explanationURL": "https://ca.example/\u{1b}[31mwhy",
        });
        let RenewalInfoAnswer::Window { window, explanation_url, .. } = issued.told(&said.to_string()).await else {
            panic!("{said} is a window")
        };
        assert_eq!(Some(window), RenewalWindow::new(at(from), at(to)));
        assert_eq!(explanation_url.as_deref(), Some("https://ca.example/%1B[31mwhy"));
    }
    assert_eq!(issued.stage.proxy.count("directory"), 1, "a question costs one request");
}

#[tokio::test]
async fn what_is_no_window_counts_as_no_answer() {
    let issued = Issued::start().await;
    let known = RenewalInfo::after(None, issued.ask().await, SystemClock.now(), 0.5);
    let window = |start: &str, end: &str| json!({"suggestedWindow": {"start": start, "end": end}}).to_string();
    for said in [
        window("2026-12-02T00:00:00Z", "2026-12-01T00:00:00Z"),
        window("2026-12-02T00:00:00Z", "2026-12-02T00:00:00Z"),
        window("2026-12-02", "tomorrow"),
        r#"{"suggestedWindow": {"start": "2026-12-02T00:00:00Z"}}"#.to_owned(),
        r#"{"suggestedWindow": {"start": "2026-12-02T00:00:00Z", "end": "2026"#.to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        "<html>soon</html>".to_owned(),
    ] {
        let answer = issued.told(&said).await;
        assert!(matches!(answer, RenewalInfoAnswer::Useless(_)), "{said}: {answer:?}");
        let now = SystemClock.now();
        let info = RenewalInfo::after(Some(&known), answer, now, 0.0);
        assert_eq!((&info.suggestion, info.ask_at), (&known.suggestion, now + Duration::hours(6)), "{said}");
    }
}

#[tokio::test]
async fn retry_after_is_read_in_both_forms() {
    let issued = Issued::start().await;
    let now = Moment::from_micros(1_700_000_000_000_000);
    let settings = settings(vec![issued.stage.proxy.root_pem_path()]);
    let client = client_at(&settings, Arc::new(ManualClock::starting_at(now)));
    for value in ["7200", "Wed, 15 Nov 2023 00:13:20 GMT"] {
        issued.stage.proxy.set_hook(on("renewal-info", move || with_header(RETRY_AFTER, value)));
        let answer = client.renewal_info(&issued.stage.server(), &issued.id).await;
        let RenewalInfoAnswer::Window { retry_after, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(retry_after, Some(now + Duration::hours(2)), "{value}");
    }
    issued.stage.proxy.set_hook(on("renewal-info", || with_header(RETRY_AFTER, "soon")));
    let answer = client.renewal_info(&issued.stage.server(), &issued.id).await;
    assert!(matches!(answer, RenewalInfoAnswer::Window { retry_after: None, .. }), "{answer:?}");
}

#[tokio::test]
async fn what_passes_is_told_from_what_lasts() {
    let mut issued = Issued::start().await;
    issued.stage.client = issued.stage.client_with(|settings| settings.timeout = TimeSpan::millis(1_500));
    let passing: [fn() -> Action; 7] = [
        page,
        || Action::Respond(500, HeaderMap::new(), "".into()),
        || limited(429, "slow down", Some("3600")),
        || limited(429, "slow down", None),
        || Action::Cut,
        || Action::Truncate,
        || Action::Stall(std::time::Duration::from_mins(10)),
    ];
    for action in passing {
        issued.stage.proxy.set_hook(on("renewal-info", action));
        let answer = issued.ask().await;
        assert!(matches!(answer, RenewalInfoAnswer::Unreachable(..)), "{answer:?}");
    }
    issued.stage.proxy.set_hook(on("renewal-info", || limited(503, "slow down", Some("3600"))));
    let answer = issued.ask().await;
    let pause = |asked: Moment| asked - SystemClock.now();
    assert!(
        matches!(&answer, RenewalInfoAnswer::Unreachable(words, Some(asked)) if words.contains("could not say when to renew")
            && (Duration::minutes(59)..=Duration::minutes(60)).contains(&pause(*asked))),
        "{answer:?}"
    );

    let lasting: [fn() -> Action; 4] = [
        || Action::Respond(404, HeaderMap::new(), "".into()),
        || Action::Respond(400, HeaderMap::new(), "<html>no</html>".into()),
        || Action::Respond(302, headers([(LOCATION, "https://elsewhere.example/")]), "".into()),
        || Action::Respond(200, HeaderMap::new(), vec![b' '; 2 * 1024 * 1024].into()),
    ];
    for action in lasting {
        issued.stage.proxy.set_hook(on("renewal-info", action));
        let answer = issued.ask().await;
        assert!(matches!(answer, RenewalInfoAnswer::Useless(_)), "{answer:?}");
    }
    issued.stage.proxy.set_hook(Box::new(|_| Action::Pass));
    for (issuer_key, status) in [(issued.id.issuer_key(), "HTTP 404"), ("aYhba4dGQEHhs3uEe6CuLN4ByNQ", "HTTP 400")] {
        let unknown = format!("{issuer_key}.AIdlQyE").parse().unwrap();
        let answer = issued.stage.client.renewal_info(&issued.stage.server(), &unknown).await;
        assert!(matches!(&answer, RenewalInfoAnswer::Useless(words) if words.contains(status)), "{answer:?}");
    }
}

#[tokio::test]
async fn a_ca_that_offers_nothing_is_not_asked() {
    let issued = Issued::start().await;
    let silent = async |place: Option<&'static str>| {
        issued.stage.proxy.set_hook(on("directory", move || Action::Alter(listing(place))));
        let asked = issued.stage.proxy.count("renewal-info");
        let answer = issued.stage.client_with(|_| {}).renewal_info(&issued.stage.server(), &issued.id).await;
        assert_eq!(issued.stage.proxy.count("renewal-info"), asked);
        answer
    };
    for absent in [None, Some(""), Some("not a url")] {
        assert_eq!(silent(absent).await, RenewalInfoAnswer::NotOffered, "{absent:?}");
    }
    for nonsense in ["ftp://ca.example/renewal-info", "http://ca.example/renewal-info"] {
        let answer = silent(Some(nonsense)).await;
        assert!(matches!(answer, RenewalInfoAnswer::Useless(_)), "{nonsense}: {answer:?}");
    }
    issued.stage.proxy.set_hook(on("directory", page));
    let answer = issued.stage.client_with(|_| {}).renewal_info(&issued.stage.server(), &issued.id).await;
    assert!(matches!(answer, RenewalInfoAnswer::Unreachable(_, Some(_))), "{answer:?}");
}

#[tokio::test]
async fn an_order_tells_what_it_replaces_once() {
    let issued = Issued::start().await;
    let names = names(&["example.com"]);
    let replacing = NewOrder { names: &names, profile: None, replaces: Some(&issued.id) };
    let mut order = issued.account.new_order(replacing).await.unwrap();
    assert!(order.is_replacement());
    assert_eq!(ordered(&issued.stage)["replaces"], issued.id.to_string());
    assert!(issued.account.load_order(&order.url()).await.unwrap().is_replacement());

    // Pebble counts a certificate as replaced once the other one is issued; RFC 9773 and Boulder once it is ordered.
    complete(&mut order, &names).await.unwrap();
    let error = issued.account.new_order(replacing).await.err().unwrap();
    assert!(error.to_string().contains("alreadyReplaced") && error.may_concern_replacement(), "{error}");
    let mut again = issued.account.new_order(&names).await.unwrap();
    assert!(!again.is_replacement());
    assert_eq!(ordered(&issued.stage).get("replaces"), None);
}

#[tokio::test]
async fn what_the_ca_does_not_know_or_issued_to_others_is_refused_as_a_replacement() {
    let issued = Issued::start().await;
    let names = names(&["example.com"]);
    let unknown = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".parse().unwrap();
    let stranger = issued.stage.account().await;
    for (account, order) in [
        (&issued.account, NewOrder { names: &names, profile: None, replaces: Some(&unknown) }),
        (&stranger, NewOrder { names: &names, profile: None, replaces: Some(&issued.id) }),
    ] {
        let error = account.new_order(order).await.err().unwrap();
        assert!(error.may_concern_replacement(), "{error}");
    }
    // Pebble's words for a certificate that it has only just issued.
    let unready = || limited(500, "could not find an order for the given certificate", None);
    let faults: [(fn() -> Action, bool); 6] = [
        (page, false),
        (|| limited(429, "slow down", None), false),
        (|| limited(503, "slow down", None), false),
        (|| limited(500, "Error creating new order", None), false),
        (unready, true),
        (|| Action::Cut, false),
    ];
    for (action, concerns_replacement) in faults {
        issued.stage.proxy.set_hook(on("new-order", action));
        let order = NewOrder { names: &names, profile: None, replaces: Some(&issued.id) };
        let error = issued.account.new_order(order).await.err().unwrap();
        assert_eq!(error.may_concern_replacement(), concerns_replacement, "{error}");
    }
}

#[tokio::test]
async fn a_ca_without_renewal_information_is_told_of_no_replacement() {
    let issued = Issued::start().await;
    issued.stage.proxy.set_hook(on("directory", || Action::Alter(listing(None))));
    let credentials = issued.stage.register(None).await.unwrap();
    let account = issued.stage.client_with(|_| {}).account(&credentials).await.unwrap();
    let names = names(&["example.com"]);
    let mut order =
        account.new_order(NewOrder { names: &names, profile: None, replaces: Some(&issued.id) }).await.unwrap();
    assert!(!order.is_replacement());
    assert_eq!(ordered(&issued.stage).get("replaces"), None);
}

#[tokio::test]
async fn an_order_whose_answer_does_not_repeat_what_it_replaces_is_not_lost() {
    let issued = Issued::start().await;
    issued.stage.proxy.set_hook(Box::new(|request| match request.kind {
        "new-order" | "order" => Action::Alter(changed(|order| {
            order.as_object_mut().unwrap().remove("replaces");
        })),
        _ => Action::Pass,
    }));
    let before = issued.stage.proxy.count("new-order");
    let names = names(&["example.com"]);
    let order = NewOrder { names: &names, profile: None, replaces: Some(&issued.id) };
    let mut order = issued.account.new_order(order).await.unwrap();
    assert!(!order.is_replacement());
    complete(&mut order, &names).await.unwrap();
    assert_eq!(issued.stage.proxy.count("new-order"), before + 1);
}

/// Issues a certificate; its leaf and its identifier.
async fn issue(account: &AcmeAccount) -> (String, CertId) {
    let names = names(&["example.com"]);
    let chain = complete(&mut account.new_order(&names).await.unwrap(), &names).await.unwrap();
    let end = chain.find(END).unwrap() + END.len();
    (chain[..end].to_owned(), CertId::from_pem(&chain).unwrap())
}

/// What the last newOrder asked for.
fn ordered(stage: &Fixture) -> Value {
    let requests = stage.proxy.requests();
    requests.into_iter().rfind(|request| request.kind == "new-order").unwrap().payload.unwrap()
}

/// Passes a request on, and sets a header of its answer.
fn with_header(name: HeaderName, value: &'static str) -> Action {
    Action::Alter(Box::new(move |answer| {
        assert_eq!(answer.status(), StatusCode::OK);
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }))
}

/// Changes the JSON of an answer.
fn changed(change: impl FnOnce(&mut Value) + Send + 'static) -> ResponseAlteration {
    Box::new(move |answer: &mut Response<bytes::Bytes>| {
        let mut document = serde_json::from_slice(answer.body()).unwrap();
        change(&mut document);
        *answer.body_mut() = document.to_string().into();
    })
}

/// A directory in which renewal information is at another place, or at none.
fn listing(place: Option<&'static str>) -> ResponseAlteration {
    changed(move |directory| match place {
        Some(place) => directory["renewalInfo"] = place.into(),
        None => drop(directory.as_object_mut().unwrap().remove("renewalInfo")),
    })
}

const END: &str = "-----END CERTIFICATE-----\n";
