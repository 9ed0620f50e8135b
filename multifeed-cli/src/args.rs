//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgGroup, Parser, Subcommand, ValueEnum};
use multifeed_tokio::{Dialect, FeedKey, Layout, Patience};

use crate::sharing::{Sharing, feed_key};

/// Append-only feeds by many writers, in a folder, synced with others over TCP.
///
/// A multifeed is a set of feeds that share one root key. Whoever has the key can read all feeds
/// and add writers of their own. Every machine holds them in a folder (DIR); two folders are brought
/// to the same contents by `serve` on one machine and `sync` on the other. The other side may also
/// be the JavaScript multifeed or hypermultifeed.
#[derive(Debug, Parser)]
#[command(name = "multifeed", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What all commands understand.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Global {
    /// The root key, 64 hexadecimal digits. Other users of this machine can see the arguments of
    /// a program: prefer --key-file or the environment variable MULTIFEED_KEY.
    #[arg(long, global = true, value_name = "HEX", value_parser = secret)]
    pub(crate) key: Option<Secret>,
    /// A file with the root key, 64 hexadecimal digits; `-` for standard input.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) key_file: Option<PathBuf>,
    /// The root key that the JavaScript uses when it is given none. Everybody knows it: anybody who
    /// can connect can read and write.
    #[arg(long, global = true)]
    pub(crate) insecure_default_key: bool,
    /// Print one JSON object a line, for programs. Failures too: {"event":"error","code","message",…}.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say on standard error what is being done; twice for more. RUST_LOG is understood too.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show in a few seconds what this is for: two writers, two folders, one TCP connection.
    Demo,
    /// Make a new store in a folder, with a root key of its own.
    ///
    /// The key is drawn at random, printed, and saved in DIR/root_key (readable by you only), where
    /// the other commands find it. With --key, --key-file or MULTIFEED_KEY the store is made for that
    /// key: to join a multifeed that exists.
    Init(Init),
    /// Append blocks to a writer of this store, which is made if there is none of that name.
    Append(Append),
    /// List the feeds of a store.
    Feeds(Feeds),
    /// Write blocks of a feed to standard output, as they are, one after another.
    ///
    /// With --json too the output is the bytes of the blocks. A failure is then a JSON line on
    /// standard output only if no block was written before it, else on standard error.
    Cat(Cat),
    /// Remove feeds from a store and keep them out: their disk space comes back, and they are neither
    /// offered to peers nor fetched again, until `unblock`.
    ///
    /// Blocks of a writer of this store that no peer has are gone for good. Programs with the JavaScript
    /// packages that open the same folder do not know of this, and may fetch such a feed again.
    /// --json prints {"event":"blocked","feed"} for each.
    Block(Block),
    /// Let feeds in again that `block` keeps out; the next sync fetches them.
    ///
    /// --json prints {"event":"unblocked","feed"} for each.
    Unblock(Block),
    /// Check every hash and signature of a store, by this program or the JavaScript.
    ///
    /// Says which feeds are damaged and what was lost of them. Needs no root key; with one it looks at
    /// the list of feeds, too. Exit code 0: sound. 1: damaged, or still so after --repair.
    ///
    /// --json prints {"event":"feed",…} for each feed, with its "findings", and last
    /// {"event":"verified","sound","feeds","damaged","forked","blocks","lost","findings",
    /// "notes"}: what is in "notes" says nothing of the feeds.
    Verify(Verify),
    /// Give up the end of a feed, from block N on: the way out where blocks are lost and no peer has them.
    ///
    /// A writer of this store that lost its tail is read-only until peers have sent it back. After this it can be
    /// appended to, and signs other blocks in the places of those that were given up: whoever has got one of
    /// these holds another log under the same key then, and takes nothing more of the feed. Says what it costs, and
    /// asks, or wants --yes.
    ///
    /// --json prints {"event":"truncated","feed","writer","from","to","given_up","missing","sound"}.
    Truncate(Truncate),
    /// Make a new store with the same feeds, names, order and writers in another layout.
    ///
    /// So that the data of a multifeed 6 application can go on with hypermultifeed, or the other way
    /// round. DIR is only read; end the JavaScript that uses it first. NEW appears when it is complete:
    /// until then, and if this program is killed, the folder is called NEW.unfinished-1 or so.
    ///
    /// Both then have the same writers: append to one of the two only, or they contradict each other and no
    /// peer can sync them.
    ///
    /// Numbered folders hold one multifeed: other feeds in DIR are left out, named, and make the exit
    /// code 1, though NEW is there. --json prints {"event":"progress","feeds","feeds_total","bytes",
    /// "bytes_total"}, at most ten a second, and last {"event":"converted","directory","layout",
    /// "feeds","writers","bytes","left_out","renamed","key_saved"}.
    Convert(Convert),
    /// Wait for peers and sync with all that come, until stopped (Ctrl-C).
    ///
    /// With --json the first line is {"event":"listening","address"}. Then, for each peer:
    /// connected (once it has proven that it knows the root key), in_sync (again after every change), error if it
    /// failed, closed. When all places are taken {"event":"full","connections"}; for connections that proved
    /// nothing, and are too many to be told of one by one, {"event":"strangers","turned_away"}.
    Serve(Serve),
    /// Connect to a peer, sync both ways, and end when both sides have everything.
    ///
    /// --json prints {"event":"progress",…} lines, at most ten a second, and last
    /// {"event":"in_sync","feeds","blocks_received","blocks_sent","bytes_received","bytes_sent",
    /// "milliseconds"}: the feeds that both sides share, the blocks that moved, the bytes of these
    /// blocks (the network carries a little more), and the time from the connection until both sides
    /// had everything. With --live that comes again after every change, and before each new connection
    /// {"event":"reconnecting","code","message","attempt","milliseconds"}: why, and after what time.
    Sync(Sync),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The folder of the store; made if it does not exist.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) saving: Saving,
}

