//! Hostile text in every field that others fill: nothing that autocertd prints, answers or logs holds a control, bidirectional
//! or invisible character, and every message stays under its bound.

use std::path::Path;

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::Action;
use autocertd_support::timed::Timed;
use axum::body::Bytes;
use axum::http::HeaderMap;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, AssertSqlSafe, SqlSafeStr};

use crate::fixture::{Fixture, auto_certificate};

/// A database of a former release, which took and stored texts as they came, with hostile ones wherever it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_former_release_stored_raw_is_clean_in_every_output() {
    let world = Fixture::start().await;
    let setup = world.setup();
    let mut texts = Texts::default();
    fixture(&setup, &mut || texts.next()).await;

    for arguments in [
        ["plan"].as_slice(),
        &["plan", "--json"],
        &["limits"],
        &["limits", "--json"],
        &["deliveries"],
        &["deliveries", "--json"],
        &["token", "list"],
        &["token", "list", "--json"],
        &["dns", "sweep", "--dry-run"],
        &["verify"],
        &["check-config"],
        &["account", "show", HOSTILE_ARGUMENT],
        &["limits", HOSTILE_ARGUMENT],
        &["plan", HOSTILE_ARGUMENT],
        &["token", "revoke", HOSTILE_ARGUMENT],
        &["revoke", HOSTILE_ARGUMENT, "--yes"],
        &["doctor", HOSTILE_ARGUMENT],
        &["--renew-now", HOSTILE_ARGUMENT],
        &["--config", HOSTILE_ARGUMENT, "plan"],
        &["import", "certbot", HOSTILE_ARGUMENT],
    ] {
        let (out, error) = run(&setup, arguments);
        assert!(!out.is_empty() || !error.is_empty(), "{arguments:?} says nothing");
        assert_clean(&format!("standard output of {arguments:?}"), &out);
        assert_clean(&format!("standard error of {arguments:?}"), &error);
        if arguments.contains(&"--json") {
            assert_bounded(&serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}")));
        }
    }

    std::fs::write(setup.state().join("first-token"), TOKEN).unwrap();
    let daemon = Daemon::start(&setup).await.unwrap();
    for list in ["/providers", "/auto-certificates", "/certificates"] {
        let found = daemon.api.get(list).await.unwrap();
        let items = found["items"].as_array().unwrap();
        assert!(!items.is_empty(), "{list} lists none");
        for item in items {
            let one = daemon.api.get(item["href"].as_str().unwrap()).await.unwrap();
            assert_clean_json(&one);
            assert_bounded(&one);
        }
        assert_clean_json(&found);
    }
    let listed = daemon.api.get("/auto-certificates").await.unwrap();
    let named = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let (out, error) = run(&setup, &["plan"]);
    assert_clean("a plan beside the daemon", &(out + &error));
    let log = daemon.log();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "a line of the log is no JSON: {log}");
    assert_clean("the JSON log", &log);
    daemon.terminate().await.unwrap();

    // Without the daemon the one-shot tries what it is told to, and logs to standard error as text.
    let settings = setup.write_settings().unwrap();
    let text = std::fs::read_to_string(&settings).unwrap().replace("format = \"json\"", "format = \"text\"");
    std::fs::write(&settings, text).unwrap();
    let (out, error) = run_with(&setup, &settings, &["--renew-now", &named]);
    assert!(error.contains(" WARN ") || error.contains(" INFO "), "no text log: {out}{error}");
    assert_clean("the one-shot's output", &out);
    assert_clean("the text log", &error);
}

/// Whatever the texts are: proptest prints those of a case that fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_in_any_stored_field_reaches_an_output_raw() {
    let world = Fixture::start().await;
    let config =
        ProptestConfig { cases: 2, max_shrink_iters: 4, failure_persistence: None, ..ProptestConfig::default() };
    let texts = prop::collection::vec(hostile_text(), 16);
    tokio::task::block_in_place(|| {
        let outputs = |texts: Vec<String>| {
            let folder = tempfile::tempdir().unwrap();
            let setup = Setup { folder: folder.path().to_owned(), ..world.setup() };
            tokio::runtime::Handle::current().block_on(assert_outputs_clean(&setup, &texts));
            Ok(())
        };
        TestRunner::new(config).run(&texts, outputs).unwrap_or_else(|failure| panic!("{failure}"));
    });
}

