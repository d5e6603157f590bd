//! A pipe, a device, a folder or a giant in the place of each file that autocertd is told to read: it is named and refused,
//! at once and unread.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use autocertd_support::timed::Timed;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// The settings, where `PATH` is the odd file, and the command that reads it.
const CASES: &[(&str, &str, &[&str])] = &[
    ("the token", "[dns.ionos]\ntoken_file = \"PATH\"", &["check-config"]),
    ("the token at a start", "[dns.ionos]\ntoken_file = \"PATH\"", &["serve"]),
    (
        "a TSIG key",
        "[dns.adapter.office]\ntype = \"rfc2136\"\nserver = \"127.0.0.1:53\"\nkey_file = \"PATH\"",
        &["check-config"],
    ),
    ("the URL of the database", "[store]\nurl_file = \"PATH\"", &["check-config"]),
    ("a root", "[acme]\nextra_roots = [\"PATH\"]", &["check-config"]),
    ("a root at a start", "[acme]\nextra_roots = [\"PATH\"]", &["serve"]),
    (
        "a root of the database",
        "[store]\nurl = \"postgres://u@127.0.0.1:9/d?sslmode=verify-full&sslrootcert=PATH\"",
        &["check-config"],
    ),
    ("the master key", "[keys]\nfile = \"PATH\"", &["serve"]),
    ("the marker of the store", "[keys]\nfile = \"FOLDER/key\"", &["serve"]),
    ("a fragment", "", &["check-config"]),
    ("a fragment at a start", "", &["serve"]),
    ("a backup", "", &["restore", "PATH"]),
    ("the key of an account", "", &["account", "adopt", "provider", "PATH"]),
    ("an import", "", &["import", "certbot", "PATH"]),
    ("the settings", "", &["--config", "PATH", "check-config"]),
];

#[test]
fn no_pipe_device_folder_or_giant_holds_up_a_command_or_fills_the_memory() {
    let mut wrong = Vec::new();
    for kind in ["pipe", "device", "folder", "giant"] {
        for (what, settings, arguments) in CASES {
            // What is imported is a folder.
            if *what == "an import" && kind == "folder" {
                continue;
            }
            let home = tempfile::tempdir().unwrap();
            let odd = place_of(what, home.path());
            make(kind, &odd);
            let (code, said) = run(home.path(), &odd, settings, arguments);
            let is_named = said.contains(odd.to_str().unwrap());
            if code.is_none_or(|code| code == 0) || !is_named || said.len() > 5_000 {
                wrong.push(format!("{what} is a {kind}: ended with {code:?}: {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn place_of(what: &str, home: &Path) -> PathBuf {
    match what {
        "the marker of the store" => home.join("key.store"),
        _ if what.starts_with("a fragment") => home.join("conf.d/10-odd.toml"),
        _ => home.join("odd"),
    }
}

fn make(kind: &str, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match kind {
        "pipe" => mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap(),
        "device" => symlink("/dev/zero", path).unwrap(),
        "folder" => fs::create_dir(path).unwrap(),
        _ => {
            let giant = fs::File::create(path).unwrap();
            giant.set_len(10 << 30).unwrap();
            giant.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

fn run(home: &Path, odd: &Path, settings: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let put = |text: &str| text.replace("PATH", odd.to_str().unwrap()).replace("FOLDER", home.to_str().unwrap());
    let file = home.join("autocertd.toml");
    let state = home.join("state");
    let text = format!("state_directory = \"{}\"\n{}\n[log]\nformat = \"text\"\n", state.display(), put(settings));
    fs::write(&file, text).unwrap();
    // Less than the giant has.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 6000000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_autocertd")]);
    if arguments[0] != "--config" {
        command.arg("--config").arg(&file);
    }
    command.env_remove("IONOS_TOKEN").env_remove("AUTOCERTD_LOG").env_remove("AUTOCERTD_CONFIG");
    let output = command.args(arguments.iter().map(|argument| put(argument))).timed_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), said)
}
