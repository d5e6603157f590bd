//! Holds docs/dispositions.md equal to the code: what each answer and each fault comes to.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::acme::{AcmeError, AcmeStep, AwaitedState, NameProblem, Problem, ProblemKind, Refusal, Unreachable};
use crate::dns::{DnsError, LaggingNameserver};
use crate::domain::certificate::chain::InvalidChain;
use crate::domain::failure::disposition::Disposition;
use crate::domain::failure::retry_after::RetryAfter;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::mac_key::InvalidMacKey;
use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::network_fault::NetworkFault;

const NAMED: Moment = Moment::from_micros(1_800_000_000_000_000);

#[test]
fn the_docs_say_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dispositions.md");
    let expected = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
    } else {
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "docs/dispositions.md is not what the code does; UPDATE_DOCS=1 cargo test --lib dispositions writes it anew"
        );
    }
}

#[test]
fn every_step_of_a_group_means_the_same() {
    for (kind, _) in ProblemKind::ALL {
        for group in [BEFORE_AN_ORDER.as_slice(), WITHIN_AN_ORDER.as_slice()] {
            let meaning = |step: &AcmeStep| refused(*step, 400, kind, None).disposition().as_str();
            let meanings: BTreeSet<_> = group.iter().map(meaning).collect();
            assert_eq!(meanings.len(), 1, "{}: {meanings:?}", kind.name());
        }
    }
}

fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut section = |title: &str, words: &str, header: &str, rows: Vec<Vec<String>>| {
        let columns = header.matches('|').count() - 1;
        write!(text, "\n## {title}\n\n{words}\n\n{header}\n|{}\n", "---|".repeat(columns)).unwrap();
        for row in rows {
            assert_eq!(row.len(), columns, "{row:?}");
            writeln!(text, "| {} |", row.join(" | ")).unwrap();
        }
    };
    section("What each disposition does", MEANINGS, "| disposition | what autocertd does |", meanings());
    section("HTTP statuses of the CA", STATUSES, "| the CA answers | without `Retry-After` | with it |", statuses());
    section(
        "Types of problems",
        TYPES,
        "| type | account, new order | within an order | failed validation | what you do |",
        kinds(),
    );
    section("The network between here and the CA", NETWORK, "| what fails | disposition | what you do |", network());
    section("Everything else about a CA", OTHERS, "| what autocertd says | disposition | what you do |", others());
    section("DNS", DNS, "| what autocertd says | disposition | what you do |", dns());
    text
}

fn meanings() -> Vec<Vec<String>> {
    let of = |disposition: Disposition| match disposition {
        Disposition::Retry { .. } => RETRY,
        Disposition::Restart => RESTART,
        Disposition::Operator => OPERATOR,
        Disposition::ProviderDown { .. } => DOWN,
    };
    let all = [
        Disposition::RETRY,
        Disposition::Restart,
        Disposition::Operator,
        Disposition::ProviderDown { not_before: None },
    ];
    all.map(|disposition| vec![format!("**{}**", disposition.as_str()), of(disposition).to_owned()]).into()
}

fn statuses() -> Vec<Vec<String>> {
    let limited = |words: &str, status| {
        let words = words.to_owned();
        move |not_before| {
            let problem = Problem { detail: words.as_str().into(), ..problem(ProblemKind::RateLimited) };
            answered(AcmeStep::NewOrder, status, Some(problem), not_before)
        }
    };
    let of = |step, status| move |not_before| refused(step, status, ProblemKind::Malformed, not_before);
    let page = |status| move |not_before| answered(AcmeStep::NewOrder, status, None, not_before);
    let row = |words: &str, error: &dyn Fn(Option<Moment>) -> AcmeError| {
        vec![words.to_owned(), told(error(None).disposition()), told(error(Some(NAMED)).disposition())]
    };
    vec![
        row(
            "429 about the account or the service: `too many new orders`, `too many new registrations`, `too many requests`, a quota",
            &limited("too many new orders (300) from this account", 429),
        ),
        row(
            "429 about names: certificates of a domain or of the same names, failed validations, anything else",
            &limited("too many certificates (50) already issued for 'example.com'", 429),
        ),
        row("429 that says that a name is paused", &limited("temporarily prevented from requesting certificates", 429)),
        row("429 without a problem document", &page(429)),
        row("429 at the directory, a nonce or the account", &of(AcmeStep::Nonce, 429)),
        row("408", &of(AcmeStep::NewOrder, 408)),
        row("500 and above, with a problem document or without", &page(503)),
        row("any other error at the directory or at a nonce", &of(AcmeStep::Directory, 404)),
        row("404 or 410 within an order", &of(AcmeStep::Order, 404)),
        row("any other error without a problem document, redirects too", &page(403)),
    ]
}