/// Each command that tells of the store, without the daemon and beside it; each list and each thing of the API; the log.
async fn assert_outputs_clean(setup: &Setup, texts: &[String]) {
    let mut next = texts.iter().cycle().cloned();
    fixture(setup, &mut || next.next().unwrap()).await;
    assert_commands_clean(setup);
    std::fs::write(setup.state().join("first-token"), TOKEN).unwrap();
    let daemon = Daemon::start(setup).await.unwrap();
    for list in ["/providers", "/auto-certificates", "/certificates"] {
        let found = daemon.api.get(list).await.unwrap();
        assert_clean_json(&found);
        assert_bounded(&found);
        for item in found["items"].as_array().unwrap() {
            let one = daemon.api.get(item["href"].as_str().unwrap()).await.unwrap();
            assert_clean_json(&one);
            assert_bounded(&one);
        }
    }
    let (out, error) = run(setup, &["plan"]);
    assert_clean("a plan beside the daemon", &(out + &error));
    let log = daemon.log();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "a line of the log is no JSON: {log}");
    assert_clean("the JSON log", &log);
    daemon.terminate().await.unwrap();
}

fn assert_commands_clean(setup: &Setup) {
    for arguments in [["plan"].as_slice(), &["limits"], &["deliveries"], &["token", "list"]] {
        let (out, error) = run(setup, arguments);
        assert!(!out.is_empty(), "{arguments:?} says nothing: {error}");
        assert_clean(&format!("{arguments:?}"), &(out + &error));
        let (out, error) = run(setup, &[arguments, &["--json"]].concat());
        assert_clean(&format!("{arguments:?} --json"), &(out.clone() + &error));
        let json = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"));
        assert_bounded(&json);
    }
}

/// Any characters at all, mixed with those that steer, hide, turn, forge, pile up and go on for long.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(HOSTILE).prop_map(str::to_owned),
        3 => prop::sample::select(HOSTILE_CHARACTERS).prop_map(String::from),
        3 => any::<char>().prop_filter("SQL ends a text at NUL", |c| *c != '\0').prop_map(String::from),
        1 => (0x80_u32..0xa0).prop_map(|c| char::from_u32(c).unwrap_or('\u{80}').to_string()),
        1 => Just("e\u{301}\u{302}\u{303}\u{20dd}".repeat(40)),
        1 => Just("a very long word ".repeat(500)),
        1 => Just("\\u001b[31m\\r\\n\\ud800".to_owned()),
        1 => "[a-zA-Z0-9 \"'|{}<>&%\\\\-]{1,8}",
    ];
    prop::collection::vec(piece, 1..12).prop_map(|pieces| pieces.concat())
}

/// A CA whose problem documents are half a megabyte of terminal control.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_ca_fills_no_message_log_or_terminal() {
    let world = Fixture::start().await;
    world.dns.add_zone("hostile.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let mut texts = Texts::default();
    let problem = json!({
        "type": texts.next(), "title": texts.next(), "instance": texts.next(),
        "detail": format!("says the CA {}", texts.next().repeat(50_000).chars().take(500_000).collect::<String>()),
        "subproblems": vec![json!({
            "type": texts.next(), "detail": texts.next(), "identifier": {"type": "dns", "value": texts.next()},
        }); 150],
    });
    let body = Bytes::from(problem.to_string());
    world.acme.set_hook(Box::new(move |request| match request.kind {
        "new-order" => Action::Respond(403, HeaderMap::new(), body.clone()),
        _ => Action::Pass,
    }));
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.hostile.example"]).await;
    let seen = daemon
        .api
        .wait_until(&path, |seen| seen["metadata"]["message"].as_str().is_some_and(|told| told.contains("says the CA")))
        .await
        .unwrap();
    assert_clean_json(&seen);
    assert_bounded(&seen);
    for arguments in [["plan"].as_slice(), &["limits"], &["plan", "--json"]] {
        let (out, error) = run(&world.setup(), arguments);
        assert_clean(&format!("{arguments:?}"), &(out + &error));
    }
    assert_clean("the log", &daemon.log());
    assert!(daemon.log().len() < 300_000, "the log holds what the CA sent");
    let database = std::fs::metadata(world.setup().state().join("autocertd.db")).unwrap().len();
    let journal = std::fs::metadata(world.setup().state().join("autocertd.db-wal")).map_or(0, |wal| wal.len());
    assert!(database + journal < 8_000_000, "the database holds what the CA sent");
}

