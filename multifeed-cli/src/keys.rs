//! The root key: where it comes from, and the file that keeps it.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use multifeed_proto::{INSECURE_DEFAULT_ROOT_KEY, KeyParseError};
use multifeed_tokio::RootKey;
use multifeed_tokio::core::disk::{read_beginning, sync_folder};

use crate::context::Context;
use crate::failure::Failure;
use crate::input;

/// Name of the file in a store that keeps its root key: 64 hexadecimal digits and a line end.
pub(crate) const KEY_FILE: &str = "root_key";

/// Name of the variable that may hold the key.
pub(crate) const KEY_VARIABLE: &str = "MULTIFEED_KEY";

/// A key that the user gave, and how.
pub(crate) struct Given {
    pub(crate) key: RootKey,
    pub(crate) source: Source,
}

/// How a key was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `--key`.
    Option,
    /// `--key-file`.
    File(PathBuf),
    /// `--insecure-default-key`.
    Default,
    /// The environment.
    Variable,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option => f.write_str("--key"),
            Self::File(path) => write!(f, "--key-file {}", path.display()),
            Self::Default => f.write_str("--insecure-default-key"),
            Self::Variable => write!(f, "the environment variable {KEY_VARIABLE}"),
        }
    }
}

/// The key that was given by an option, or else by the environment.
pub(crate) async fn given(context: &Context) -> Result<Option<Given>, Failure> {
    let global = &context.global;
    if let Some(text) = &global.key {
        return Ok(Some(parse(text.0.as_bytes(), Source::Option)?));
    }
    if let Some(path) = &global.key_file {
        let source = Source::File(path.clone());
        let text = input::read(context, path, MAX_KEY_FILE).await?.map_err(|error| {
            Failure::new("ERR_KEY_FILE", format!("cannot read {source}: {error}"))
                .advice("the file holds the root key, 64 hexadecimal digits")
        })?;
        return Ok(Some(parse(&text, source)?));
    }
    if global.insecure_default_key {
        let key = INSECURE_DEFAULT_ROOT_KEY;
        return Ok(Some(Given { key, source: Source::Default }));
    }
    match std::env::var_os(KEY_VARIABLE) {
        // Set to nothing is how many a script takes a variable away.
        Some(text) if !text.is_empty() => {
            Ok(Some(parse(text.as_encoded_bytes(), Source::Variable)?))
        }
        Some(_) | None => Ok(None),
    }
}

/// The key that is saved in the store, if one is.
pub(crate) fn saved(directory: &Path) -> Result<Option<RootKey>, Failure> {
    let path = directory.join(KEY_FILE);
    let read = read_beginning(directory, KEY_FILE, MAX_KEY_FILE);
    let text = match read {
        Ok(text) => text,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => {
            let message = format!("cannot read the saved root key {}: {error}", path.display());
            return Err(Failure::new("ERR_KEY_FILE", message)
                .advice("see who owns the file, or give the key with --key-file"));
        }
    };
    RootKey::from_text(&text).map(Some).map_err(|error| {
        let message = format!("the saved root key {} is damaged: {error}", path.display());
        Failure::new("ERR_KEY_FILE", message)
            .advice("write the key into it, or remove it and give the key with --key-file")
    })
}

/// The same for a command that only reads: a saved key that we may not read is none.
pub(crate) fn saved_if_readable(directory: &Path) -> Result<Option<RootKey>, Failure> {
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    match read_beginning(directory, KEY_FILE, 0) {
        Err(error) if denied(&error) => Ok(None),
        Ok(_) | Err(_) => saved(directory),
    }
}

/// Saves the key of a new store, readable by its owner only, all of it or nothing. `false`: there is
/// a saved key already, which stays.
pub(crate) fn save(directory: &Path, key: &RootKey) -> Result<bool, Failure> {
    let path = directory.join(KEY_FILE);
    write_secret(&path, key.expose()).map_err(|error| {
        let message = format!("cannot save the root key in {}: {error}", path.display());
        let advice = "see that the folder can be written to, or use --no-save-key";
        Failure::system("ERR_KEY_FILE", message, &error, advice)
    })
}

/// Writes the digits of a secret to a new file, readable by its owner only, all of it or nothing. `false`:
/// there is a file already, which stays.
pub(crate) fn write_secret(path: &Path, secret: &[u8; 32]) -> io::Result<bool> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    };
    // Made with mode 0600, under a name that nobody else uses.
    let mut file = tempfile::Builder::new().prefix(".multifeed-key-").tempfile_in(folder)?;
    writeln!(file, "{}", multifeed_proto::to_hex(secret))?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error.error),
    }
    sync_folder(folder)?;
    Ok(true)
}

/// A key that nobody else has.
pub(crate) fn random() -> Result<RootKey, Failure> {
    random_bytes().map(RootKey::new)
}

/// A secret that nobody else has.
pub(crate) fn random_bytes() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new("ERR_ENTROPY", format!("no randomness from the operating system: {error}"))
    })?;
    Ok(bytes)
}

/// A number that nobody can guess.
pub(crate) fn random_number() -> Result<u32, Failure> {
    let bytes = random_bytes()?;
    Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The digits of a key, to be shown to its owner or saved.
pub(crate) fn hex(key: &RootKey) -> String {
    multifeed_proto::to_hex(key.expose())
}

/// Whether a text is a key.
pub(crate) fn check(text: &str) -> Result<(), KeyParseError> {
    text.parse::<RootKey>().map(|_| ())
}

fn parse(text: &[u8], source: Source) -> Result<Given, Failure> {
    match RootKey::from_text(text) {
        Ok(key) => Ok(Given { key, source }),
        // The text may be a secret with a slip in it: it is not repeated.
        Err(error) => Err(Failure::new("ERR_KEY", format!("{source}: {error}"))
            .advice("`multifeed init` prints the key of a store and saves it in DIR/root_key")),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether there is something in the folder beside hidden files, and the lock that a command killed at
/// once leaves.
pub(crate) fn has_contents(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    entries.flatten().map(|entry| entry.file_name()).any(|name| {
        !name.as_encoded_bytes().starts_with(b".") && name.as_encoded_bytes() != LOCK_FILE
    })
}

/// The file that `multifeed-core` locks before it writes anything else.
const LOCK_FILE: &[u8] = b"multifeed.lock";

/// Bytes read of a file that should hold a key; more than enough to see that one does not.
pub(crate) const MAX_KEY_FILE: u64 = 1024;
