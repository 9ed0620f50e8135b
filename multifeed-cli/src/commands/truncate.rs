//! `multifeed truncate`: gives up the end of a feed on demand.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;

use multifeed_tokio::core::check::{StoreCheck, TruncateError, Truncation};
use multifeed_tokio::core::disk::Disk;
use multifeed_tokio::core::storage::StorageError;
use multifeed_tokio::{Error, NodeError, RootKey};
use serde_json::json;

use crate::args::Truncate;
use crate::context::Context;
use crate::failure::Failure;
use crate::keys;
use crate::output::{Output, plural};

pub(super) async fn run(context: &Context, args: Truncate) -> Result<ExitCode, Failure> {
    let place = args.directory.display().to_string();
    if !args.directory.is_dir() {
        return Err(Failure::new("ERR_NO_STORE", format!("there is no folder {place}"))
            .advice("see whether the path is right")
            .detail("directory", place));
    }
    let root = match keys::given(context).await? {
        Some(given) => Some(given.key),
        None => keys::saved(&args.directory)?,
    };
    let output = context.output.clone();
    let work = tokio::task::spawn_blocking(move || truncate(&args, root, &output));
    let ended = work.await.map_err(|error| Failure::new("ERR_SYSTEM", error.to_string()))?;
    ended.map(|()| ExitCode::SUCCESS)
}

fn truncate(args: &Truncate, root: Option<RootKey>, output: &Output) -> Result<(), Failure> {
    let directory = &args.directory;
    let storage =
        |error: StorageError| Failure::store(directory, &Error::Node(NodeError::Storage(error)));
    let disk = Disk::open(directory).map_err(|error| {
        let place = directory.display();
        Failure::new("ERR_DIRECTORY", format!("cannot open the folder {place}: {error}"))
            .detail("directory", place.to_string())
    })?;
    let mut store = StoreCheck::new(&disk, root).map_err(storage)?;
    let plan =
        store.plan_truncation(&args.feed, args.to).map_err(|e| failed(directory, args, e))?;
    if !args.yes {
        confirm(&plan, args)?;
    }
    let report = store.truncate(&plan).map_err(|error| failed(directory, args, error))?;
    output.result(
        || {
            json!({
                "event": "truncated",
                "feed": plan.key.to_hex(),
                "writer": plan.writer,
                "from": plan.length,
                "to": plan.to,
                "given_up": plan.held,
                "missing": plan.missing,
                "sound": report.is_sound(),
            })
        },
        || {
            let key = plan.key.to_hex();
            let mut text = format!("feed {key} has {} now", plural(plan.to, "block"));
            if plan.missing > 0 {
                let missing = plural(plan.missing, "block");
                let _infallible = write!(text, ", {missing} of which are not here");
            }
            if plan.writer {
                text.push_str("; it can be appended to");
            }
            text
        },
    )
}

/// What it costs, in words.
fn cost(plan: &Truncation) -> String {
    let gone = plan.length.saturating_sub(plan.to);
    let mut text = format!(
        "feed {} has {}; behind block {} {} given up, {} of them held here.",
        plan.key.to_hex(),
        plural(plan.length, "block"),
        plan.to,
        if gone == 1 { "1 block is".to_owned() } else { format!("{gone} blocks are") },
        plan.held
    );
    text.push_str(if plan.writer {
        "\nIt is written here: what is appended next is signed in the places of these blocks. Whoever has got one of \
         them holds another log under the same key then (a fork), and takes nothing more of this feed. Sync with \
         all who may have it first: who has the blocks sends them back."
    } else {
        "\nIt is written by somebody else: the next sync fetches them again from who has them."
    });
    text
}

fn confirm(plan: &Truncation, args: &Truncate) -> Result<(), Failure> {
    let refused = || {
        Failure::new("ERR_NOT_CONFIRMED", format!("nothing was changed. {}", cost(plan)))
            .advice("with --yes it is done")
            .detail("feed", plan.key.to_hex())
            .detail("from", plan.length)
            .detail("to", args.to)
            .detail("given_up", plan.held)
    };
    if !io::stdin().is_terminal() {
        return Err(refused());
    }
    let mut error = io::stderr().lock();
    let asked =
        write!(error, "{}\nGive them up? [yes/no] ", cost(plan)).and_then(|()| error.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
    if read.is_ok() && answer.trim() == "yes" { Ok(()) } else { Err(refused()) }
}

fn failed(directory: &Path, args: &Truncate, error: TruncateError) -> Failure {
    let place = directory.display().to_string();
    let message = format!("{place}: feed {}: {error}", args.feed);
    let verify = || format!("`multifeed verify {place} --repair` restores what can be restored");
    let failure = match error {
        TruncateError::Storage(error) => {
            return Failure::store(directory, &Error::Node(NodeError::Storage(error)));
        }
        TruncateError::UnknownFeed => Failure::new("ERR_UNKNOWN_FEED", message)
            .advice(format!("`multifeed feeds {place}` lists them; give the root key too")),
        TruncateError::Unproven { proven } => Failure::new("ERR_RANGE", message)
            .advice(format!("give --to {proven} or less"))
            .detail("proven", proven),
        TruncateError::Unsigned => Failure::new("ERR_RANGE", message)
            .advice("choose a length that its writer has signed, or 0"),
        TruncateError::Tree | TruncateError::Unopenable(_) | _ => {
            Failure::new("ERR_FEED_DAMAGED", message).advice(verify())
        }
    };
    failure.detail("directory", place)
}