/// What an API client sends is refused or stored printable, and the refusal is clean itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_are_refused_in_clean_words() {
    let world = Fixture::start().await;
    let daemon = world.daemon().await;
    let good = json!({ "name": "CA", "email": "ops@example.com", "server": world.directory() });
    let mut texts = Texts::default();
    for _ in 0..8 {
        let hostile = texts.next();
        for field in ["name", "email", "server"] {
            let mut properties = good.clone();
            properties[field] = format!("{}{hostile}", good[field].as_str().unwrap()).into();
            let refusal = daemon.api.create("/providers", properties).await.expect_err(field).to_string();
            assert_clean(field, &refusal);
            assert!(refusal.contains(&format!("properties.{field}")), "{refusal}");
        }
    }
    for server in [
        "https:ca.example",
        "https:///ca.example",
        "https://ca.example/dir#x",
        " https://ca.example/",
        "https://ca.example:0/",
    ] {
        let mut properties = good.clone();
        properties["server"] = server.into();
        let refusal = daemon.api.create("/providers", properties).await.expect_err(server).to_string();
        assert!(refusal.contains("properties.server"), "{server}: {refusal}");
    }
    assert_clean("the log", &daemon.log());
}

/// The database of `tests/fixtures/release-191bd97` with hostile texts.
async fn fixture(setup: &Setup, texts: &mut impl FnMut() -> String) {
    std::fs::create_dir_all(setup.state()).unwrap();
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}?mode=rwc", setup.state().join("autocertd.db").display());
    let database = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    sqlx::raw_sql(include_str!("../fixtures/release-191bd97/tables.sql")).execute(&database).await.unwrap();
    sqlx::raw_sql(include_str!("../fixtures/release-191bd97/rows.sql")).execute(&database).await.unwrap();
    for (table, column) in [
        ("providers", "name"),
        ("providers", "created_by"),
        ("providers", "modified_by"),
        ("auto_certificates", "name"),
        ("auto_certificates", "created_by"),
        ("certificates", "name"),
        ("certificates", "modified_by"),
        ("tokens", "name"),
        ("attempts", "reason"),
        ("challenge_records", "content"),
    ] {
        update(&database, &format!("UPDATE {table} SET {column} = $1 || id"), &texts()).await;
    }
    update(&database, "UPDATE providers SET server = server || $1", "\r\n2026-01-01 ERROR forged \u{1b}[31m").await;
    update(&database, "UPDATE providers SET eab_key_id = eab_key_id || $1 WHERE eab_key_id IS NOT NULL", &texts())
        .await;
    for table in ["providers", "auto_certificates", "deliveries"] {
        let message = texts().repeat(20_000).chars().take(500_000).collect::<String>();
        let trouble = json!({
            "failures": 3, "at": 1_796_078_700_000_000_i64, "next_try": 1_796_078_700_000_000_i64,
            "last": {"disposition": "operator", "not_before": null, "message": message},
        });
        update(&database, &format!("UPDATE {table} SET trouble = $1"), &trouble.to_string()).await;
    }
    let renewal_info = "UPDATE certificates SET renewal_info = json_set(renewal_info, '$.problem', $1) \
                        WHERE renewal_info IS NOT NULL";
    update(&database, renewal_info, &texts()).await;
    database.close().await;
    let key = setup.state().join("master.key");
    std::fs::write(&key, include_str!("../fixtures/release-191bd97/master.key")).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

async fn update(database: &AnyPool, statement: &str, text: &str) {
    let statement = AssertSqlSafe(statement.to_owned()).into_sql_str();
    sqlx::query(statement).bind(text.to_owned()).execute(database).await.unwrap();
}

fn run(setup: &Setup, arguments: &[&str]) -> (String, String) {
    run_with(setup, &setup.write_settings().unwrap(), arguments)
}