fn kinds() -> Vec<Vec<String>> {
    let row = |(kind, name): &(ProblemKind, &str)| {
        let [before, within] = [BEFORE_AN_ORDER[0], WITHIN_AN_ORDER[0]].map(|step| refused(step, 400, *kind, None));
        let failed = AcmeError::OrderFailed(vec![NameProblem { name: None, problem: problem(*kind) }]);
        let steps = BEFORE_AN_ORDER.into_iter().chain(WITHIN_AN_ORDER);
        let mut advice: Vec<String> = Vec::new();
        for error in steps.map(|step| refused(step, 400, *kind, None)) {
            let own = error.to_string().split_once(". What to do: ").map(|(_, advice)| advice.to_owned());
            advice.extend(own.filter(|own| !advice.contains(own)));
        }
        if advice.is_empty() {
            advice.push(usual_advice(before.disposition()).to_owned());
        }
        let name = if *kind == ProblemKind::Unknown { "anything else".to_owned() } else { format!("`{name}`") };
        let meanings = [before, within, failed].map(|error| error.disposition().as_str().to_owned());
        std::iter::once(name).chain(meanings).chain([advice.join("; or: ")]).collect()
    };
    ProblemKind::ALL.iter().map(row).collect()
}

fn network() -> Vec<Vec<String>> {
    let row = |fault: NetworkFault| {
        let error = AcmeError::Unreachable(Box::new(Unreachable {
            host: "ca.example".to_owned(),
            fault,
            cause: RemoteMessage::default(),
        }));
        let (disposition, words) = (error.disposition(), error.to_string());
        let advice = words.split_once(". What to do: ").map_or(usual_advice(disposition), |(_, advice)| advice);
        vec![fault.to_string(), told(disposition), advice.to_owned()]
    };
    NetworkFault::ALL.map(row).into()
}

fn others() -> Vec<Vec<String>> {
    let refusal = || {
        let problem = Some(problem(ProblemKind::UserActionRequired));
        Refusal {
            url: "https://ca.example/new-acct".to_owned(),
            status: 403,
            problem,
            retry_after: RetryAfter::Absent,
            excerpt: RemoteMessage::default(),
        }
    };
    let slow = |not_before| AcmeError::PollTimedOut { waiting: AwaitedState::Ready, not_before, problems: Vec::new() };
    let all = vec![
        AcmeError::BadNonce,
        AcmeError::TermsNotAccepted { terms: Some("https://ca.example/terms".into()), refusal: Box::new(refusal()) },
        AcmeError::ChallengeNotOffered { name: "www.example.com".into(), offered: "http-01".into() },
        slow(None),
        slow(Some(NAMED)),
        AcmeError::Unreadable { step: AcmeStep::Directory, cause: "no JSON".into() },
        AcmeError::UnacceptableChain(InvalidChain::OtherBlock),
        AcmeError::UnusableServer("https:///directory".to_owned()),
        AcmeError::UnusableBinding(InvalidMacKey::NotBase64),
        AcmeError::UnusableCredentials("its key is not usable"),
        AcmeError::Cancelled,
        AcmeError::ProfileNotOffered {
            profile: "shortlived".parse().unwrap(),
            offered: ["classic", "tlsserver"].map(str::to_owned).into(),
        },
        AcmeError::NoKeyChange("ca.example".to_owned()),
        AcmeError::AuthorizationLost { name: "www.example.com".into(), status: "deactivated" },
        AcmeError::AccountNotValid { url: "https://ca.example/acct/1".to_owned(), status: "deactivated".into() },
    ];
    let listed = |error: &AcmeError| match error {
        // These have tables of their own.
        AcmeError::Refused { .. } | AcmeError::OrderFailed(_) | AcmeError::Unreachable(_) => 0,
        AcmeError::BadNonce => 1,
        AcmeError::TermsNotAccepted { .. } => 2,
        AcmeError::ChallengeNotOffered { .. } => 3,
        AcmeError::PollTimedOut { .. } => 4,
        AcmeError::Unreadable { .. } => 5,
        AcmeError::UnacceptableChain(_) => 6,
        AcmeError::UnusableServer(_) => 7,
        AcmeError::UnusableBinding(_) => 8,
        AcmeError::UnusableCredentials(_) => 9,
        AcmeError::Cancelled => 10,
        AcmeError::ProfileNotOffered { .. } => 11,
        AcmeError::NoKeyChange(_) => 12,
        AcmeError::AccountNotValid { .. } => 13,
        AcmeError::AuthorizationLost { .. } => 14,
    };
    assert_eq!(all.iter().map(listed).collect::<BTreeSet<_>>(), (1..=14).collect(), "a kind is not in the table");
    all.iter().map(|error| of_words(&error.to_string(), error.disposition())).collect()
}

