//! `exec`: how programs are called, and what is made of how they end.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use autocertd::dns::DnsError;
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd_support::cloud_dns::CloudDns;
use autocertd_support::wait::{read_lines, wait_for_exit, wait_for_lines, write_script};
use tempfile::TempDir;

use crate::{other, routes, txt, zone_id};

const NAME: &str = "_acme-challenge.www.example.test";

/// A folder with a program in it.
struct ExecFixture {
    folder: TempDir,
    path: String,
}

impl ExecFixture {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        write_script(&path, &format!("#!/bin/sh\ncd {} || exit 99\n{script}", folder.path().display()));
        Self { path: path.to_str().unwrap().to_owned(), folder }
    }

    fn section(&self, more: &str) -> String {
        format!("[adapter.other]\ntype = 'exec'\ncommand = ['{}', 'a b']\nzone = 'example.test'\n{more}", self.path)
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn present(&self, more: &str) -> Result<(), DnsError> {
        let record = txt(NAME, "value");
        other(&self.section(more)).present(&zone_id("example.test"), &record).await.map(|_| ())
    }
}

#[tokio::test]
async fn a_program_is_called_as_lego_calls_its_own() {
    let program =
        ExecFixture::new("printf '%s\\n' \"$@\" >> arguments\ncp /proc/self/environ environment\npwd > folder\n");
    let (adapter, zone, record) = (other(&program.section("")), zone_id("example.test"), txt(NAME, "value"));

    let id = adapter.present(&zone, &record).await.unwrap();
    assert!(adapter.is_published(&zone, &id).await.unwrap());
    let presented = environment(&program.at("environment"));
    adapter.remove(&zone, Some(&id), &record).await.unwrap();
    adapter.remove(&zone, None, &record).await.unwrap();

    let dotted = format!("{NAME}.");
    let calls = ["present", "cleanup", "cleanup"].map(|action| ["a b", action, &dotted, "value"]);
    assert_eq!(read_lines(&program.at("arguments")), calls.concat());
    let own =
        ["PATH", "HOME", "LANG"].into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    let mut expected: BTreeMap<String, String> = own.collect();
    for (name, value) in [("ACTION", "present"), ("NAME", NAME), ("VALUE", "value"), ("ZONE", "example.test")] {
        expected.insert(format!("AUTOCERTD_{name}"), value.to_owned());
    }
    assert!(std::env::vars().count() > own_count(&expected), "there is nothing that could leak");
    assert_eq!(presented, expected);
}

#[tokio::test]
async fn a_program_is_called_as_dehydrated_calls_its_own() {
    let program = ExecFixture::new("printf '%s\\n' \"$@\" >> arguments");
    let adapter = other(&program.section("style = 'dehydrated'"));
    let (zone, record) = (zone_id("example.test"), txt(NAME, "value"));

    adapter.present(&zone, &record).await.unwrap();
    adapter.remove(&zone, None, &record).await.unwrap();
    let calls = ["deploy_challenge", "clean_challenge"].map(|action| ["a b", action, "www.example.test", "", "value"]);
    assert_eq!(read_lines(&program.at("arguments")), calls.concat());

    let error = adapter.present(&zone, &txt("www.delegated.test", "value")).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Operator);
    let text = error.to_string();
    assert!(text.starts_with("dns.adapter.other.style cannot be used: www.delegated.test does not begin"), "{text}");
    assert_eq!(read_lines(&program.at("arguments")).len(), 10, "the program was called");
}

