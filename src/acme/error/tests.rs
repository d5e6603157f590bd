use time::Duration;

use super::*;

const LATER: Moment = Moment::from_micros(1_700_000_000_000_000);

fn refusal(status: u16, body: &str, retry_after: Option<Moment>) -> Box<Refusal> {
    let problem = Problem::parse(body.as_bytes());
    let excerpt = if problem.is_some() { RemoteMessage::default() } else { body.into() };
    let retry_after = retry_after.into();
    Box::new(Refusal { url: "https://ca.example/acme/x".to_owned(), status, problem, retry_after, excerpt })
}

fn refused(step: AcmeStep, status: u16, kind: &str, retry_after: Option<Moment>) -> AcmeError {
    let body = format!(r#"{{"type": "urn:ietf:params:acme:error:{kind}", "detail": "words of the CA"}}"#);
    AcmeError::Refused { step, refusal: refusal(status, &body, retry_after) }
}

fn failed(kind: &str) -> AcmeError {
    let body = format!(r#"{{"type": "urn:ietf:params:acme:error:{kind}", "detail": "words of the CA"}}"#);
    let problem = Problem::parse(body.as_bytes()).unwrap();
    AcmeError::OrderFailed(vec![NameProblem { name: Some("*.example.com".into()), problem }])
}

#[test]
fn the_status_decides_before_the_type() {
    let down = |not_before| Disposition::ProviderDown { not_before };
    let retry = |not_before| Disposition::Retry { not_before };
    for (error, expected) in [
        (refused(AcmeStep::NewOrder, 429, "rateLimited", Some(LATER)), retry(Some(LATER))),
        (refused(AcmeStep::NewOrder, 429, "rateLimited", None), retry(None)),
        (refused(AcmeStep::NewOrder, 429, "malformed", Some(LATER)), retry(Some(LATER))),
        (refused(AcmeStep::NewOrder, 503, "rateLimited", Some(LATER)), down(Some(LATER))),
        (refused(AcmeStep::Finalize, 500, "serverInternal", None), down(None)),
        (refused(AcmeStep::Account, 500, "unauthorized", None), down(None)),
        (refused(AcmeStep::Directory, 404, "malformed", None), down(None)),
        (refused(AcmeStep::Nonce, 404, "malformed", None), down(None)),
        (refused(AcmeStep::Order, 404, "malformed", None), Disposition::Restart),
        (refused(AcmeStep::Order, 404, "accountDoesNotExist", None), Disposition::Restart),
        (refused(AcmeStep::NewOrder, 404, "malformed", None), Disposition::Operator),
        (refused(AcmeStep::NewOrder, 409, "alreadyReplaced", None), Disposition::Restart),
        (refused(AcmeStep::Finalize, 403, "orderNotReady", None), Disposition::Restart),
        (refused(AcmeStep::Account, 401, "unauthorized", None), Disposition::Operator),
        (refused(AcmeStep::Account, 403, "externalAccountRequired", None), Disposition::Operator),
    ] {
        assert_eq!(error.disposition(), expected, "{error}");
    }
}

#[test]
fn a_paused_name_needs_a_person_and_a_rate_limit_does_not() {
    let body = r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail":
        "Your account is temporarily prevented from requesting certificates for example.com. Please visit: https://portal.example/unpause"}"#;
    let paused =
        |retry_after| AcmeError::Refused { step: AcmeStep::NewOrder, refusal: refusal(429, body, retry_after) };
    assert_eq!(paused(None).disposition(), Disposition::Operator);
    assert_eq!(paused(Some(LATER)).disposition(), Disposition::Retry { not_before: Some(LATER) });
    assert!(paused(None).to_string().contains("https://portal.example/unpause"));
}

#[test]
fn a_limit_of_the_account_or_the_service_is_the_providers_and_one_of_names_the_certificates() {
    let limited = |step, words: &str, retry_after| {
        let body = format!(r#"{{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "{words}"}}"#);
        AcmeError::Refused { step, refusal: refusal(429, &body, retry_after) }.disposition()
    };
    for not_before in [None, Some(LATER)] {
        for words in [
            "too many new orders (300) from this account in the last 3h0m0s, retry after 2023-11-14 22:13:20 UTC",
            "Too Many Requests",
            "too many new registrations (10) from this IP address in the last 3h0m0s",
            "Quota exceeded for new orders",
        ] {
            let down = Disposition::ProviderDown { not_before };
            assert_eq!(limited(AcmeStep::NewOrder, words, not_before), down, "{words}");
        }
        for words in [
            "too many certificates (50) already issued for 'example.com' in the last 168h0m0s",
            "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s",
            "too many failed authorizations (5) for 'www.example.com' in the last 1h0m0s",
            "words that nobody has heard before",
        ] {
            assert_eq!(limited(AcmeStep::NewOrder, words, not_before), Disposition::Retry { not_before }, "{words}");
            for step in [AcmeStep::Directory, AcmeStep::Nonce, AcmeStep::Account] {
                assert_eq!(
                    limited(step, words, not_before),
                    Disposition::ProviderDown { not_before },
                    "{step}: {words}"
                );
            }
        }
        let page =
            AcmeError::Refused { step: AcmeStep::Finalize, refusal: refusal(429, "<html>busy</html>", not_before) };
        assert_eq!(page.disposition(), Disposition::ProviderDown { not_before });
    }
}

#[test]
fn what_is_not_the_acme_server_is_the_providers_trouble() {
    for status in [301, 400, 403, 502, 503] {
        let error =
            AcmeError::Refused { step: AcmeStep::NewOrder, refusal: refusal(status, "<html>busy</html>", Some(LATER)) };
        assert_eq!(error.disposition(), Disposition::ProviderDown { not_before: Some(LATER) }, "{status}");
        assert!(error.to_string().contains("busy"), "{error}");
    }
}

#[test]
fn a_failed_validation_wants_a_new_order_unless_a_person_must_act() {
    for kind in [
        "dns",
        "unauthorized",
        "incorrectResponse",
        "connection",
        "tls",
        "serverInternal",
        "rateLimited",
        "malformed",
        "rejectedIdentifier",
    ] {
        assert_eq!(failed(kind).disposition(), Disposition::Restart, "{kind}");
    }
    for kind in ["caa", "unsupportedIdentifier", "badCSR", "badPublicKey"] {
        assert_eq!(failed(kind).disposition(), Disposition::Operator, "{kind}");
    }
    assert_eq!(AcmeError::OrderFailed(Vec::new()).disposition(), Disposition::Restart);
}

#[test]
fn every_other_case_has_its_disposition() {
    let unreachable = |fault| {
        AcmeError::Unreachable(Box::new(Unreachable {
            host: "ca.example".to_owned(),
            fault,
            cause: RemoteMessage::default(),
        }))
    };
    let refusal = refusal(403, "{}", None);
    for (error, expected) in [
        (unreachable(NetworkFault::Dns), PROVIDER_DOWN),
        (unreachable(NetworkFault::Connect), PROVIDER_DOWN),
        (unreachable(NetworkFault::Tls), PROVIDER_DOWN),
        (unreachable(NetworkFault::UnknownIssuer), PROVIDER_DOWN),
        (unreachable(NetworkFault::Proxy { variable: "HTTPS_PROXY" }), PROVIDER_DOWN),
        (unreachable(NetworkFault::TimedOut), PROVIDER_DOWN),
        (unreachable(NetworkFault::Broken), PROVIDER_DOWN),
        (unreachable(NetworkFault::Forbidden), Disposition::Operator),
        (AcmeError::Unreadable { step: AcmeStep::Directory, cause: "no JSON".into() }, PROVIDER_DOWN),
        (AcmeError::UnacceptableChain(InvalidChain::OtherBlock), PROVIDER_DOWN),
        (AcmeError::BadNonce, Disposition::RETRY),
        (AcmeError::Cancelled, Disposition::RETRY),
        (
            AcmeError::PollTimedOut {
                waiting: AwaitedState::Ready,
                not_before: Some(LATER + Duration::HOUR),
                problems: Vec::new(),
            },
            Disposition::Retry { not_before: Some(LATER + Duration::HOUR) },
        ),
        (AcmeError::TermsNotAccepted { terms: None, refusal }, Disposition::Operator),
        (AcmeError::ChallengeNotOffered { name: "a.example".into(), offered: "http-01".into() }, Disposition::Operator),
        (AcmeError::UnusableServer("nonsense".to_owned()), Disposition::Operator),
        (AcmeError::UnusableBinding(InvalidMacKey::NotBase64), Disposition::Operator),
        (AcmeError::UnusableCredentials("it cannot be read"), Disposition::Operator),
    ] {
        assert_eq!(error.disposition(), expected, "{error}");
    }
}

#[test]
fn a_refusal_reads_as_the_cas_words_and_what_to_do() {
    assert_eq!(
        refused(AcmeStep::NewOrder, 403, "caa", None).to_string(),
        "ca.example refused to take the order: HTTP 403, words of the CA (caa). \
         What to do: let the CA issue in the CAA records of the name, or remove them"
    );
    assert_eq!(
        refused(AcmeStep::NewOrder, 503, "rateLimited", Some(LATER)).to_string(),
        "ca.example could not take the order: HTTP 503, words of the CA (rateLimited); not before 2023-11-14T22:13:20Z"
    );
    assert_eq!(
        failed("dns").to_string(),
        "the CA could not validate the order: *.example.com: words of the CA (dns). \
         What to do: look at the TXT records that all name servers of the zone give for _acme-challenge"
    );
    let failure = Failure::from(refused(AcmeStep::NewOrder, 429, "rateLimited", Some(LATER)));
    assert_eq!(failure.disposition, Disposition::Retry { not_before: Some(LATER) });
    assert!(failure.message.as_str().contains("words of the CA"));
}
