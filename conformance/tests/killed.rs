//! The program killed (SIGKILL) at random moments: nothing acknowledged is lost, nothing forks.
//!
//! What a kill leaves is opened twice: by JavaScript, in a copy, before any recovery by Rust, and by
//! Rust. Both go on with the writer.

#![allow(clippy::unwrap_used, missing_docs)]

use std::thread;
use std::time::Duration;

use conformance::{Contents, Held, Process, Random, Store, block, json_u64, root_key};

/// Kills of the program while it appends, and while it downloads.
const KILLS: u64 = 20;
/// Kills of a process that appends and serves at the same time; together 50.
const LIVE_KILLS: u64 = 10;
/// Rounds after which a JavaScript peer downloads the rest: it costs some seconds.
const JAVASCRIPT_EVERY: u64 = 5;

#[test]
fn a_writer_killed_while_it_appends_keeps_every_acknowledged_block_and_never_forks() {
    let mut random = Random::from_environment("killed while it appends");
    let key = root_key("killed append");
    // `third` syncs after every kill, so it holds an earlier state when it verifies a later one.
    let (store, third) = (Store::new(&key), Store::new(&key));
    store.append_lines("w", b"first\n");
    let feed = store.feed_key("w");
    let mut blocks = vec![b"first".to_vec()];
    // Contents differ from round to round: a second block at an index would not go unnoticed.
    let batch =
        |round| (0..5_000).map(move |i| format!("round {round} line {i:0200}").into_bytes());
    let undisturbed = timed(|| {
        let lines: Vec<_> = batch(0).collect();
        Store::new(&key).append_lines("w", &lines.join(&b'\n'));
    });
    let mut torn = 0;
    for round in 0..KILLS {
        let more: Vec<_> = batch(round).collect();
        let mut append = store.start("append", &["w", "--lines"]);
        append.send(&[&more.join(&b'\n')[..], b"\n"].concat());
        let before = blocks.len() as u64;
        append.close_stdin();
        // Every other kill soon after the first acknowledgement, in the midst of the work.
        let first = (round % 2 == 0).then(|| append.expect_event("appended"));
        let moments = if first.is_some() { SOON } else { undisturbed };
        let last = kill_within(&mut append, moments, &mut random, "appended");
        let acknowledged = last.or(first).map_or(before, appended);

        let copy = store.copied();
        javascript_goes_on(&copy, &feed, &[&blocks[..], &more].concat(), acknowledged, round);
        let found = &store.contents()[&feed];
        let kept = found.length - before;
        assert!(found.length >= acknowledged, "round {round}: lost some of {acknowledged}");
        assert!(kept <= more.len() as u64);
        torn += u64::from(kept < more.len() as u64);
        blocks.extend(more.into_iter().take(usize::try_from(kept).unwrap()));
        assert_holds(&store, &feed, &blocks, round, "after the kill");
        store.append_block("w", format!("after round {round}").as_bytes());
        blocks.push(format!("after round {round}").into_bytes());

        let mut serving = store.serve(&["--once"]);
        third.sync(serving.port);
        serving.finish();
        assert_holds(&third, &feed, &blocks, round, "as a third peer verified it");
    }
    eprintln!("{torn} of {KILLS} kills came before the end; {} blocks written", blocks.len());
    assert!(torn >= KILLS / 4, "too few kills came before the end: this proves little");
    assert_eq!(store.javascript_contents(), [(feed, Held::all(&blocks))].into());
}

