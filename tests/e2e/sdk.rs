//! The official Python SDK walks the whole tutorial against a running server.

use autocertd_support::timed::within;
use std::path::Path;

use crate::fixture::{Fixture, KEY_ID, KEY_SECRET};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_uses_every_operation() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/sdk/bin/python");
    assert!(python.exists(), "the Python SDK is missing; run tools/install-python-sdk");
    let world = Fixture::with_binding().await;
    world.dns.add_zone("sdk.example");
    let daemon = world.daemon().await;
    let folder = world.folder.path();
    std::fs::write(folder.join("binding"), format!("{KEY_ID} {KEY_SECRET}")).unwrap();
    let uploaded = rcgen::generate_simple_self_signed(["upload.example".to_owned()]).unwrap();
    std::fs::write(folder.join("certificate.pem"), uploaded.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), uploaded.signing_key.serialize_pem()).unwrap();

    let mut walk = tokio::process::Command::new(python);
    walk.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/sdk_walk.py"))
        .arg(&daemon.api.base)
        .arg(world.setup().state().join("first-token"))
        .arg(world.directory())
        .arg(folder.join("binding"))
        .arg("sdk.example")
        .arg(folder)
        .kill_on_drop(true);
    let output = within("the walk of the SDK", walk.output()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}\n{}", String::from_utf8_lossy(&output.stderr), daemon.log());
    assert_eq!(told.trim(), "15 operations used");
}
