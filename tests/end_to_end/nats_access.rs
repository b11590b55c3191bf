//! NATS servers that ask who somebody is.

use std::process::Command;

use serde_json::json;
use tests::{Mer, Nats, eventually};

use crate::{MER, SOON};

const SECRET: &str = "secret-0123456789";
/// Of an NKey that is made of 32 times the same byte, and nobody's.
const SEED: &str = "SUADONZXG43TONZXG43TONZXG43TONZXG43TONZXG43TONZXG43TONZNKU";
const PUBLIC_KEY: &str = "UAWIJCWYMZHOMUPERFWBHKCKRGRJMSWKL23XVC4IDZQN5VOIDNHJ2DET";

#[tokio::test]
async fn mer_shows_nats_who_it_is_and_logs_no_secret() {
    for (asks_for, settings) in [
        (
            format!("user: mer, password: \"{SECRET}\""),
            &[("MER_NATS_USER", "mer"), ("MER_NATS_PASSWORD", SECRET)] as &[_],
        ),
        (format!("token: \"{SECRET}\""), &[("MER_NATS_TOKEN", SECRET)]),
        (format!("users: [{{ nkey: {PUBLIC_KEY} }}]"), &[("MER_NATS_NKEY", "seed")]),
    ] {
        let nats = Nats::start_with(&format!("authorization {{ {asks_for} }}"));
        let mut mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_LOG", "trace");
        std::fs::write(mer.data_dir().with_file_name("seed"), format!("{SEED}\n")).unwrap();
        // One that says nothing is not let in.
        mer.launch();
        eventually("it is refused", SOON, || mer.log().contains("authorization violation")).await;
        assert_eq!(mer.api().status("/readyz").await, Some(503));
        mer.kill();
        for (name, value) in settings {
            mer = mer.set(name, value);
        }
        let mer = mer.start().await;
        assert_eq!(mer.api().post_event("a", &json!({})).await.sequence, 1);
        assert!(!mer.log().contains(SECRET) && !mer.log().contains(SEED), "{settings:?}");
    }
}

#[tokio::test]
async fn the_address_may_say_who_it_is_and_is_logged_without_that() {
    for (asks_for, user) in [
        (format!("user: mer, password: \"{SECRET}\""), format!("mer:{SECRET}")),
        (format!("token: \"{SECRET}\""), SECRET.to_owned()),
    ] {
        let nats = Nats::start_with(&format!("authorization {{ {asks_for} }}"));
        let url = nats.url().replace("nats://", &format!("nats://{user}@"));
        let mer = Mer::new(MER).set("MER_NATS_URL", url).set("MER_LOG", "debug").start().await;
        assert_eq!(mer.api().post_event("a", &json!({})).await.sequence, 1);
        assert!(!mer.log().contains(SECRET));
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let nats = Nats::start();
    let mut mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_NATS_TLS", "true").set("MER_LOG", "debug");
    mer.launch();
    eventually("it is refused", SOON, || mer.log().contains("nats.connect_failed")).await;
    assert_eq!(mer.api().status("/readyz").await, Some(503));
}

#[test]
fn what_cannot_be_used_ends_mer_and_is_not_repeated() {
    let mer = Mer::new(MER);
    let file = mer.data_dir().with_file_name("file");
    std::fs::write(&file, SECRET).unwrap();
    for (flag, expected) in [
        ("--nats-creds", "is not a .creds file"),
        ("--nats-nkey", "is not the seed"),
        ("--nats-ca", "is not a PEM file"),
    ] {
        let mut command = Command::new(MER);
        command.args(["serve", "--listen", "127.0.0.1:0", "--nats-url", "nats://127.0.0.1:9", flag]).arg(&file);
        let output = command.env_clear().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected) && !said.contains(SECRET), "{said}");
    }
}
