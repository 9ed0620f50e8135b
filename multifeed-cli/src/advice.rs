//! What the user can do about a failure: one place for all of it, by command and cause.
//!
//! Each advice must be true for the command that prints it. What is between backquotes and begins with `multifeed`
//! is a command line that can be entered as it is, but for words in capitals.

#![allow(clippy::wildcard_enum_match_arm, reason = "an advice that differs for few commands")]

use std::fmt::Write;
use std::path::Path;

use crate::args::Command;
use crate::failure::{Failure, INTERRUPTED};

/// What the program is doing, as far as advice depends on it.
#[derive(Clone, Debug)]
pub(crate) struct Doing {
    pub(crate) task: Task,
    /// The folder of the store, as it can be entered in a shell.
    pub(crate) place: String,
}

/// The commands, as far as advice differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Demo,
    Init,
    Append,
    Feeds,
    Cat,
    Block,
    Verify,
    Repair,
    Truncate,
    Convert,
    Serve,
    Sync,
}

impl Doing {
    pub(crate) fn new(command: &Command) -> Self {
        let (task, directory) = match command {
            Command::Demo => (Task::Demo, None),
            Command::Init(args) => (Task::Init, Some(&args.directory)),
            Command::Append(args) => (Task::Append, Some(&args.directory)),
            Command::Feeds(args) => (Task::Feeds, Some(&args.directory)),
            Command::Cat(args) => (Task::Cat, Some(&args.directory)),
            Command::Block(args) | Command::Unblock(args) => (Task::Block, Some(&args.directory)),
            Command::Verify(args) if args.repair => (Task::Repair, Some(&args.directory)),
            Command::Verify(args) => (Task::Verify, Some(&args.directory)),
            Command::Truncate(args) => (Task::Truncate, Some(&args.directory)),
            Command::Convert(args) => (Task::Convert, Some(&args.directory)),
            Command::Serve(args) => (Task::Serve, Some(&args.directory)),
            Command::Sync(args) => (Task::Sync, Some(&args.directory)),
        };
        Self { task, place: directory.map_or_else(|| "DIR".to_owned(), |path| shell(path)) }
    }
}

/// What to do about a failure of a command.
pub(crate) fn of(doing: &Doing, failure: &Failure) -> Option<String> {
    match failure.code {
        INTERRUPTED => Some(interrupted(doing)),
        code => store(doing, code).or_else(|| connection(doing, failure)),
    }
}

/// A path as one word of a shell.
pub(crate) fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c) || !c.is_ascii();
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// How to go on after so many lines of `append --lines` were stored.
pub(crate) fn lines_stored(doing: &Doing, writer: &str, stored: u64) -> String {
    let Doing { place, .. } = doing;
    let writer = shell(Path::new(writer));
    if stored == 0 {
        return "no line was stored: the same input can be given again".to_owned();
    }
    let next = stored + 1;
    format!(
        "the first {stored} are stored; go on from line {next}, or they are there twice: \
         tail -n +{next} FILE | `multifeed append {place} {writer} --lines`"
    )
}

fn interrupted(doing: &Doing) -> String {
    let Doing { place, .. } = doing;
    match doing.task {
        Task::Append => format!(
            "the blocks may be stored or not: see with `multifeed feeds {place}` before you append them again"
        ),
        Task::Sync | Task::Serve => {
            "what arrived is stored; the same command goes on from there".to_owned()
        }
        Task::Repair => {
            "what was repaired stays; the same command goes on with the rest".to_owned()
        }
        Task::Block => {
            "the feeds that it named are done; the same command does the others".to_owned()
        }
        Task::Truncate => format!("`multifeed feeds {place}` shows whether it was done"),
        Task::Feeds | Task::Cat | Task::Verify => "nothing was changed".to_owned(),
        Task::Demo | Task::Convert => "nothing is left behind".to_owned(),
        Task::Init => "the same command finishes it, or says that the store is there".to_owned(),
    }
}

