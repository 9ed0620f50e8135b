//! A store that the JavaScript wrote: its feeds and blocks, and a writer that goes on.
//!
//! Both layouts are shown: that of hypermultifeed 1.1.0 (and corestore-multifeed), and that of multifeed
//! 6.0.0. The two stores are test data of `multifeed-core`, recorded from these packages, and are copied
//! to a temporary folder. Of your own ones, make a copy first, and stop the JavaScript: it takes no lock.
//! `cargo run -p multifeed-tokio --example javascript`

use std::error::Error;
use std::fs;
use std::path::Path;

use multifeed_tokio::{Layout, Multifeed, Options, RootKey, encoding};
use serde_json::{Value, json};

/// The key that the JavaScript takes when it is given none. Everybody knows it: good for tests alone.
const DEFAULT_KEY: &str = "bee80ff3a4ee5e727dc44197cb9d25bf8f19d50b0f3ad2984cfe5b7d14e75de7";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let hypermultifeed = include_str!("../../multifeed-core/tests/vectors/dir_hypermultifeed.json");
    let blocks = read(hypermultifeed, Layout::Corestore).await?;
    assert_eq!(blocks, [json!({"a": 1}), json!("zzz")]);

    let multifeed_6 = include_str!("../../multifeed-core/tests/vectors/dir_multifeed6.json");
    let blocks = read(multifeed_6, Layout::Numbered).await?;
    assert_eq!(blocks, [json!({"a": 1}), json!("second"), json!("zzz")]);
    Ok(())
}

/// The blocks of a recorded store, all feeds one after the other.
async fn read(recorded: &str, layout: Layout) -> Result<Vec<Value>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    unpack(recorded, folder.path())?;

    // Which layout it is shows by itself. The root key is that of the JavaScript application.
    let options = Options::default().root_key(RootKey::from_hex(DEFAULT_KEY)?);
    let multifeed = Multifeed::open(folder.path(), options).await?;
    assert_eq!(multifeed.store().layout(), layout);

    println!("{layout:?}:");
    let mut blocks = Vec::new();
    for feed in multifeed.feeds() {
        let info = feed.load().await?;
        let whose = if info.writable { "a writer of this store" } else { "of a peer" };
        println!("  feed {} {}, {whose}, length {}", info.name, info.key.to_hex(), info.length);
        for index in 0..info.length {
            // The application used `valueEncoding: 'json'`; nothing in the store says so.
            let value = encoding::from_json(&feed.get(index).await?)?;
            println!("    {index}: {value}");
            blocks.push(value);
        }
    }

    // The writer of the same name is the same feed, and the JavaScript can read on here.
    let writer = multifeed.writer("local").await?;
    let index = writer.append(encoding::json(&json!({"from": "Rust"}))?).await?;
    assert_eq!(index, 1);
    multifeed.close().await?;
    Ok(blocks)
}

/// Writes the files of a recorded store: paths with contents in hexadecimal digits.
fn unpack(recorded: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let recorded: Value = serde_json::from_str(recorded)?;
    for (path, contents) in recorded["files"].as_object().ok_or("a store has files")? {
        let digits = contents.as_str().ok_or("the contents of a file are digits")?.as_bytes();
        let byte = |pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
        let bytes: Result<Vec<u8>, Box<dyn Error>> = digits.chunks(2).map(byte).collect();
        let path = folder.join(path);
        fs::create_dir_all(path.parent().ok_or("a file is in a folder")?)?;
        fs::write(path, bytes?)?;
    }
    Ok(())
}
