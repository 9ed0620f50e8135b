//! `mux.js` of both packages: the multiplexer alone.

#![allow(clippy::wildcard_enum_match_arm, reason = "each wait looks for one output")]

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::thread;

use conformance::{Link, Player, Process, json_u64, mux_program, root_key};
use multifeed_proto::{Config, FeedKey, Output, Role};
use serde_json::json;

use crate::cast::Cast;

/// One multiplexer.
enum Mux {
    Rust(Box<Link>),
    JavaScript(Process),
}

/// Two that are connected, each with its `userData`.
fn connected(cast: Cast, user_data: [&str; 2]) -> [Mux; 2] {
    let key = root_key("a multiplexer");
    let start = |package: &str, user_data: &str| {
        let mut command = Command::new("node");
        command.arg(mux_program()).args([package, &key, user_data]);
        Process::start("the JavaScript multiplexer", &mut command)
    };
    let link = |stream, role, data| {
        Mux::Rust(Box::new(Link::with(stream, role, &key, Some(data), Config::default())))
    };
    match cast.players {
        [Player::Rust(_), Player::JavaScript(package)] => {
            let mut process = start(package, user_data[1]);
            process.send(b"{\"do\":\"listen\"}\n");
            let port = json_u64(&process.expect_event("listening"), "port");
            let address = (Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap());
            let stream = std::net::TcpStream::connect(address).unwrap();
            [link(stream, Role::Initiator, user_data[0]), Mux::JavaScript(process)]
        }
        [first, Player::Rust(_)] => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let one = match first {
                Player::JavaScript(package) => {
                    let process = start(package, user_data[0]);
                    let connect = json!({"do": "connect", "port": address.port()});
                    process.send(format!("{connect}\n").as_bytes());
                    Mux::JavaScript(process)
                }
                Player::Rust(_) => {
                    let stream = std::net::TcpStream::connect(address).unwrap();
                    link(stream, Role::Initiator, user_data[0])
                }
            };
            [one, link(listener.accept().unwrap().0, Role::Responder, user_data[1])]
        }
        [Player::JavaScript(_), Player::JavaScript(_)] => panic!("no case is without Rust"),
    }
}

/// Runs both to their ends at once; gives what they found.
fn at_once<T: Send>(
    [one, two]: [Mux; 2],
    first: impl FnOnce(&mut Mux) -> T + Send,
    second: impl FnOnce(&mut Mux) -> T + Send,
) -> [T; 2] {
    thread::scope(|scope| {
        let (mut one, mut two) = (one, two);
        // What one has queued at its end the other may still need: both live until both are done.
        let one = scope.spawn(move || (first(&mut one), one));
        let two = scope.spawn(move || (second(&mut two), two));
        let (one, two) = (one.join().unwrap(), two.join().unwrap());
        [one.0, two.0]
    })
}

impl Mux {
    /// The `userData` of the other, as JSON.
    fn ready(&mut self) -> serde_json::Value {
        match self {
            Self::Rust(link) => {
                let data = link.until("Ready", |output| match output {
                    Output::Ready { user_data, .. } => Some(user_data.clone()),
                    _ => None,
                });
                serde_json::from_str(&data.expect("user data came")).unwrap()
            }
            Self::JavaScript(process) => {
                process.expect_event("ready")["header"]["userData"].clone()
            }
        }
    }

    fn offer(&mut self, keys: &[FeedKey]) {
        match self {
            Self::Rust(link) => link.connection.offer(link.root(), keys).unwrap(),
            Self::JavaScript(process) => {
                let keys = hex(keys);
                process.send(format!("{}\n", json!({"do": "offer", "keys": keys})).as_bytes());
            }
        }
    }

    fn offered(&mut self) -> Vec<String> {
        match self {
            Self::Rust(link) => link.until("Offered", |output| match output {
                Output::Offered { keys, .. } => Some(hex(keys)),
                _ => None,
            }),
            Self::JavaScript(process) => {
                serde_json::from_value(process.expect_event("manifest")["keys"].clone()).unwrap()
            }
        }
    }

    fn request(&mut self, keys: &[FeedKey]) {
        match self {
            Self::Rust(link) => link.connection.request_feeds(link.root(), keys).unwrap(),
            Self::JavaScript(process) => {
                let keys = hex(keys);
                process.send(format!("{}\n", json!({"do": "request", "keys": keys})).as_bytes());
            }
        }
    }

    /// Answers a request that comes; gives what both are to replicate.
    fn replicate(&mut self) -> Vec<String> {
        match self {
            Self::Rust(link) => link.until("Replicate", |output| match output {
                Output::Replicate { keys, .. } => Some(hex(keys)),
                _ => None,
            }),
            Self::JavaScript(process) => {
                serde_json::from_value(process.expect_event("replicate")["keys"].clone()).unwrap()
            }
        }
    }
}

fn hex(keys: &[FeedKey]) -> Vec<String> {
    keys.iter().map(FeedKey::to_hex).collect()
}

pub(crate) async fn key_exchange_api(cast: Cast) {
    let mut keys = ["A", "B", "C", "X"].map(|name| FeedKey::from_hex(&root_key(name)).unwrap());
    // In the order of their hex digits, as the letters are.
    keys.sort_by_key(FeedKey::to_hex);
    let [a, b, c, x] = keys;
    let replicated = at_once(
        connected(cast, ["1", "2"]),
        move |one| {
            one.ready();
            one.offer(&[a, b, c]);
            one.replicate()
        },
        move |two| {
            two.ready();
            assert_eq!(two.offered(), hex(&[a, b, c]));
            two.request(&[a, c, x]);
            two.replicate()
        },
    );
    for keys in replicated {
        assert_eq!(keys, hex(&[a, c]));
    }
}

pub(crate) async fn ensure_we_re_receiving_remote_handshake(cast: Cast) {
    let found = at_once(connected(cast, ["0.25", "0.75"]), Mux::ready, Mux::ready);
    assert_eq!(found, [json!(0.75), json!(0.25)]);
}