fn dns() -> Vec<Vec<String>> {
    let all = dns_errors();
    let listed = |error: &DnsError| match error {
        DnsError::Setting { .. } => 0,
        DnsError::NoZone { .. } => 1,
        DnsError::NoToken { .. } => 2,
        DnsError::Unauthorized { .. } => 3,
        DnsError::Unreachable { .. } => 4,
        DnsError::Busy { .. } => 5,
        DnsError::Rejected { .. } => 6,
        DnsError::Unreadable { .. } => 7,
        DnsError::ZoneChanged { .. } => 8,
        DnsError::Conflict { .. } => 9,
        DnsError::Unconfirmed { .. } => 10,
        DnsError::RecordFailed { .. } => 11,
        DnsError::RecordGone { .. } => 12,
        DnsError::Unpublished { .. } => 13,
        DnsError::NoNameServers { .. } => 14,
        DnsError::NotVisible { .. } => 15,
        DnsError::NoCaa { .. } => 16,
        DnsError::NoSuchAdapter { .. } => 17,
        DnsError::NoReply { .. } => 18,
        DnsError::UpdateRefused { .. } => 19,
        DnsError::UpdateFailed { .. } => 20,
        DnsError::NoProgram { .. } => 21,
        DnsError::ProgramFailed { .. } => 22,
        DnsError::Unregistered { .. } => 23,
        DnsError::NoLookup { .. } => 24,
        DnsError::EndlessAlias { .. } => 25,
        DnsError::TooManyValues { .. } => 26,
        DnsError::NoRoute { .. } => 27,
    };
    assert_eq!(all.iter().map(listed).collect::<BTreeSet<_>>(), (0..=27).collect(), "a kind is not in the table");
    all.iter().map(|error| of_words(&error.to_string(), error.disposition())).collect()
}

