//! The program killed (SIGKILL) at random moments: nothing acknowledged is lost, nothing forks.

#![allow(clippy::unwrap_used, missing_docs)]

use std::thread;
use std::time::Duration;

use conformance::{Contents, Held, Process, Random, Store, block, json_u64, root_key};

/// Kills of each test; together 50.
const KILLS: u64 = 25;
/// Rounds after which a JavaScript peer opens the store too: it costs about a second.
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
    let mut torn = 0;
    for round in 0..KILLS {
        // Contents differ from round to round: a second block at an index would not go unnoticed.
        let more: Vec<_> =
            (0..4_000).map(|i| format!("round {round} line {i}").into_bytes()).collect();
        let mut append = store.start("append", &["w", "--lines"]);
        append.send(&more.join(&b'\n'));
        append.send(b"\n");
        let before = blocks.len() as u64;
        let acknowledged = kill_at_random(&mut append, &mut random, "appended")
            .map(|line| json_u64(&line, "length"));

        let found = &store.contents()[&feed];
        let kept = found.length - before;
        assert!(
            found.length >= acknowledged.unwrap_or(before),
            "round {round}: lost {acknowledged:?}"
        );
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
    passed_on.sync(from_javascript);
    let serving = passed_on.serve(&[]);

    let mut store = Store::new(&key);
    let (mut held, mut interrupted) = (0, 0);
    for round in 0..KILLS {
        let port = if random.below(2) == 0 { from_javascript } else { serving.port };
        let mut sync = store.start("sync", &[&format!("127.0.0.1:{port}")]);
        let progress = kill_at_random(&mut sync, &mut random, "progress");
        let acknowledged = held + progress.map_or(0, |line| json_u64(&line, "blocks_received"));

        let contents = store.contents();
        let found = contents.get(&feed).cloned().unwrap_or_else(|| Held::written("w", 0, &[1]));
        assert!(
            found.blocks() >= acknowledged,
            "round {round}: {acknowledged} were there: {found:?}"
        );
        let blocks = found.ranges.iter().flat_map(|&(start, end)| start..end);
        let expected = Held::some(found.length, blocks.map(|i| (i, block("w", i, size(i)))));
        assert_eq!(found, expected, "round {round}");
        if round % JAVASCRIPT_EVERY == 0 {
            assert_eq!(store.javascript_contents(), contents, "round {round}");
        }
        held = found.blocks();
        interrupted += u64::from(held < BLOCKS);
        if held == BLOCKS || random.below(4) == 0 {
            let summary = store.sync(port);
            assert_eq!(json_u64(&summary, "blocks_received"), BLOCKS - held, "round {round}");
            assert_eq!(store.contents(), whole, "round {round}");
            (store, held) = (Store::new(&key), 0);
        }
    }
    eprintln!("{interrupted} of {KILLS} kills came before the end");
}

/// Kills the process after a random time, or lets it end before that; gives its last line that is
/// such an event.
fn kill_at_random(
    process: &mut Process,
    random: &mut Random,
    event: &str,
) -> Option<serde_json::Value> {
    process.close_stdin();
    // The random moment itself, not a wait for something.
    thread::sleep(Duration::from_micros(random.below(MOMENTS)));
    let lines = process.kill();
    let errors: Vec<_> = lines.iter().filter(|line| line["event"] == "error").collect();
    assert!(errors.is_empty(), "{errors:?}\n{}", process.stderr());
    lines.into_iter().rev().find(|line| line["event"] == event)
}

fn assert_holds(store: &Store, feed: &str, blocks: &[Vec<u8>], round: u64, when: &str) {
    let expected = Contents::from([(feed.to_owned(), Held::all(blocks))]);
    assert_eq!(store.contents(), expected, "round {round}, {when}");
    if round % JAVASCRIPT_EVERY == 0 {
        assert_eq!(store.javascript_contents(), expected, "round {round}, {when}, in JavaScript");
    }
}

/// Blocks of the feed that is downloaded.
const BLOCKS: u64 = 3_000;
/// Kills fall into the first so many microseconds of a process: about its whole life.
const MOMENTS: u64 = 300_000;