fn run_with(setup: &Setup, settings: &Path, arguments: &[&str]) -> (String, String) {
    let mut command = std::process::Command::new(&setup.binary);
    if !arguments.contains(&"--config") {
        command.arg("--config").arg(settings);
    }
    command.env_remove("IONOS_TOKEN").env_remove("AUTOCERTD_CONFIG").env("AUTOCERTD_LOG", "info");
    let output = command.args(arguments).timed_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is UTF-8");
    (text(output.stdout), text(output.stderr))
}

/// Texts that steer, hide, turn and forge; the same ones in each run.
struct Texts(TestRunner);

impl Default for Texts {
    fn default() -> Self {
        Self(TestRunner::deterministic())
    }
}

impl Texts {
    fn next(&mut self) -> String {
        let piece = prop_oneof![
            3 => prop::sample::select(HOSTILE).prop_map(str::to_owned),
            1 => prop::sample::select(HOSTILE_CHARACTERS).prop_map(String::from),
            1 => "[a-zA-Z0-9 ü\"'|{}<>&%\\\\-]{1,8}",
        ];
        let text = prop::collection::vec(piece, 4..12).prop_map(|pieces| format!("{}\u{1b}[2J", pieces.concat()));
        text.new_tree(&mut self.0).unwrap().current()
    }
}

fn assert_clean(what: &str, text: &str) {
    let odd = text.chars().find(|c| *c != '\n' && is_hostile(*c));
    let near = odd
        .and_then(|odd| text.find(odd))
        .map(|at| text[..at].chars().rev().take(80).collect::<Vec<_>>().into_iter().rev().collect::<String>());
    assert!(odd.is_none(), "{what} holds {odd:?} after {near:?}");
    let longest = text.lines().map(str::len).max().unwrap_or_default();
    assert!(longest < 25_000, "a line of {what} has {longest} bytes");
}

/// The texts themselves, not their escapes.
fn assert_clean_json(value: &Value) {
    match value {
        // PEM has line ends, and is what was uploaded.
        Value::String(text) if text.starts_with("-----BEGIN") => {}
        Value::String(text) => assert!(!text.contains(is_hostile), "{text:?}"),
        Value::Array(items) => items.iter().for_each(assert_clean_json),
        Value::Object(members) => members.values().for_each(assert_clean_json),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn assert_bounded(value: &Value) {
    match value {
        Value::String(text) if text.starts_with("-----BEGIN") => {}
        Value::String(text) => assert!(text.chars().count() <= LONGEST_MESSAGE, "{} characters", text.chars().count()),
        Value::Array(items) => items.iter().for_each(assert_bounded),
        Value::Object(members) => members.values().for_each(assert_bounded),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// By ranges of Unicode, apart from the tables that autocertd uses.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0e}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}'
            | '\u{e0000}'..='\u{e0fff}')
}

const HOSTILE: &[&str] = &[
    "\r\n2026-01-01T00:00:00Z ERROR forged",
    "\u{1b}]0;title\u{7}",
    "\u{1b}[31m",
    "\u{9b}2J",
    "\u{202e}gpj.exe\u{202c}",
    "a\u{200b}b",
    "\u{2028}",
    "\u{85}",
    "\u{e0041}\u{e0042}",
    "\u{feff}",
    "\n\n",
    "\u{2066}\u{2069}",
];
const HOSTILE_CHARACTERS: &[char] = &[
    '\u{1}',
    '\u{8}',
    '\t',
    '\u{c}',
    '\u{1b}',
    '\u{7f}',
    '\u{80}',
    '\u{9f}',
    '\u{ad}',
    '\u{61c}',
    '\u{180e}',
    '\u{200d}',
    '\u{200e}',
    '\u{2029}',
    '\u{2060}',
    '\u{3164}',
    '\u{fe01}',
    '\u{fff9}',
    '\u{e000}',
    '\u{e0100}',
];
const HOSTILE_ARGUMENT: &str = "x\u{1b}[2J\r\n\u{202e}\u{200b}\u{9b}y";

/// Ours around a message of 4,000 characters at most.
const LONGEST_MESSAGE: usize = 4_200;

/// The token of the fixture that may do everything.
const TOKEN: &str = "autocertd_183427d101184c6690baed1e0cbd18cb_ARNLgw4Ii16iiCFSmtxg79FsSY-qU3D2cTUT2B5tCZU";