fn dns_errors() -> Vec<DnsError> {
    let adapter = AdapterName::ionos();
    let (call, name, zone) = ("GET /zones".to_owned(), "_acme-challenge.www.example.com".to_owned(), "a1b2".to_owned());
    let (record, said) = ("c3d4".to_owned(), RemoteMessage::default());
    let busy = |not_before: Option<Moment>| DnsError::Busy {
        adapter: adapter.clone(),
        call: call.clone(),
        status: 503,
        said: said.clone(),
        asked: not_before.into(),
        not_before,
    };
    let rejected =
        |status| DnsError::Rejected { adapter: adapter.clone(), call: call.clone(), status, said: said.clone() };
    let lagging = vec![LaggingNameserver { server: "ns1.example.com".to_owned(), answered: "no such name".to_owned() }];
    let no_request = reqwest::Client::new().get("no URL").build().unwrap_err();
    let no_json = serde_json::from_str::<()>("<html>").unwrap_err();
    vec![
        DnsError::Setting { setting: "dns.ionos.endpoint".to_owned(), reason: "it is no URL".to_owned() },
        DnsError::NoToken { adapter: adapter.clone() },
        DnsError::NoRoute { name: name.clone(), remedy: "add a [[dns.zone]] for it, then reload" },
        DnsError::Unauthorized {
            adapter: adapter.clone(),
            call: call.clone(),
            status: 401,
            said: said.clone(),
            remedy: "give a token that is valid and may manage DNS",
        },
        DnsError::NoZone { adapter: adapter.clone(), name: name.clone(), zones: 3 },
        DnsError::Unreachable { adapter: adapter.clone(), call: call.clone(), source: no_request },
        busy(None),
        busy(Some(NAMED)),
        rejected(404),
        rejected(422),
        DnsError::Unreadable { adapter: adapter.clone(), call: call.clone(), source: no_json },
        DnsError::ZoneChanged { adapter: adapter.clone(), name: name.clone(), zone: zone.clone() },
        DnsError::Conflict { adapter: adapter.clone(), name: name.clone(), said: said.clone() },
        DnsError::Unconfirmed { adapter: adapter.clone(), name: name.clone() },
        DnsError::RecordFailed { adapter: adapter.clone(), record: record.clone() },
        DnsError::RecordGone { adapter: adapter.clone(), record: record.clone() },
        DnsError::Unpublished { adapter: adapter.clone(), record, waited: "5m".parse().unwrap() },
        DnsError::NoNameServers { zone: "example.com".to_owned(), source: "no answer".into() },
        DnsError::NoCaa { name: "www.example.com".to_owned(), source: "no answer".into() },
        DnsError::NotVisible { name: name.clone(), waited: "5m".parse().unwrap(), lagging },
        DnsError::NoLookup { what: "the aliases", name: name.clone(), source: "no answer".into() },
        DnsError::EndlessAlias { name: name.clone(), chain: vec![name.clone(), name.clone()] },
        DnsError::NoSuchAdapter { adapter: "office".to_owned() },
    ]
    .into_iter()
    .chain(errors_of_other_adapters())
    .collect()
}

fn errors_of_other_adapters() -> [DnsError; 7] {
    let adapter = || "office".parse::<AdapterName>().unwrap();
    let (server, call) = ("192.0.2.53:53".to_owned(), "the update of example.com".to_owned());
    let program = "/usr/local/bin/hook".to_owned();
    [
        DnsError::NoReply {
            adapter: adapter(),
            server: server.clone(),
            call: call.clone(),
            source: Box::new("no answer".into()),
        },
        DnsError::UpdateRefused {
            adapter: adapter(),
            server: server.clone(),
            call: call.clone(),
            code: "REFUSED".to_owned(),
            remedy: "let the key update this zone",
        },
        DnsError::UpdateFailed { adapter: adapter(), server, call, code: "SERVFAIL".to_owned() },
        DnsError::NoProgram {
            adapter: adapter(),
            program: program.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        },
        DnsError::ProgramFailed { adapter: adapter(), program, action: "present", ended: "ended with 1".to_owned() },
        DnsError::Unregistered { adapter: adapter(), name: "a.auth.example.org".to_owned() },
        DnsError::TooManyValues { adapter: adapter(), name: "a.auth.example.org".to_owned(), wanted: 3, kept: 2 },
    ]
}

/// A message says first what happened, and last what to do.
fn of_words(words: &str, disposition: Disposition) -> Vec<String> {
    let (said, advice) = words.rsplit_once("; ").unwrap_or((words, usual_advice(disposition)));
    vec![said.to_owned(), told(disposition), advice.to_owned()]
}

fn told(disposition: Disposition) -> String {
    let named = if disposition.not_before().is_some() { ", not before that moment" } else { "" };
    format!("{}{named}", disposition.as_str())
}

