//! Who gets in: passwords and TLS, asked for by psql and by clients that try to get around them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use expect_test::expect;

use super::super::scram::{Passwords, Verifier};
use super::super::tls::Tls;
use super::*;

/// A certificate of `localhost` and its key, made for these tests alone:
/// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -sha256 -nodes -days 36500 -subj /CN=localhost
/// -addext subjectAltName=DNS:localhost,IP:127.0.0.1`.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

fn tls(folder: &Path) -> Tls {
    let key = folder.join("key.pem");
    std::fs::copy(format!("{DATA}/pg-server.key"), &key).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
    let certificate = format!("{DATA}/pg-server.crt");
    let said = Tls::load(Path::new(&certificate), &key).unwrap_err().to_string();
    assert!(said.ends_with("its mode is 0640; make it 0600: chmod 600"), "{said}");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    Tls::load(Path::new(&certificate), &key).unwrap()
}

fn guarded(with_tls: bool) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let verifiers = [("ann".to_owned(), Verifier::of_password("pass wörd").unwrap())];
    let passwords = Passwords::new(verifiers.into(), b"key");
    let tls = with_tls.then(|| tls(folder.path()));
    Server::with_access(8, Access { passwords, tls, network_trusted: false })
}

/// What psql says to `select 1` on a connection like this.
fn connect(server: &Server, password: &str, options: &str) -> String {
    let port = server.address.port();
    let output = Command::new("psql")
        .args(["-X", "-A", "-t", "-w", "-c", "select 1"])
        .arg(format!("host=127.0.0.1 port={port} dbname=quipu connect_timeout=20 {options}"))
        .env("PGPASSWORD", password)
        .output()
        .expect("scripts/setup installs psql");
    let said =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let said = said.replace(&port.to_string(), "PORT");
    format!("{options} -> {}\n", said.lines().map(str::trim).collect::<Vec<_>>().join(" / "))
}

#[test]
fn passwords_are_proved_and_nobody_learns_which_users_there_are() {
    let server = guarded(false);
    let told = [
        connect(&server, "pass wörd", "user=ann"),
        connect(&server, "wrong", "user=ann"),
        connect(&server, "pass wörd", "user=nobody"),
        connect(&server, "", "user=ann"),
        connect(&server, "pass wörd", "user=ann sslmode=require"),
        connect(&server, "pass wörd", "user=ann channel_binding=require"),
    ];
    expect![[r#"
        user=ann -> 1
        user=ann -> psql: error: connection to server at "127.0.0.1", port PORT failed: FATAL:  password authentication failed for user "ann" / DETAIL:  QP0710 (quipu explain QP0710)
        user=nobody -> psql: error: connection to server at "127.0.0.1", port PORT failed: FATAL:  password authentication failed for user "nobody" / DETAIL:  QP0710 (quipu explain QP0710)
        user=ann -> psql: error: connection to server at "127.0.0.1", port PORT failed: fe_sendauth: no password supplied
        user=ann sslmode=require -> psql: error: connection to server at "127.0.0.1", port PORT failed: server does not support SSL, but SSL was required
        user=ann channel_binding=require -> psql: error: connection to server at "127.0.0.1", port PORT failed: channel binding required, but SSL not in use
    "#]]
    .assert_eq(&told.concat());
    // Whoever says something else than a password is told so, and nothing more.
    let mut client = server.connect();
    client.start();
    client.message(b'Q', b"select 1\0");
    assert_eq!(client.kinds(), "E[08P01].");
}

#[test]
fn what_is_said_is_encrypted_and_bound_to_the_certificate() {
    let server = guarded(true);
    let root = format!(
        "user=ann sslmode=verify-ca channel_binding=require sslrootcert={DATA}/pg-server.crt"
    );
    let told = [
        connect(&server, "pass wörd", "user=ann sslmode=require"),
        connect(&server, "pass wörd", "user=ann sslmode=require channel_binding=require"),
        connect(&server, "pass wörd", "user=ann sslmode=require channel_binding=disable"),
        connect(&server, "pass wörd", "user=ann sslmode=disable"),
        connect(&server, "wrong", "user=ann sslmode=require"),
        connect(&server, "pass wörd", &root).replace(DATA, "DATA"),
    ];
    expect![[r#"
        user=ann sslmode=require -> 1
        user=ann sslmode=require channel_binding=require -> 1
        user=ann sslmode=require channel_binding=disable -> 1
        user=ann sslmode=disable -> 1
        user=ann sslmode=require -> psql: error: connection to server at "127.0.0.1", port PORT failed: FATAL:  password authentication failed for user "ann" / DETAIL:  QP0710 (quipu explain QP0710)
        user=ann sslmode=verify-ca channel_binding=require sslrootcert=DATA/pg-server.crt -> 1
    "#]]
    .assert_eq(&told.concat());
}

#[test]
fn bytes_that_came_with_the_request_for_encryption_are_never_the_clients() {
    let server = guarded(true);
    let mut client = server.connect();
    let smuggled = b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x11\0\x03\0\0user\0ann\0\0";
    client.send(smuggled);
    assert_eq!(client.kinds(), "E[08P01].");
    // A handshake of another protocol is closed: it is counted, and serves nothing.
    let mut client = server.connect();
    client.send(&[0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x00]);
    while client.read().is_some() {}
    assert!(client.is_closed());
    assert_eq!(server.garbage.0.load(Ordering::SeqCst), 1);
}