#[test]
fn a_reader_killed_while_it_downloads_keeps_what_it_has_and_fetches_only_the_rest() {
    let mut random = Random::from_environment("killed while it downloads");
    let key = root_key("killed download");
    let source = Store::new(&key);
    let mut writer = source.javascript();
    let size = |index: u64| [1_000, 0, 70][(index % 3) as usize];
    let feed = writer.write("w", BLOCKS, &[1_000, 0, 70]);
    let from_javascript = writer.listen();
    let whole = Contents::from([(feed.clone(), Held::written("w", BLOCKS, &[1_000, 0, 70]))]);
    let passed_on = Store::new(&key);
    let undisturbed = timed(|| {
        passed_on.sync(from_javascript);
    });
    let serving = passed_on.serve(&[]);

    let mut store = Store::new(&key);
    let (mut held, mut interrupted) = (0, 0);
    let mut moments = undisturbed / 2;
    for round in 0..KILLS {
        let port = if random.below(2) == 0 { from_javascript } else { serving.port };
        let mut sync = store.start("sync", &[&format!("127.0.0.1:{port}")]);
        let progress = kill_within(&mut sync, moments, &mut random, "progress");
        let acknowledged = held + progress.map_or(0, |line| json_u64(&line, "blocks_received"));

        let genuine = |contents: &Contents, who: &str| {
            let found = contents.get(&feed).cloned();
            let found = found.unwrap_or_else(|| Held::written("w", 0, &[1]));
            assert!(
                found.blocks() >= acknowledged,
                "round {round}: {acknowledged} were there, {who} finds {found:?}"
            );
            let blocks = found.ranges.iter().flat_map(|&(start, end)| start..end);
            let expected = Held::some(found.length, blocks.map(|i| (i, block("w", i, size(i)))));
            assert_eq!(found, expected, "round {round}, {who}");
            found.blocks()
        };
        let copy = store.copied();
        let mut peer = copy.javascript();
        genuine(&peer.contents(), "JavaScript");
        if round % JAVASCRIPT_EVERY == 0 {
            peer.connect(serving.port);
            peer.wait_for(&whole);
        }
        peer.close();
        held = genuine(&store.contents(), "Rust");
        if held < BLOCKS {
            interrupted += 1;
        } else {
            // Faster than when it was timed.
            moments = moments * 2 / 3;
        }
        if held == BLOCKS || random.below(4) == 0 {
            let summary = store.sync(port);
            assert_eq!(json_u64(&summary, "blocks_received"), BLOCKS - held, "round {round}");
            assert_eq!(store.contents(), whole, "round {round}");
            (store, held) = (Store::new(&key), 0);
        }
    }
    eprintln!("{interrupted} of {KILLS} kills came before the end");
    assert!(interrupted >= KILLS / 4, "too few kills came before the end: this proves little");
}

#[test]
fn a_writer_killed_while_it_serves_has_every_block_that_a_peer_heard_of() {
    let mut random = Random::from_environment("killed while it serves");
    let key = root_key("killed live");
    let (store, reader) = (Store::new(&key), Store::new(&key));
    let mut peer = reader.javascript();
    let mut heard = 0;
    for round in 0..LIVE_KILLS {
        let mut writer = live_writer(&store, round, 20_000);
        let listening = writer.expect_event("listening");
        peer.connect(u16::try_from(json_u64(&listening, "port")).unwrap());
        let acknowledged = kill_within(&mut writer, LIVE, &mut random, "appended");
        peer.process().expect_event("closed");

        let copy = store.copied();
        let blocks = store.blocks("live");
        let least = acknowledged.map_or(0, appended);
        assert!(blocks.len() as u64 >= least, "round {round}: lost some of {least} blocks");
        let javascript = copy.javascript_contents();
        let javascript = javascript.into_values().next();
        let kept = javascript.as_ref().map_or(0, |held| held.length);
        assert!(kept >= least, "round {round}, JavaScript: lost some of {least} blocks");
        if let Some(held) = javascript {
            let kept = usize::try_from(held.length).unwrap();
            assert_eq!(held, Held::all(&blocks[..kept]), "round {round}, JavaScript");
        }
        for (key, held) in peer.contents() {
            let blocks_of =
                |&(start, end): &(u64, u64)| (start..end).map(|i| (i, &blocks[i as usize]));
            assert!(
                held.length <= blocks.len() as u64,
                "round {round}: {key} forgot what it announced"
            );
            let expected = Held::some(held.length, held.ranges.iter().flat_map(blocks_of));
            assert_eq!(held, expected, "round {round}");
            heard = held.length;
        }
    }
    let feed = store.contents().into_keys().next().unwrap();
    assert!(heard > 0, "the peer got nothing before the last connection: this proves nothing");
    let mut writer = live_writer(&store, LIVE_KILLS, 1);
    let listening = writer.expect_event("listening");
    peer.connect(u16::try_from(json_u64(&listening, "port")).unwrap());
    let length = appended(writer.expect_event("appended"));
    let pending = peer.wait(1, &[(feed.clone(), length)].into());
    peer.finish(pending);
    drop(writer);
    let whole = [(feed, Held::all(store.blocks("live")))].into();
    assert_eq!(peer.contents(), whole, "what the peer verified after {LIVE_KILLS} kills");
    eprintln!("the peer had {heard} of {length} blocks before the last connection");
}