const fn usual_advice(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Operator => "mend what the words say, then ask for a renewal",
        Disposition::Retry { .. } | Disposition::Restart | Disposition::ProviderDown { .. } => "nothing",
    }
}

fn refused(step: AcmeStep, status: u16, kind: ProblemKind, retry_after: Option<Moment>) -> AcmeError {
    answered(step, status, Some(problem(kind)), retry_after)
}

fn answered(step: AcmeStep, status: u16, problem: Option<Problem>, retry_after: Option<Moment>) -> AcmeError {
    let url = "https://ca.example/acme".to_owned();
    AcmeError::Refused {
        step,
        refusal: Box::new(Refusal {
            url,
            status,
            problem,
            retry_after: retry_after.into(),
            excerpt: RemoteMessage::default(),
        }),
    }
}

fn problem(kind: ProblemKind) -> Problem {
    let urn = format!("urn:ietf:params:acme:error:{}", kind.name()).into();
    Problem { kind, urn, detail: "the CA's words".into(), instance: None, subproblems: Vec::new() }
}

const BEFORE_AN_ORDER: [AcmeStep; 7] = [
    AcmeStep::NewOrder,
    AcmeStep::Account,
    AcmeStep::Contact,
    AcmeStep::KeyChange,
    AcmeStep::Deactivation,
    AcmeStep::Revocation,
    AcmeStep::RenewalInfo,
];
const WITHIN_AN_ORDER: [AcmeStep; 5] =
    [AcmeStep::Finalize, AcmeStep::Order, AcmeStep::Authorization, AcmeStep::Challenge, AcmeStep::Certificate];

const INTRODUCTION: &str = "\
# What went wrong, what autocertd does, and what you do

Every failure of a renewal comes to one of four *dispositions*. The message of the auto-certificate in the API,
`--renew-now` and the log give the words of the CA or of the DNS, what you can do where there is something to do, and when
the next try is. An order that a limit of the CA would refuse is not sent at all, and is no failure: `autocertd limits` shows
what counts, and when there is room again. This page is written by `UPDATE_DOCS=1 cargo test --lib dispositions` out of the code, and a test holds the
two equal.
";
const MEANINGS: &str = "What went well ends the run of failures from which the pauses grow.";
const RETRY: &str = "tries again from where it was: after 1 minute, 10 minutes, 100 minutes, then daily, give or take a \
    fifth; sooner where a certificate is about to expire, and hourly at least where none is valid. A moment that the \
    other side names comes first, within reason: never under 1 minute, for 7 days or half of the time until expiry at \
    most, though not more often than hourly";
const RESTART: &str = "gives this order up, and makes a new one after the same pauses";
const OPERATOR: &str = "waits for a person. It looks again daily, and at once when someone asks (`autocertd --renew-now \
    NAME`) or the settings are read anew";
const DOWN: &str = "tries again as with retry. It is the trouble of the provider, not of the certificate: once several \
    certificates meet it, or the CA names a moment, the provider is probed by one order at a time, at most a day later \
    however late the moment is";
const STATUSES: &str = "\
The status has the first word. Where none of these rows fits, the type of the problem decides. *Not before that moment* means
the moment of `Retry-After`, in seconds or as a date, as far as the dispositions above allow; the message tells what was asked
for and when the next try is. A value that makes no sense counts as none: no number and no date, a date in the past, more
than a year. For a paused name follow the CA's words to lift the pause, then ask for a renewal.";
const TYPES: &str = "\
The types of RFC 8555, RFC 9773 and of the profiles draft, as an answer to a request and as the reason why a validation
failed. `compound` means what its gravest name means: operator, then provider-down, then restart, then retry.";
const NETWORK: &str = "\
No answer of the CA was received, or not the whole of one.";
const OTHERS: &str = "What the CA said cannot be used, or something here cannot be used with it.";
const DNS: &str = "\
The zone, the record in it, and the name servers that must show it. The statuses 401 and 403 are about the token; 408, 429
and 500 and above are a service that is busy; any other one rejects the call.";