#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("source").required(true),
    override_usage = "multifeed append [OPTIONS] <DIR> <WRITER> <TEXT>...\n       \
                      multifeed append [OPTIONS] <DIR> <WRITER> --file <PATH>\n       \
                      multifeed append [OPTIONS] <DIR> <WRITER> --lines"
)]
pub(crate) struct Append {
    /// The folder of the store; made if it does not exist and a key is given.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Name of the writer. Names are for this store only: others see the feed by its key.
    pub(crate) writer: String,
    /// Text of a block; several make several blocks. After `--` it may begin with a dash.
    #[arg(group = "source")]
    pub(crate) text: Vec<OsString>,
    /// Append the contents of a file as one block; `-` for standard input.
    #[arg(long, value_name = "PATH", group = "source")]
    pub(crate) file: Option<PathBuf>,
    /// Append each line of standard input as a block, without its line end (\n).
    ///
    /// Lines are stored in batches: what is there when the batch before is stored. --json prints a
    /// line for each batch that is stored, and at least one.
    #[arg(long, group = "source")]
    pub(crate) lines: bool,
    #[command(flatten)]
    pub(crate) saving: Saving,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Feeds {
    /// The folder of the store.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Block {
    /// The folder of the store.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Key of a feed, 64 hexadecimal digits, as `feeds` prints it. It need not be here yet.
    #[arg(value_name = "KEY", required = true, value_parser = feed_key)]
    pub(crate) feeds: Vec<FeedKey>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The folder of the store: with feeds in ab/cd/… or, of multifeed 5 and 6, in 0, 1, ….
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Restore what can be restored, and give up what is lost, so that the next sync fetches it again.
    /// Sound blocks are never touched.
    #[arg(long)]
    pub(crate) repair: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Truncate {
    /// The folder of the store.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Key (64 hexadecimal digits) or name of the feed, as `feeds` prints them.
    pub(crate) feed: String,
    /// Blocks that are left: all from this index on are given up.
    #[arg(long, value_name = "N")]
    pub(crate) to: u64,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Convert {
    /// The folder of the store that is there.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The folder of the new store; must not exist, or be empty.
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,
    /// The layout of the new store: `corestore` for hypermultifeed, `numbered` for multifeed 5 and 6. With
    /// the layout that DIR has it becomes a copy.
    #[arg(long, value_name = "LAYOUT", value_enum)]
    pub(crate) layout: Folders,
    /// Do not save the root key in NEW/root_key: it must be given each time. The layout of corestore
    /// holds it all the same, in files called `name`, readable by you only.
    #[arg(long)]
    pub(crate) no_save_key: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cat {
    /// The folder of the store.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Key (64 hexadecimal digits) or name of the feed, as `feeds` prints them.
    pub(crate) feed: String,
    /// Index of the first block; the first of a feed is 0.
    #[arg(long, value_name = "A", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) from: u64,
    /// Index of the block to stop before. Without it: the end of the feed.
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    pub(crate) to: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The folder of the store; made if it does not exist and a key is given.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Address to wait at. Port 0 picks a free one; `0.0.0.0` or `[::]` waits on all networks.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) listen: String,
    /// End when the first peer that knows the root key has left: with exit code 0 if it left in order, else 1.
    #[arg(long)]
    pub(crate) once: bool,
    /// End each connection when both sides have everything. Without it peers get what is added later.
    #[arg(long)]
    pub(crate) no_live: bool,
    /// Peers that are served at once. More wait until one has left, which is said.
    ///
    /// Only those count that have proven that they know the root key. Others have places of their own, and take
    /// none of these: 512 that have said nothing, for 3 seconds each, and 1,024 that have, for 10; half of them
    /// from one address (of IPv6: one /64). When these are taken, the oldest gives way to the newest.
    #[arg(long, value_name = "N", default_value_t = NonZeroU16::new(512).expect("not 0"))]
    pub(crate) max_connections: NonZeroU16,
    #[command(flatten)]
    pub(crate) speaking: Speaking,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) sharing: Sharing,
    #[command(flatten)]
    pub(crate) saving: Saving,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sync {
    /// The folder of the store; made if it does not exist and a key is given.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Where the peer waits.
    #[arg(value_name = "HOST:PORT", value_parser = address)]
    pub(crate) peer: String,
    /// Stay connected and pass on what is added, until Ctrl-C.
    ///
    /// Once both sides had everything, a connection that ends is made again: after a second, then after
    /// twice as long each time, up to a minute, less a random part of up to half.
    #[arg(long)]
    pub(crate) live: bool,
    /// Connect again from the beginning, as --live does later, where the peer cannot be reached or the
    /// connection breaks; without --live until both sides had everything.
    #[arg(long)]
    pub(crate) retry: bool,
    /// Give up if the two are not in sync after S seconds. With --live: for the first time.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) speaking: Speaking,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) sharing: Sharing,
    #[command(flatten)]
    pub(crate) saving: Saving,
}

/// How long peers may take.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "How long peers may take")]
pub(crate) struct Waiting {
    /// A peer with which nothing moves for S seconds is named and, by `sync`, left. Blocks that it was asked
    /// for are asked of others after a third more.
    #[arg(long, value_name = "S", default_value = "15", value_parser = seconds)]
    patience: Duration,
    /// A block moves if so many bytes of it do in a second, in either direction; 0: any will do. Make it less
    /// for a network that is slower than this: a block that is given up begins at its first byte again.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    least_rate: u32,
}

impl From<Waiting> for Patience {
    fn from(Waiting { patience, least_rate }: Waiting) -> Self {
        let request_timeout = patience.saturating_add(patience / 3);
        Self { stall_timeout: patience, request_timeout, least_rate, ..Self::default() }
    }
}

/// How to talk with peers.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Speaking {
    /// What the peers are.
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub(crate) dialect: Peers,
    /// Write nothing to DIR: peers get what is there, and nothing is fetched from them. For media and
    /// folders that can only be read, and beside another program that has the store open.
    #[arg(long)]
    pub(crate) read_only: bool,
}

/// The two kinds of JavaScript peers, which do not understand each other.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Peers {
    /// Found out with each.
    #[default]
    Auto,
    /// Programs with multifeed 5 or 6.
    Multifeed,
    /// Programs with hypermultifeed or corestore-multifeed.
    Hypermultifeed,
}

impl From<Peers> for Dialect {
    fn from(peers: Peers) -> Self {
        match peers {
            Peers::Auto => Self::Auto,
            Peers::Multifeed => Self::Stream,
            Peers::Hypermultifeed => Self::RootChannel,
        }
    }
}

/// How a store is made, if there is none yet.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Saving {
    /// Do not save the root key of a new store in DIR/root_key: it must be given each time. The layout
    /// of corestore holds it all the same, in files called `name`, readable by you only; numbered folders
    /// do not.
    #[arg(long)]
    pub(crate) no_save_key: bool,
    /// How a new store is laid out, so that the JavaScript can open it too: `corestore` for
    /// hypermultifeed, `numbered` for multifeed 5 and 6. One that exists must be laid out like this.
    ///
    /// Without it: as the store is, and a new one for hypermultifeed.
    #[arg(long, value_name = "LAYOUT", value_enum)]
    pub(crate) layout: Option<Folders>,
}

