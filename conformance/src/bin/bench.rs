//! Times one download between JavaScript and our program in all four pairings, interleaved.
//!
//! `cargo run --release -p conformance --bin bench [BLOCKS [SIZE [ROUNDS]]]`: 10,000 blocks of
//! 100 bytes, 5 rounds unless told. Both sides write to files; the time runs in the downloading
//! process from its TCP connection to the last block on disk. Opening and digests are outside it.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use conformance::{Contents, Held, JsPeer, Store, line, lines, root_key};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |name: &str, default: u64| match arguments.next() {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")),
        None => default,
    };
    let (blocks, size, rounds) =
        (number("BLOCKS", 10_000), number("SIZE", 100), number("ROUNDS", 5));
    let key = root_key("bench");
    let store = Store::new(&key);
    let size = usize::try_from(size).unwrap();
    // Made by our program, so that both servers serve the same directory.
    store.append_lines("w", &lines("w", 0..blocks, size));
    let held = Held::all((0..blocks).map(|index| line("w", index, size)));
    let expected = Contents::from([(store.feed_key("w"), held)]);

    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        for pair in PAIRS {
            let client = Store::new(&key);
            let milliseconds = match pair {
                Pair { server: Side::JavaScript, .. } => {
                    let mut server = store.javascript();
                    let port = server.listen();
                    let milliseconds = download(&client, pair.client, port, &expected);
                    server.close();
                    milliseconds
                }
                Pair { server: Side::Rust, .. } => {
                    let server = store.serve(&[]);
                    let milliseconds = download(&client, pair.client, server.port, &expected);
                    server.stop();
                    milliseconds
                }
            };
            if round == 0 {
                assert_eq!(client.contents(), expected, "{}", pair.name);
            }
            times.entry(pair.name).or_default().push(milliseconds);
        }
    }

    println!(
        "{blocks} blocks of {size} bytes, {rounds} interleaved rounds, milliseconds to the last block on disk"
    );
    println!();
    println!("| from → to | median | range | blocks/s | JavaScript pair ÷ this |");
    println!("|---|---|---|---|---|");
    let median = |name: &str| {
        let mut sorted = times[name].clone();
        sorted.sort_by(f64::total_cmp);
        (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
    };
    let (base, _, _) = median(PAIRS[0].name);
    for Pair { name, .. } in PAIRS {
        let (middle, low, high) = median(name);
        #[allow(clippy::cast_precision_loss, reason = "for people to read")]
        let rate = blocks as f64 / middle * 1000.0;
        println!(
            "| {name} | {middle:.0} | {low:.0}–{high:.0} | {rate:.0} | {:.1} |",
            base / middle
        );
    }
}

#[derive(Clone, Copy)]
enum Side {
    JavaScript,
    Rust,
}

struct Pair {
    name: &'static str,
    server: Side,
    client: Side,
}

/// Downloads everything into an empty store; gives the milliseconds that the client measured.
fn download(store: &Store, side: Side, port: u16, expected: &Contents) -> f64 {
    match side {
        Side::Rust => store.sync(port)["milliseconds"].as_f64().unwrap(),
        Side::JavaScript => {
            let mut peer = JsPeer::open(&store.path(), store.key(), &[]).patient(PATIENCE);
            let lengths = expected.iter().map(|(key, held)| (key.clone(), held.length)).collect();
            let pending = peer.wait(expected.len(), &lengths);
            peer.connect(port);
            let answer = peer.finish(pending);
            peer.close();
            answer["milliseconds"].as_f64().unwrap()
        }
    }
}

const PAIRS: [Pair; 4] = [
    Pair { name: "JavaScript → JavaScript", server: Side::JavaScript, client: Side::JavaScript },
    Pair { name: "JavaScript → Rust", server: Side::JavaScript, client: Side::Rust },
    Pair { name: "Rust → JavaScript", server: Side::Rust, client: Side::JavaScript },
    Pair { name: "Rust → Rust", server: Side::Rust, client: Side::Rust },
];
const PATIENCE: Duration = Duration::from_secs(240);
