//! Real web servers serve through renewals, under handshakes without a pause, and not one of these fails.

use autocertd_support::loopback::own_address;
use autocertd_support::timed::{TimedChild, within};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use autocertd_support::daemon::{Daemon, Setup};

use crate::fixture::Fixture;
use crate::handshakes::Handshakes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_serves_through_every_renewal() {
    serves_through_every_renewal("nginx", "signal = \"HUP\"", nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_serves_through_every_renewal() {
    serves_through_every_renewal("haproxy", "signal = \"USR2\"", haproxy).await;
}

/// A placeholder lets the server start; the first certificate and each renewed one take its place.
async fn serves_through_every_renewal(program: &str, signal: &str, start: fn(&Path, &Path, SocketAddr) -> Server) {
    let stage = Fixture::start().await;
    stage.dns.add_zone("served.example");
    // The placeholder is there before the first certificate: its record takes a while to be seen.
    stage.dns.delay_records_in_dns(std::time::Duration::from_secs(2));
    let (address, folder) = (own_address(), stage.folder.path().join(program));
    let certificates = stage.folder.path().join("certificates");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(&certificates).unwrap();
    let setup = setup(&stage, &certificates, &folder.join("pid"), signal, address);
    let daemon = Daemon::start(&setup).await.unwrap();
    let pair = certificates.join("www");
    wait_for(&pair.join("combined.pem")).await;
    let placeholder = leaf_of(&pair);
    let server = start(&folder, &pair, address);
    let handshakes = Handshakes::start(address, "www.served.example", 4);
    handshakes.wait_until(|tally| tally.certificates.contains_key(&placeholder));

    for round in 1..=RENEWALS {
        let mut command =
            tokio::process::Command::from(setup.command(&["--renew-now", "www", "--wait-delivered"]).unwrap());
        let renewed = within("the renewal", command.kill_on_drop(true).output()).await.unwrap();
        assert!(renewed.status.success(), "{renewed:?}\n{}", daemon.log());
        let published = leaf_of(&pair);
        handshakes.wait_until(|tally| tally.certificates.contains_key(&published));
        assert!(handshakes.tally().certificates.len() > round, "the certificate of round {round} is a new one");
    }
    let tally = handshakes.stop();
    drop(server);
    println!(
        "{program}: {} handshakes, {} certificates, {} failures",
        tally.answered,
        tally.certificates.len(),
        tally.failures.len()
    );
    assert_eq!(tally.failures, Vec::<String>::new(), "{program}");
    assert!(tally.answered > 500, "only {} handshakes", tally.answered);
}

fn setup(stage: &Fixture, certificates: &Path, pid_file: &Path, signal: &str, address: SocketAddr) -> Setup {
    let (server, certificates, pid_file) = (stage.pebble.directory_url(), certificates.display(), pid_file.display());
    let more = format!(
        r#"
[[provider]]
key = "pebble"
email = "ops@example.com"
server = "{server}"

[[auto_certificate]]
key = "www"
provider = "pebble"
common_name = "www.served.example"

[[delivery]]
key = "web"
files = {{ directory = "{certificates}", combined = true, placeholder = true }}
reload = {{ pid_file = "{pid_file}", {signal} }}
verify = {{ address = "{address}" }}
"#
    );
    stage.setup(more)
}

fn nginx(folder: &Path, pair: &Path, address: SocketAddr) -> Server {
    let (folder, pair) = (folder.display(), pair.display());
    let settings = format!(
        "daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nworker_processes 2;\nevents {{}}\n\
         http {{\n access_log off;\n client_body_temp_path {folder}/body;\n proxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi;\n uwsgi_temp_path {folder}/uwsgi;\n scgi_temp_path {folder}/scgi;\n\
         server {{\n listen {address} ssl;\n ssl_certificate {pair}/fullchain.pem;\n\
         ssl_certificate_key {pair}/privkey.pem;\n location / {{ return 200 served; }}\n }}\n}}\n"
    );
    let path = format!("{folder}/nginx.conf");
    fs::write(&path, settings).unwrap();
    Server::start(Command::new("/usr/sbin/nginx").args(["-c", &path, "-e", &format!("{folder}/error.log")]), address)
}

fn haproxy(folder: &Path, pair: &Path, address: SocketAddr) -> Server {
    let (folder, pair) = (folder.display(), pair.display());
    let settings = format!(
        "global\n stats socket {folder}/stats level admin expose-fd listeners\n\
         defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
         frontend web\n bind {address} ssl crt {pair}/combined.pem\n http-request return status 200 content-type text/plain string served\n"
    );
    let path = format!("{folder}/haproxy.cfg");
    fs::write(&path, settings).unwrap();
    let (pid, socket) = (format!("{folder}/pid"), format!("{folder}/stats"));
    Server::start(Command::new("/usr/sbin/haproxy").args(["-W", "-f", &path, "-p", &pid, "-x", &socket]), address)
}

/// A server of the test's own, ended with it.
struct Server(Child);

impl Server {
    fn start(command: &mut Command, address: SocketAddr) -> Self {
        let program = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        let hint = "is missing; tools/install-dist-tools installs it";
        let server = Self(child.unwrap_or_else(|error| panic!("{} {hint}: {error}", program.display())));
        for _ in 0..200 {
            if std::net::TcpStream::connect(address).is_ok() {
                return server;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{} does not serve", program.display());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The workers end with their master where it is told so; killed, it would leave them behind.
        let _ = autocertd_support::daemon::signal(self.0.id(), "TERM");
        let _ = self.0.timed_wait();
    }
}

async fn wait_for(path: &Path) {
    for _ in 0..600 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{} is not published", path.display());
}

/// The certificate that is published, DER.
fn leaf_of(pair: &Path) -> Vec<u8> {
    let pem = fs::read(pair.join("cert.pem")).unwrap();
    x509_parser::pem::parse_x509_pem(&pem).unwrap().1.contents
}

const RENEWALS: usize = 4;