/// Causes in the store itself.
fn store(doing: &Doing, code: &str) -> Option<String> {
    let Doing { task, place } = doing;
    let fixed = |text: &str| Some(text.to_owned());
    match code {
        "ERR_IN_USE" => fixed(
            "a store is open in one program at a time: end the other one (append, serve and sync end in order on \
             Ctrl-C), then try again",
        ),
        "ERR_DISK_FULL" => fixed(match task {
            Task::Sync => {
                "make room on the disk; what arrived is stored, and the same command goes on from there"
            }
            Task::Serve => "make room on the disk; what is missing here comes with a later sync",
            _ => "make room on the disk and try again",
        }),
        "ERR_DISK_QUOTA" => {
            fixed("remove files of yours on that disk, or have the quota raised, and try again")
        }
        "ERR_READ_ONLY" => fixed(
            "`feeds`, `cat`, `verify`, `convert` and `serve --read-only` work where nothing can be written; to write, \
             copy the folder to another disk",
        ),
        "ERR_REMOVED" => {
            fixed("put the folder back, see whether its disk is there, and start again")
        }
        "ERR_DISK" => fixed(
            "see whether the disk and what connects it are well, and copy what can still be read",
        ),
        "ERR_NOT_A_FILE" => fixed(
            "a store holds files and folders only: put the file itself there, or restore it from a backup",
        ),
        "ERR_NOT_A_LOCK" => fixed("see what it is, and move it away; the store makes another"),
        "ERR_DENIED" => fixed(match task {
            Task::Feeds | Task::Cat | Task::Verify => {
                "see who owns the folder and its files, and whether you may read them"
            }
            _ => "see who owns the folder and its files, and whether you may write there",
        }),
        "ERR_STORAGE" => Some(format!(
            "see what the system says of the disk; `multifeed verify {place}` tells what is sound"
        )),
        "ERR_FEED_DAMAGED" => Some(match task {
            Task::Verify | Task::Repair => {
                "restore the folder of the feed from a backup, or sync into a new folder".to_owned()
            }
            _ => format!(
                "the other feeds are not affected; `multifeed verify {place}` says what is wrong with this one, and \
                 with --repair restores what can be restored"
            ),
        }),
        "ERR_BLOCKS_LOST" => Some(format!(
            "sync with a peer that has the feed: it sends them back, and the writer goes on; \
             `multifeed verify {place}` says which they are"
        )),
        "ERR_STORE_DAMAGED" => Some(match task {
            Task::Verify | Task::Repair => {
                "restore the file from a backup, or sync into a new folder".to_owned()
            }
            _ => format!(
                "`multifeed verify {place}` says what is wrong, and with --repair restores what can be restored; \
                 else restore the file from a backup, or sync into a new folder"
            ),
        }),
        "ERR_BLOCK_TOO_LARGE" => fixed("split the contents into smaller blocks"),
        "ERR_TOO_MANY_FILES" => fixed("raise the limit of open files (ulimit -n) and try again"),
        "ERR_NOT_WRITABLE" => fixed(
            "only the store in which a writer was made can append to it: choose another name for one of your own",
        ),
        "ERR_FEED_BLOCKED" => Some(format!(
            "`multifeed feeds {place}` lists what is kept out, and `multifeed unblock {place} KEY` lets a feed in again"
        )),
        "ERR_WRITER_EXISTS" => fixed("choose another name for the writer"),
        "ERR_LAYOUT" => fixed(
            "leave --layout out to use the store as it is; `multifeed convert DIR NEW --layout LAYOUT` makes one in \
             another",
        ),
        "ERR_TOO_MANY_FEEDS" => {
            Some(format!("`multifeed block {place} KEY` removes a feed that nobody needs"))
        }
        "ERR_NO_STORE" => fixed(
            "see whether the path is right; `init`, `append`, `serve` and `sync` make a store",
        ),
        "ERR_NOT_EMPTY" => fixed("choose a folder that does not exist yet"),
        _ => None,
    }
}

