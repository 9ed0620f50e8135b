//! `multifeed convert`: the same multifeed in another layout.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::HumanBytes;
use multifeed_tokio::core::convert::{self, ConvertError, Converted};
use multifeed_tokio::{Layout, RootKey};
use serde_json::json;
use tokio::time::Instant;

use crate::args::{Convert, Folders};
use crate::context::Context;
use crate::failure::Failure;
use crate::keys;
use crate::output::{Progress, plural, printable};
use crate::store::{self, Missing};

pub(super) async fn run(context: &Context, args: Convert) -> Result<ExitCode, Failure> {
    let root = store::find_key(context, &args.directory, Missing::Read).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let progress = context.output.progress();
    let mut work = tokio::task::spawn_blocking({
        let (args, root, stop) = (args.clone(), root.clone(), Arc::clone(&stop));
        move || convert(&args, root, &progress, &stop)
    });
    let ended = |ended: Result<_, tokio::task::JoinError>| {
        ended.map_err(|error| Failure::new("ERR_SYSTEM", error.to_string()))
    };
    let converted = tokio::select! {
        done = &mut work => ended(done)??,
        signal = context.signals.received() => {
            // It takes away what it has made.
            stop.store(true, Ordering::Relaxed);
            match ended(work.await)? {
                Ok(converted) => converted,
                Err(_) => return Err(Failure::interrupted(signal).advice("nothing was made")),
            }
        }
    };
    if let Some(process) = converted.held_by {
        store::say_held(&context.output, &args.directory, process);
    }
    let saved = !args.no_save_key && keys::save(&args.new, &root)?;
    say(context, &args, &converted, saved)?;
    let left_out = !converted.left_out.is_empty() || !converted.unreadable.is_empty();
    let whole = !left_out && converted.damaged.is_empty();
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn convert(
    args: &Convert,
    root: RootKey,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<Converted, Failure> {
    let layout = Layout::from(args.layout);
    let master = keys::random_bytes()?;
    let mut next = Instant::now();
    let result = convert::convert(&args.directory, &args.new, root, layout, master, |copied| {
        let now = Instant::now();
        if now >= next && copied.feeds > 0 {
            progress.show_copied(copied);
            next = now + EVERY;
        }
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    progress.end();
    result.map_err(|error| failed(args, &error))
}

fn failed(args: &Convert, error: &ConvertError) -> Failure {
    let place = if error.is_of_source() { &args.directory } else { &args.new };
    if let ConvertError::Read(error) | ConvertError::Write(error) = error {
        let error = multifeed_tokio::NodeError::Storage(error.clone());
        return Failure::store(place, &multifeed_tokio::Error::Node(error));
    }
    let place = place.display().to_string();
    let message = format!("{place}: {}", printable(&error.to_string()));
    let failure = Failure::new(error.code(), message).detail("directory", place.as_str());
    match advice(error) {
        Some(advice) => failure.advice(advice),
        None => failure,
    }
}

fn advice(error: &ConvertError) -> Option<&'static str> {
    Some(match error {
        ConvertError::NoStore => "see whether the path is right",
        ConvertError::NoMultifeed => {
            "give the root key of the multifeed that is in it, with --key-file or MULTIFEED_KEY"
        }
        ConvertError::Damaged { .. } => {
            "`multifeed verify DIR --repair` restores what can be restored"
        }
        ConvertError::Name { .. } => {
            "stay with the layout of corestore: multifeed 6 would mix this feed up with another"
        }
        ConvertError::Changed { .. } => {
            "end the program that writes there: the JavaScript takes no lock; nothing was made"
        }
        ConvertError::NotEmpty | ConvertError::Inside => "choose a folder that does not exist yet",
        ConvertError::Folder(_) => {
            "see whether the folder above it exists, and whether you may write there"
        }
        ConvertError::Read(_)
        | ConvertError::Write(_)
        | ConvertError::List(_)
        | ConvertError::Stopped
        | _ => return None,
    })
}

fn say(
    context: &Context,
    args: &Convert,
    converted: &Converted,
    saved: bool,
) -> Result<(), Failure> {
    let (old, new) = (args.directory.display().to_string(), args.new.display().to_string());
    let layout = match args.layout {
        Folders::Corestore => "corestore",
        Folders::Numbered => "numbered",
    };
    let renamed = |from: &str, to: &str| json!({ "from": from, "to": to });
    let line = || {
        json!({
            "event": "converted",
            "directory": new,
            "layout": layout,
            "feeds": converted.feeds,
            "writers": converted.writers,
            "bytes": converted.bytes,
            "left_out": converted.left_out,
            "unreadable": converted.unreadable,
            "damaged": converted.damaged.iter().map(|feed| json!({
                "key": feed.key.map(|key| key.to_hex()),
                "folder": feed.folder,
                "lost": feed.lost,
            })).collect::<Vec<_>>(),
            "renamed": converted.renamed.iter().map(|name| renamed(&name.from, &name.to))
                .collect::<Vec<_>>(),
            "key_saved": saved,
        })
    };
    let text = || {
        let mut text = format!(
            "new store in {new}: {}, {} written here, {}",
            plural(converted.feeds, "feed"),
            converted.writers,
            HumanBytes(converted.bytes)
        );
        for name in &converted.renamed {
            let (from, to) = (printable(&name.from), &name.to);
            let _infallible = write!(text, "\nthe feed {from} is called {to} there");
        }
        show(&mut text, &converted.left_out, |folder| {
            format!("left out, not in this multifeed: {folder}")
        });
        show(&mut text, &converted.unreadable, |folder| {
            format!(
                "left out, a file cannot be read: {folder}; `multifeed verify {old}` says which"
            )
        });
        show(&mut text, &converted.damaged, |feed| {
            let key = feed.key.map_or_else(|| feed.folder.clone(), |key| key.to_hex());
            let lost = plural(feed.lost, "block");
            format!("damaged in {old}: {key}, {lost} lost; a sync brings back what peers have")
        });
        let _infallible = write!(
            text,
            "\nFrom here on append to {new} or to {old}, never to both: they have the same writers."
        );
        text
    };
    context.output.result(line, text)
}

/// A line for each of some of these, and how many more there are.
fn show<T>(text: &mut String, all: &[T], line: impl Fn(&T) -> String) {
    for one in all.iter().take(SHOWN) {
        let _infallible = write!(text, "\n{}", line(one));
    }
    if all.len() > SHOWN {
        let _infallible = write!(text, "\nand {} more", all.len() - SHOWN);
    }
}

/// Time between two lines about the progress.
const EVERY: Duration = Duration::from_millis(100);

/// Feeds or folders of a kind that are shown to people.
const SHOWN: usize = 10;
