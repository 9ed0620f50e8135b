//! What applications say with the multifeed handshake: our library, and the multiplexers of JavaScript.

#![allow(clippy::unwrap_used, missing_docs)]

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use conformance::{Process, Store, json_u64, mux_program, root_key};
use multifeed_tokio::{ConnectOptions, Dialect, ReplicationEvent, Role, UserData};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn user_data_goes_both_ways_with_hypermultifeed() {
    for role in [Role::Initiator, Role::Responder] {
        exchange("hypermultifeed", Dialect::RootChannel, role).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_data_goes_both_ways_with_corestore_multifeed() {
    for role in [Role::Initiator, Role::Responder] {
        exchange("@frando/corestore-multifeed", Dialect::RootChannel, role).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_data_goes_both_ways_with_multifeed_6() {
    for role in [Role::Initiator, Role::Responder] {
        exchange("multifeed", Dialect::Stream, role).await;
    }
}

/// One connection with Rust in this role; each side hears what the other says.
async fn exchange(package: &str, dialect: Dialect, role: Role) {
    let key = root_key("user data");
    let rust = Store::new(&key);
    let multifeed = rust.open().await;
    let ours = json!({"name": "Rüst", "list": [1.5, null]});
    let theirs = json!({"name": "Jävascript", "list": [2.5, true]});

    let mut command = Command::new("node");
    command.arg(mux_program()).args([package, &key, &theirs.to_string()]);
    let mut peer = Process::start("the JavaScript multiplexer", &mut command);
    let stream = match role {
        Role::Initiator => {
            peer.send(b"{\"do\":\"listen\"}\n");
            let port = json_u64(&peer.expect_event("listening"), "port");
            let address = (Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap());
            TcpStream::connect(address).await.unwrap()
        }
        Role::Responder => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            peer.send(format!("{}\n", json!({"do": "connect", "port": port})).as_bytes());
            listener.accept().await.unwrap().0
        }
    };
    let user_data = Some(UserData::from_json(ours.to_string()).unwrap());
    let options = ConnectOptions { user_data, ..ConnectOptions::default() };
    let mut connection = multifeed.replicate_with(stream, role, options);
    let ready = async {
        while let Some(event) = connection.next().await {
            if let ReplicationEvent::Ready { multifeed, dialect, user_data } = event {
                return (multifeed, dialect, user_data);
            }
        }
        panic!("the connection ended before it was ready");
    };
    let (of, spoken, heard) = timeout(PATIENCE, ready).await.expect("a handshake in time");
    assert_eq!((of, spoken), (multifeed.id(), dialect), "{package}, {role:?}");
    let heard: Value = serde_json::from_str(heard.expect("user data").as_json()).unwrap();
    assert_eq!(heard, theirs, "{package}, {role:?}");

    // What is on its way to the peer goes out when the connection is polled.
    let connection = tokio::spawn(async move { while connection.next().await.is_some() {} });
    let header = peer.expect_event("ready")["header"].clone();
    assert_eq!(header["userData"], ours, "{package}, {role:?}");
    connection.abort();
    multifeed.close().await.unwrap();
}