/// Causes at the other side, or between the two.
fn connection(doing: &Doing, failure: &Failure) -> Option<String> {
    let serving = doing.task == Task::Serve;
    let place = &doing.place;
    // Who serves can do nothing about those who call.
    let caller = |text: &str| (!serving).then(|| text.to_owned());
    match failure.code {
        "ERR_NOTHING_CAME" => caller(
            "the program there may be stopped or very busy, or another service: see whether `multifeed serve` runs at \
             this address, and try again",
        ),
        "ERR_HANDSHAKE" => caller("see whether host and port are those of `multifeed serve`"),
        "ERR_HANDSHAKE_TIMEOUT" => caller(
            "the other side or the network is very slow, or the address is that of another service: try again, and see \
             whether host and port are right",
        ),
        "ERR_MULTIFEED_TIMEOUT" | "ERR_EXCHANGE_KEY" | "ERR_CAPABILITY" => Some(
            "see that both sides use the same root key, and leave --dialect out on both".to_owned(),
        ),
        "ERR_PEER_LEFT" if failure.details.get("connected") == Some(&false.into()) => caller(
            "see whether host and port are those of `multifeed serve`, and what that says",
        ),
        "ERR_PEER_LEFT" => Some(
            "see that both sides use the same root key, and whether the peer has a list of those it lets in".to_owned(),
        ),
        "ERR_PEER_NOT_ALLOWED" => {
            Some("to let it in, name that key with --allow-peer".to_owned())
        }
        "ERR_VERSION_MISMATCH" => {
            Some("use versions of the two programs with the same first number".to_owned())
        }
        "ERR_CLIENT_MISMATCH" => {
            caller("the other side is not a multifeed: see whether the address is right")
        }
        "ERR_STREAM" | "ERR_TRUNCATED" | "ETIMEDOUT" => Some(if serving {
            "what arrived is stored; the peer can sync again".to_owned()
        } else {
            "what arrived is stored; the same command goes on from there".to_owned()
        }),
        "ERR_PROOF" => Some(format!(
            "what does not verify is not stored. One of the two copies is damaged, or the writer of the feed went on \
             in two places: `multifeed verify {place}` looks at the copy here, and the same there at the other"
        )),
        "ERR_FEED_FORKED" => Some(
            "the other feeds are not affected. The writer of this one went on in two copies of its store: append to \
             neither, and go on with a writer of another name (docs/forks.md)"
                .to_owned(),
        ),
        "ERR_FRAME" | "ERR_MESSAGE" | "ERR_JSON" | "ERR_BITFIELD" | "ERR_EXTENSIONS"
        | "ERR_PENDING_CHANNELS" | "ERR_OFFERED_FEEDS" | "ERR_OUTBOX" | "ERR_HELD" => Some(
            "the peer breaks the rules of the protocol: see which program it is, and whether there is a newer version; \
             what arrived is stored"
                .to_owned(),
        ),
        _ => None,
    }
}

