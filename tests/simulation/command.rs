//! `autocertd simulate` as a user runs it: no settings, no store, and an exit code.

use autocertd_support::timed::Timed;
use std::process::{Command, Output};

fn simulate(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autocertd"));
    // What it must not read.
    command.env_clear().env("AUTOCERTD_CONFIG", "/nonexistent/autocertd.toml").arg("simulate");
    command.args(arguments.split_whitespace()).timed_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn it_needs_nothing_and_ends_with_a_verdict() {
    let output = simulate("--certificates 50 --days 40 --outage 1d@5 --seed 1");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    assert!(text.ends_with("0 lapses: this fleet survives\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains('█'), "no plot without a terminal: {text}");
    assert!(stdout(&simulate("--certificates 50 --days 40 --plot")).contains('█'));
}

#[test]
fn lapses_give_exit_code_1_and_json_tells_all() {
    let output = simulate("--certificates 50 --days 60 --outage 30d@5 --seed 1 --json");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(report["lapses"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["assumed"]["outages"][0], "30d@5");
    assert_eq!(report["orders"]["by_day"].as_array().unwrap().len(), 60);
}

#[test]
fn bad_usage_changes_nothing_and_says_what_to_write() {
    for (arguments, words) in [
        ("--certificates 0", "certificates must be 1 to"),
        ("--days 10 --outage 1d@10", "day 10 is behind the end"),
        ("--accounts 5 --certificates 4", "accounts must be 1 to 4"),
        ("--lifetime 1h", "the lifetime must be 1d to 400d"),
        ("--outage 5", "such as 5d@100"),
    ] {
        let output = simulate(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