/// The layouts of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Folders {
    /// Folders named by discovery key, as of hypermultifeed and corestore.
    Corestore,
    /// Folders 0, 1, 2 and so on, as of multifeed 5 and 6.
    Numbered,
}

impl From<Folders> for Layout {
    fn from(folders: Folders) -> Self {
        match folders {
            Folders::Corestore => Self::Corestore,
            Folders::Numbered => Self::Numbered,
        }
    }
}

/// A text that is never printed.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

// Whether it is a key is looked at later: clap would repeat it in its error.
#[allow(clippy::unnecessary_wraps, reason = "the form of a value parser")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret(text.to_owned()))
}

fn address(text: &str) -> Result<String, String> {
    let wanted = "an address has the form HOST:PORT, such as 127.0.0.1:4000 or [::1]:4000";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{wanted}; the port is missing"));
    };
    if host.is_empty() {
        return Err(format!("{wanted}; the host is missing"));
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(format!("{wanted}; an IPv6 address needs its brackets"));
    }
    match port.parse::<u16>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{wanted}; the port is a number from 0 to 65535")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a time is a number of seconds above 0, such as 30 or 0.5".to_owned())
}

const AFTER_HELP: &str = "\
In five lines:
  multifeed init ./here                              # prints the root key
  multifeed append ./here me \"first words\"
  multifeed serve ./here --listen 0.0.0.0:4000       # and on the other machine, with the same key:
  multifeed sync ./there HOST:4000 --key-file key.txt
  multifeed feeds ./there

The root key is taken from --key, --key-file or --insecure-default-key, else from the environment
variable MULTIFEED_KEY, else from DIR/root_key, where `init` saved it. It is a secret.

Exit codes: 0 done, 1 failed, 2 wrong use of the command line, 130 interrupted before it was done.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Args::command().debug_assert();
    }

    #[test]
    fn an_address_needs_host_and_port() {
        for good in ["127.0.0.1:0", "[::1]:4000", "example.org:65535"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in ["", "4000", ":4000", "host", "host:", "host:x", "host:65536", "::1:4000"] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["", "0", "-1", "nan", "inf", "1e300", "ten"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let line = ["multifeed", "feeds", "x", "--key", "abcdef"];
        let args = Args::try_parse_from(line).unwrap();
        assert!(!format!("{args:?}").contains("abcdef"));
    }
}