/// The advice of `verify` for what it found.
pub(crate) fn damaged(doing: &Doing, can_repair: bool, lost: bool) -> Option<String> {
    let Doing { place, task } = doing;
    let mut text = String::new();
    if *task == Task::Verify && can_repair {
        let _infallible = write!(
            text,
            "`multifeed verify {place} --repair` restores what can be restored; what is lost comes back by a sync with \
             a peer that has it"
        );
    } else if lost {
        text.push_str("sync with a peer that has the feeds: it sends back what was lost");
    } else {
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    const TASKS: [Task; 12] = [
        Task::Demo,
        Task::Init,
        Task::Append,
        Task::Feeds,
        Task::Cat,
        Task::Block,
        Task::Verify,
        Task::Repair,
        Task::Truncate,
        Task::Convert,
        Task::Serve,
        Task::Sync,
    ];

    /// Every code that a command can end with and that this module knows.
    const CODES: &[&str] = &[
        INTERRUPTED,
        "ERR_IN_USE",
        "ERR_DISK_FULL",
        "ERR_DENIED",
        "ERR_DISK_QUOTA",
        "ERR_READ_ONLY",
        "ERR_REMOVED",
        "ERR_DISK",
        "ERR_NOT_A_FILE",
        "ERR_NOT_A_LOCK",
        "ERR_STORAGE",
        "ERR_FEED_DAMAGED",
        "ERR_BLOCKS_LOST",
        "ERR_STORE_DAMAGED",
        "ERR_BLOCK_TOO_LARGE",
        "ERR_TOO_MANY_FILES",
        "ERR_NOT_WRITABLE",
        "ERR_FEED_BLOCKED",
        "ERR_WRITER_EXISTS",
        "ERR_LAYOUT",
        "ERR_TOO_MANY_FEEDS",
        "ERR_NO_STORE",
        "ERR_NOT_EMPTY",
        "ERR_NOTHING_CAME",
        "ERR_HANDSHAKE",
        "ERR_HANDSHAKE_TIMEOUT",
        "ERR_MULTIFEED_TIMEOUT",
        "ERR_EXCHANGE_KEY",
        "ERR_CAPABILITY",
        "ERR_PEER_LEFT",
        "ERR_PEER_NOT_ALLOWED",
        "ERR_VERSION_MISMATCH",
        "ERR_CLIENT_MISMATCH",
        "ERR_STREAM",
        "ERR_TRUNCATED",
        "ETIMEDOUT",
        "ERR_PROOF",
        "ERR_FEED_FORKED",
        "ERR_FRAME",
        "ERR_MESSAGE",
        "ERR_JSON",
        "ERR_EXTENSIONS",
        "ERR_PENDING_CHANNELS",
        "ERR_OFFERED_FEEDS",
        "ERR_OUTBOX",
        "ERR_HELD",
    ];

    fn doing(task: Task, place: &str) -> Doing {
        Doing { task, place: shell(Path::new(place)) }
    }

    fn all() -> Vec<String> {
        let mut all = Vec::new();
        for task in TASKS {
            for place in ["store", "my store/it's"] {
                let doing = doing(task, place);
                all.extend(CODES.iter().filter_map(|code| of(&doing, &Failure::new(code, ""))));
                all.extend(
                    [damaged(&doing, true, true), damaged(&doing, false, true)]
                        .into_iter()
                        .flatten(),
                );
                all.push(lines_stored(&doing, "a writer", 7));
                all.push(lines_stored(&doing, "w", 0));
            }
        }
        all
    }

    /// The words of a command line, as a shell takes them.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                '\'' => (quoted, any) = (!quoted, true),
                '\\' if !quoted => word.extend(chars.next()),
                ' ' if !quoted => {
                    if any || !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                    any = false;
                }
                c => word.push(c),
            }
        }
        if any || !word.is_empty() {
            words.push(word);
        }
        words
    }

    #[test]
    fn every_command_line_in_an_advice_can_be_entered() {
        let mut seen = 0;
        for text in all() {
            for line in
                text.split('`').skip(1).step_by(2).filter(|line| line.starts_with("multifeed "))
            {
                let key = "ab".repeat(32);
                let line = line.replace("KEY", &key).replace("LAYOUT", "numbered");
                let mut words = words(&line);
                if words == ["multifeed", "serve"] {
                    words.extend(["store", "--listen", "127.0.0.1:0"].map(str::to_owned));
                }
                if let Err(error) = Args::try_parse_from(&words) {
                    panic!("{line}: {error}");
                }
                seen += 1;
            }
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn every_failure_that_is_known_has_an_advice_for_some_command() {
        for code in CODES {
            let known = |task| of(&doing(task, "x"), &Failure::new(code, "")).is_some();
            assert!(TASKS.into_iter().any(known), "{code}");
        }
    }

    #[test]
    fn only_a_repair_that_can_do_something_is_offered() {
        let verify = doing(Task::Verify, "x");
        assert!(damaged(&verify, true, false).unwrap().contains("--repair"));
        assert!(!damaged(&verify, false, true).unwrap().contains("--repair"));
        assert_eq!(damaged(&verify, false, false), None);
        assert!(!damaged(&doing(Task::Repair, "x"), true, true).unwrap().contains("--repair"));
        for task in [Task::Verify, Task::Repair] {
            for code in ["ERR_FEED_DAMAGED", "ERR_STORE_DAMAGED"] {
                let text = of(&doing(task, "x"), &Failure::new(code, "")).unwrap();
                assert!(!text.contains("verify"), "it is what has just been done: {text}");
            }
        }
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for path in ["a", "./a/b", "/tmp/x-1_2", "with space", "it's", "-rf", "$HOME", "ünter"] {
            assert_eq!(words(&shell(Path::new(path))), [path], "{path}");
        }
    }
}