/// JavaScript opens what a kill left behind: at least the acknowledged blocks of those that were to be
/// there. It goes on with the writer, and Rust goes on after it.
fn javascript_goes_on(
    store: &Store,
    feed: &str,
    blocks: &[Vec<u8>],
    acknowledged: u64,
    round: u64,
) {
    let mut peer = store.javascript();
    let found = peer.contents()[feed].clone();
    assert!(found.length >= acknowledged, "round {round}, JavaScript: lost some of {acknowledged}");
    let mut blocks = blocks[..usize::try_from(found.length).unwrap()].to_vec();
    assert_eq!(found, Held::all(&blocks), "round {round}, JavaScript");
    peer.write("w", 1, &[50]);
    peer.close();
    blocks.push(block("w", found.length, 50));
    store.append_block("w", b"by Rust");
    blocks.push(b"by Rust".to_vec());
    let expected = Contents::from([(feed.to_owned(), Held::all(blocks))]);
    assert_eq!(store.contents(), expected, "round {round}, after JavaScript went on");
}

fn live_writer(store: &Store, round: u64, count: u64) -> Process {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_live_writer"));
    command.arg(store.path()).arg(format!("round {round}")).arg(count.to_string());
    command.env("MULTIFEED_KEY", store.key());
    Process::start("live_writer", &mut command)
}

/// Kills the process within this time, at a random moment, or lets it end before that; gives its last line that is
/// such an event.
fn kill_within(
    process: &mut Process,
    moments: Duration,
    random: &mut Random,
    event: &str,
) -> Option<serde_json::Value> {
    // The random moment itself, not a wait for something.
    let moments = u64::try_from(moments.as_micros()).unwrap();
    thread::sleep(Duration::from_micros(random.below(moments)));
    let lines = process.kill();
    let errors: Vec<_> = lines.iter().filter(|line| line["event"] == "error").collect();
    assert!(errors.is_empty(), "{errors:?}\n{}", process.stderr());
    lines.into_iter().rev().find(|line| line["event"] == event)
}

#[allow(clippy::disallowed_methods, reason = "the moments of the kills come from a real clock")]
fn timed(run: impl FnOnce()) -> Duration {
    let start = std::time::Instant::now();
    run();
    start.elapsed()
}

/// The length of the log after the append that this line acknowledges.
fn appended(line: serde_json::Value) -> u64 {
    json_u64(&line, "start") + json_u64(&line, "length")
}

fn assert_holds(store: &Store, feed: &str, blocks: &[Vec<u8>], round: u64, when: &str) {
    let expected = Contents::from([(feed.to_owned(), Held::all(blocks))]);
    assert_eq!(store.contents(), expected, "round {round}, {when}");
}

/// Blocks of the feed that is downloaded.
const BLOCKS: u64 = 9_000;
/// Time for a kill after the first acknowledgement.
const SOON: Duration = Duration::from_millis(5);
/// Kills of the process that serves while it appends fall into this time of its life; it appends
/// for longer.
const LIVE: Duration = Duration::from_millis(700);
