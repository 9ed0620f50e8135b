//! Opens the store that a command works on, and closes it whatever happens.

use std::ffi::OsStr;
use std::path::Path;

use multifeed_tokio::core::disk::{keep_to_owner, make_folder};
use multifeed_tokio::core::format::corestore::MASTER_KEY;
use multifeed_tokio::core::format::{numbered, sleep};
use multifeed_tokio::{Dialect, FolderProblem, Multifeed, Options, RootKey};

use crate::args::Saving;
use crate::context::Context;
use crate::failure::Failure;
use crate::keys::{self, Given, KEY_FILE, Source};
use crate::output::Output;

/// Events kept for a command that is slow: a failure among them must not be lost in a burst.
const EVENTS: usize = 65_536;
/// Folders that are told of one by one.
const SHOWN: usize = 10;

/// What to do about a store that does not exist.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Missing {
    /// Make it, if a key was given.
    Make(Saving),
    /// Say so.
    Refuse,
    /// Say so, and only read it if it exists: nothing is written, and nobody kept from it.
    Read,
}

/// Opens the store in `directory`, does `work` with it and closes it again; in this order also when
/// a signal ends the work early.
pub(crate) async fn with_store<T>(
    context: &Context,
    directory: &Path,
    missing: Missing,
    work: impl AsyncFnOnce(&Multifeed) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let store = open(context, directory, missing, Dialect::default(), None).await?;
    let at_opening = store.store().folder_problems();
    warn_of_folders(context, directory, &at_opening);
    let result = tokio::select! {
        result = work(&store) => result,
        signal = context.signals.received() => Err(Failure::interrupted(signal)),
    };
    // The folders of a large store are looked at beside the work.
    let since = store.store().folder_problems();
    warn_of_folders(context, directory, since.get(at_opening.len()..).unwrap_or_default());
    // What failed first is what the user must know.
    let closed = close(&store, directory).await;
    let value = result?;
    closed.map(|()| value)
}

/// Opens the store in `directory` with the key that was given or saved. `max_feeds`: feeds at most.
pub(crate) async fn open(
    context: &Context,
    directory: &Path,
    missing: Missing,
    dialect: Dialect,
    max_feeds: Option<usize>,
) -> Result<Multifeed, Failure> {
    let key = find_key(context, directory, missing).await?;
    let mut options = Options::default().root_key(key).dialect(dialect);
    if let Some(feeds) = max_feeds {
        options = options.max_feeds(feeds);
    }
    let options = match missing {
        Missing::Make(saving) => laid_out(options, saving),
        Missing::Refuse => options,
        Missing::Read => options.read_only(true),
    };
    let store = open_with(directory, options).await?;
    if !matches!(missing, Missing::Read) {
        // An earlier version, or the user, may have let others read it. It need not be there.
        let _ = keep_to_owner(directory, KEY_FILE);
    }
    if let Some(process) = store.store().held_by() {
        say_held(&context.output, directory, process);
    }
    Ok(store)
}

/// Says that a store which is only read is open in another program.
pub(crate) fn say_held(output: &Output, directory: &Path, process: u32) {
    let place = directory.display();
    let who =
        if process == 0 { "another process".to_owned() } else { format!("process {process}") };
    output.warn(format_args!("{who} has {place} open: what is read there may be a moment old"));
}

/// Options with the layout that was asked for.
pub(crate) fn laid_out(options: Options, saving: Saving) -> Options {
    match saving.layout {
        Some(layout) => options.layout(layout.into()),
        None => options,
    }
}

/// Opens the store in `directory` as `options` say, with room for many events.
pub(crate) async fn open_with(directory: &Path, options: Options) -> Result<Multifeed, Failure> {
    let options = options.event_capacity(EVENTS);
    let opened = Multifeed::open(directory, options).await;
    let store = opened.map_err(|error| Failure::store(directory, &error))?;
    tracing::info!(directory = %directory.display(), feeds = store.feeds().len(), "store opened");
    Ok(store)
}

/// Tells of folders that are damaged, missing, or on no list of feeds.
fn warn_of_folders(context: &Context, directory: &Path, problems: &[FolderProblem]) {
    for FolderProblem { folder, problem, .. } in problems.iter().take(SHOWN) {
        context.output.warn(format_args!("folder {folder}: {problem}"));
    }
    if problems.len() > SHOWN {
        context.output.warn(format_args!("and {} more folders", problems.len() - SHOWN));
    }
    if !problems.is_empty() {
        let place = directory.display();
        context.output.note(format_args!(
            "`multifeed verify {place} --repair` restores what can be restored"
        ));
    }
}

/// Closes the store; its lock is free afterwards.
pub(crate) async fn close(store: &Multifeed, directory: &Path) -> Result<(), Failure> {
    store.close().await.map_err(|error| Failure::store(directory, &error))?;
    tracing::info!(directory = %directory.display(), "store closed");
    Ok(())
}