#[tokio::test]
async fn a_program_that_fails_is_quoted_within_bounds() {
    let program = ExecFixture::new("printf '\\033[2Jred\\n'; seq 100; echo two >&2; exit 3");
    let error = program.present("").await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::RETRY);
    let said = "it said: 97 | 98 | 99 | 100 | two";
    assert_eq!(
        error.to_string(),
        format!(
            "other: {} present failed (exit status: 3); {said}; it is tried again, run it by hand if this lasts",
            program.path
        )
    );

    let program =
        ExecFixture::new("printf '\\033[2J\\377\\000\\007bell\\n'; head -c 5000 /dev/zero | tr '\\0' x; exit 1");
    let text = program.present("").await.unwrap_err().to_string();
    assert!(text.contains("it said: [2J\u{fffd} bell | xxx") && text.len() < 500, "{text:?}");

    let text = ExecFixture::new("kill -SEGV $$").present("").await.unwrap_err().to_string();
    assert!(text.contains("failed (signal: 11") && text.contains("it said nothing"), "{text}");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let program = ExecFixture::new(
        "sleep 1000 & echo $! >> pids; setsid sleep 1000 & echo $! >> pids; echo waiting; echo $$ >> pids; wait",
    );
    let error = program.present("timeout = '2s'").await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::RETRY);
    let text = error.to_string();
    let expected = "present had not ended after 2s and was killed with all that it started; it said: waiting;";
    assert!(text.contains(expected), "{text}");
    for pid in wait_for_lines(&program.at("pids"), 3).await {
        wait_for_exit(pid).await;
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_started_waits_for_a_person() {
    let program = ExecFixture::new("");
    let (closed, torn) = (program.at("closed"), program.at("torn"));
    fs::write(&closed, "#!/bin/sh\n").unwrap();
    write_script(&torn, "#!/nowhere/sh\n");
    for path in [Path::new("/nowhere/program"), &closed, &torn] {
        let path = path.display();
        let adapter = other(&format!("[adapter.other]\ntype = 'exec'\ncommand = ['{path}']\n"));
        let error = adapter.remove(&zone_id("example.test"), None, &txt(NAME, "value")).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Operator, "{error}");
        let text = Failure::from(error).message;
        let advice = "cannot be started; check dns.adapter.other.command and the program's permissions";
        assert!(text.starts_with(&format!("other: {path} {advice}")), "{text}");
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_refused_before_anything_is_called() {
    for (settings, words) in [
        ("", "missing field `command`"),
        ("command = []", "dns.adapter.other.command cannot be used: name a program by its full path"),
        ("command = ['program']", "dns.adapter.other.command cannot be used: name a program by its full path"),
        ("command = ['/bin/true']\nstyle = 'certbot'", "dns.adapter.other.style cannot be used: unknown variant"),
        ("command = ['/bin/true']\ntimeout = '1y'", "dns.adapter.other.timeout cannot be used"),
        ("command = ['/bin/true']\nshell = true", "unknown field `shell`"),
    ] {
        let refused = routes(&format!("[adapter.other]\ntype = 'exec'\n{settings}"));
        let text = refused.err().unwrap_or_else(|| panic!("{settings} was taken")).to_string();
        assert!(text.contains(words), "{text}");
    }
}

/// Two values at one name among them.
#[tokio::test]
async fn one_call_runs_at_a_time() {
    let program = ExecFixture::new("mkdir turn || exit 1\necho \"$4\" >> values\nsleep 0.05\nrmdir turn");
    let adapter = other(&program.section(""));
    let mut records: Vec<_> =
        (0..6).map(|n| txt(&format!("_acme-challenge.{n}.example.test"), &n.to_string())).collect();
    records.push(txt("_acme-challenge.0.example.test", "6"));

    for result in adapter.present_all(&zone_id("example.test"), &records).await {
        result.unwrap();
    }

    let mut values = read_lines(&program.at("values"));
    values.sort();
    assert_eq!(values, ["0", "1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn the_zone_is_that_of_the_settings_else_that_of_the_dns() {
    let cloud = CloudDns::start().await.unwrap();
    cloud.add_zone("example.test");
    cloud.add_zone("sub.example.test");
    let section = |zone: &str| {
        let resolver = cloud.dns_addr();
        format!(
            "propagation.resolvers = ['{resolver}']\n[adapter.other]\ntype = 'exec'\ncommand = ['/bin/true']\n{zone}"
        )
    };
    let found = other(&section(""));
    assert_eq!(found.zone_for(NAME).await.unwrap().name, "example.test");
    assert_eq!(found.zone_for("_acme-challenge.a.sub.example.test").await.unwrap().id.as_str(), "sub.example.test");
    let error = found.zone_for("_acme-challenge.elsewhere.test").await.unwrap_err();
    assert!(matches!(error, DnsError::NoLookup { .. }), "{error:?}");

    let named = other(&section("zone = 'test'"));
    assert_eq!(named.zone_for(NAME).await.unwrap().name, "test");
    let error = named.zone_for("_acme-challenge.example.org").await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Operator);
    assert!(error.to_string().contains("dns.adapter.other.zone cannot be used: test does not hold"), "{error}");
}

fn environment(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let variables = text.split_terminator('\0').map(|variable| variable.split_once('=').unwrap());
    // The shell adds these by itself.
    let own = variables.filter(|(name, _)| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn own_count(environment: &BTreeMap<String, String>) -> usize {
    environment.keys().filter(|name| !name.starts_with("AUTOCERTD_")).count()
}
