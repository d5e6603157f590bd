//! Tests that always end, and never meet each other: no wait without a time-out, no address that two of them can have.

/// What waits for as long as it takes, or for as long as somebody else likes.
const WAITS: [&str; 6] =
    [".output()", ".wait()", ".wait_with_output()", " Client::new()", "reqwest::Client::", "reqwest::get("];

/// What puts an end to it.
const ENDS: [&str; 2] = ["within(", "timeout("];

#[test]
fn no_test_waits_for_ever() {
    let faults =
        faults(|line| WAITS.iter().any(|wait| line.contains(wait)) && !ENDS.iter().any(|end| line.contains(end)));
    assert!(faults.is_empty(), "use autocertd_support::timed for these:\n{}", faults.join("\n"));
}

/// A port that was bound and let go is free for anybody.
#[test]
fn no_address_is_let_go_before_it_is_used() {
    let faults = faults(|line| line.contains("bind(") && line.contains(".local_addr()"));
    assert!(faults.is_empty(), "use autocertd_support::loopback for these:\n{}", faults.join("\n"));
}

/// The lines of tests and their support that `is_fault` picks.
fn faults(is_fault: impl Fn(&str) -> bool) -> Vec<String> {
    let sources = crate::files_below("tests");
    let judged = sources.iter().filter(|(path, _)| !["timed.rs", "endings.rs"].iter().any(|name| path.ends_with(name)));
    let faults: Vec<String> = judged
        .flat_map(|(path, text)| {
            let lines =
                text.lines().enumerate().filter(|(_, line)| is_fault(line) && !line.trim_start().starts_with("//"));
            lines
                .map(|(number, line)| format!("tests/{}:{}: {}", path.display(), number + 1, line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    faults
}