/// Whether there is a store, made by this program or by the JavaScript.
pub(crate) fn exists(directory: &Path) -> bool {
    let numbered = directory.join(numbered::FIRST).join(sleep::KEY);
    let files = [MASTER_KEY, KEY_FILE, numbered::MARK].map(|name| directory.join(name));
    files.iter().chain([&numbered]).any(|file| file.exists())
}

/// Whether there are folders as those of feeds in the layout of corestore: a store may lack its master key.
fn has_feed_folders(directory: &Path) -> bool {
    let hex =
        |name: &OsStr| name.len() == 2 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| hex(&entry.file_name()) && entry.path().is_dir())
}

/// The root key of the store in `directory`, given or saved.
pub(crate) async fn find_key(
    context: &Context,
    directory: &Path,
    missing: Missing,
) -> Result<RootKey, Failure> {
    let given = keys::given(context).await?;
    warn_of_default(context, given.as_ref());
    let saved = match missing {
        Missing::Read => keys::saved_if_readable(directory)?,
        Missing::Make(_) | Missing::Refuse => keys::saved(directory)?,
    };
    if let Some(saved) = saved {
        return match given {
            Some(given) => agree(directory, given, saved),
            None => Ok(saved),
        };
    }
    let place = directory.display();
    let exists =
        exists(directory) || (matches!(missing, Missing::Read) && has_feed_folders(directory));
    let Some(given) = given else {
        let advice = if exists {
            "give it with --key-file PATH or the environment variable MULTIFEED_KEY".to_owned()
        } else {
            format!(
                "make a new store with `multifeed init {place}`, or join one that exists by giving \
                 its key with --key-file PATH or the environment variable MULTIFEED_KEY"
            )
        };
        let message = if exists {
            format!("no root key: none was given, and none is saved in {place}")
        } else {
            format!("there is no store in {place}, and no root key was given")
        };
        let code = if exists { "ERR_NO_KEY" } else { no_store_code(missing) };
        return Err(Failure::new(code, message)
            .advice(advice)
            .detail("directory", place.to_string()));
    };
    match missing {
        _ if exists => {}
        Missing::Make(saving) => {
            refuse_foreign(directory)?;
            make(directory)?;
            if !saving.no_save_key && !keys::save(directory, &given.key)? {
                // Another process was faster.
                if let Some(saved) = keys::saved(directory)? {
                    return agree(directory, given, saved);
                }
            }
        }
        Missing::Refuse | Missing::Read => {
            let message = format!("there is no store in {place}");
            return Err(
                Failure::new("ERR_NO_STORE", message).detail("directory", place.to_string())
            );
        }
    }
    tracing::debug!(from = %given.source, "root key");
    Ok(given.key)
}

/// A command that makes stores lacks nothing but the key.
const fn no_store_code(missing: Missing) -> &'static str {
    match missing {
        Missing::Make(_) => "ERR_NO_KEY",
        Missing::Refuse | Missing::Read => "ERR_NO_STORE",
    }
}

/// Refuses a folder that is no store and holds other things: a store would be strewn among them.
pub(crate) fn refuse_foreign(directory: &Path) -> Result<(), Failure> {
    if !keys::has_contents(directory) {
        return Ok(());
    }
    let place = directory.display().to_string();
    let message = format!("the folder {place} is not empty, and what is in it is no store");
    Err(Failure::new("ERR_NOT_EMPTY", message).detail("directory", place))
}

/// Makes the folder of a new store.
pub(crate) fn make(directory: &Path) -> Result<(), Failure> {
    make_folder(directory).map_err(|error| {
        let place = directory.display();
        let failure = if directory.is_file() {
            Failure::new("ERR_DIRECTORY", format!("{place} is a file, and a store is a folder"))
                .advice("choose a folder that does not exist yet")
        } else {
            let advice = "see whether the folder above it exists, and whether you may write there";
            let message = format!("cannot make the folder {place}: {error}");
            Failure::system("ERR_DIRECTORY", message, &error, advice)
        };
        failure.detail("directory", place.to_string())
    })
}

/// Warns of the key that everybody knows.
pub(crate) fn warn_of_default(context: &Context, given: Option<&Given>) {
    if given.is_some_and(|given| given.source == Source::Default) {
        context.output.warn(
            "the default root key is known to everybody: anybody who can connect to this program \
             can read all feeds and add their own",
        );
    }
}

/// The key, if what was given is what is saved. Another key would find an empty multifeed in the
/// same folder, and write to that.
fn agree(directory: &Path, given: Given, saved: RootKey) -> Result<RootKey, Failure> {
    if given.key == saved {
        return Ok(saved);
    }
    let path = directory.join(KEY_FILE);
    let message = format!(
        "the root key given by {} is not the one saved in {}",
        given.source,
        path.display()
    );
    let advice = match given.source {
        Source::Variable => "unset the variable to use the saved key",
        Source::Option | Source::File(_) | Source::Default => "leave it out to use the saved key",
    };
    Err(Failure::new("ERR_KEY_MISMATCH", message)
        .advice(format!("{advice}, or use another folder for another multifeed"))
        .detail("directory", directory.display().to_string()))
}
