//! What is shared with peers, and with which: the options, and the file of a lasting identity.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use multifeed_proto::KeyParseError;
use multifeed_tokio::{
    ConnectOptions, FeedKey, Fetch, PeerSecret, Peers, Policy, ReplicationOptions,
};
use serde_json::json;

use crate::args::Waiting;
use crate::context::Context;
use crate::failure::Failure;
use crate::{input, keys};

/// What is shared, and with whom.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "What is shared, and with whom")]
pub(crate) struct Sharing {
    /// Share this feed (64 hexadecimal digits) and no others; may be given several times. Your own
    /// writers are left out too, unless they are named.
    #[arg(long, value_name = "KEY", value_parser = feed_key)]
    only: Vec<FeedKey>,
    /// Of the feeds of --only, fetch the last N blocks, and those that are added while connected.
    #[arg(long, value_name = "N", requires = "only")]
    newest: Option<u64>,
    /// Accept no new feeds from peers once the store has N.
    #[arg(long, value_name = "N")]
    pub(crate) max_feeds: Option<usize>,
    /// A file with the secret by which peers recognise this program, made if it does not exist. Its
    /// public key is printed. Without it, nobody recognises it.
    #[arg(long, value_name = "PATH")]
    identity: Option<PathBuf>,
    /// Talk only with peers of this public key, which their --identity prints; may be given several
    /// times. Others learn nothing, not even which multifeed this is.
    #[arg(long, value_name = "KEY", value_parser = peer_key)]
    allow_peer: Vec<PeerKey>,
}

type PeerKey = [u8; 32];

impl Sharing {
    /// The options of every connection. Makes the file of the identity, and prints its public key.
    pub(crate) async fn connecting(
        &self,
        context: &Context,
        replication: ReplicationOptions,
        waiting: Waiting,
    ) -> Result<ConnectOptions, Failure> {
        let identity = match self.identity.as_deref() {
            Some(path) => Some(identity(context, path).await?),
            None => None,
        };
        if let Some(identity) = &identity {
            let key = multifeed_proto::to_hex(&identity.public());
            context.output.say(
                || json!({ "event": "identity", "public_key": key }),
                || format!("our public key: {key}"),
            );
        }
        Ok(ConnectOptions {
            replication,
            policy: self.policy(),
            peers: self.peers(),
            identity,
            patience: Some(waiting.into()),
            ..ConnectOptions::default()
        })
    }

    fn policy(&self) -> Policy {
        if self.only.is_empty() {
            return Policy::AcceptAll;
        }
        let fetch = self.newest.map_or(Fetch::All, Fetch::Newest);
        let feeds = self.only.iter().map(|key| (*key, fetch.clone()));
        Policy::AllowList(feeds.collect::<BTreeMap<_, _>>())
    }

    fn peers(&self) -> Peers {
        if self.allow_peer.is_empty() {
            return Peers::Any;
        }
        Peers::Listed(self.allow_peer.iter().copied().collect::<BTreeSet<_>>())
    }
}

/// Reads a feed key from the command line.
pub(crate) fn feed_key(text: &str) -> Result<FeedKey, KeyParseError> {
    text.parse()
}

fn peer_key(text: &str) -> Result<PeerKey, KeyParseError> {
    feed_key(text).map(|key| key.0)
}

/// The identity in a file, drawn at random and saved if there is none.
async fn identity(context: &Context, path: &Path) -> Result<PeerSecret, Failure> {
    let place = path.display();
    let text = match input::read(context, path, keys::MAX_KEY_FILE).await? {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = keys::random_bytes()?;
            let written = keys::write_secret(path, &secret).map_err(|error| {
                let advice = "see whether the folder exists and you may write there";
                Failure::system(
                    "ERR_IDENTITY",
                    format!("cannot make {place}: {error}"),
                    &error,
                    advice,
                )
            })?;
            if written {
                return Ok(PeerSecret::new(secret));
            }
            // Another process was faster.
            input::read(context, path, keys::MAX_KEY_FILE).await?
        }
        read => read,
    };
    let text = text.map_err(|error| {
        Failure::new("ERR_IDENTITY", format!("cannot read {place}: {error}"))
            .advice("see who owns the file")
    })?;
    PeerSecret::from_text(&text).map_err(|error| {
        Failure::new("ERR_IDENTITY", format!("{place} holds no identity: {error}"))
            .advice("name another file, and it is made")
    })
}
