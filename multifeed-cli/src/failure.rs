//! What is said when something fails: whose fault, what was got and wanted, what to do.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "an error without numbers or advice of its own is told by its message alone"
)]

use std::fmt::Display;
use std::path::Path;

use multifeed_tokio::{Error, NodeError, PeerError, ReplicationError};
use serde_json::{Map, Value};

use crate::signals::Signal;

/// Why a command failed, for people and for programs.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// What the user can do about it, where that is not said by its code alone: see `advice`.
    pub(crate) advice: Option<String>,
    /// Numbers and names in the message, for programs.
    pub(crate) details: Map<String, Value>,
    pub(crate) exit: u8,
}

impl Failure {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), advice: None, details: Map::new(), exit: 1 }
    }

    /// The same, for what the operating system refused: with the code and the advice of its reason, where that has
    /// one of its own, instead of `code` and `advice`.
    pub(crate) fn system(
        code: &'static str,
        message: impl Into<String>,
        error: &std::io::Error,
        advice: &str,
    ) -> Self {
        use multifeed_tokio::core::storage::StorageErrorKind as Kind;
        let kind = multifeed_tokio::core::disk::error_kind(error);
        let own = matches!(
            kind,
            Kind::Full | Kind::Quota | Kind::ReadOnly | Kind::TooManyFiles | Kind::Broken(_)
        );
        if own { Self::new(kind.code(), message) } else { Self::new(code, message).advice(advice) }
    }

    pub(crate) fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    pub(crate) fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// A command that a signal ended before it was done.
    pub(crate) fn interrupted(signal: Signal) -> Self {
        let message = format!("stopped by {} before it was done", signal.name());
        Self { exit: signal.exit_code(), ..Self::new(INTERRUPTED, message) }
    }

    /// Whether a signal is the reason.
    pub(crate) fn is_interruption(&self) -> bool {
        self.code == INTERRUPTED
    }

    /// The store in `directory` could not do something.
    pub(crate) fn store(directory: &Path, error: &Error) -> Self {
        let place = directory.display();
        let failure = Self::new(error.code(), format!("{place}: {error}"))
            .detail("directory", place.to_string());
        match error {
            Error::Node(error) => failure.with_node_details(error),
            Error::Timeout { feed, index, .. } => {
                failure.detail("feed", feed.as_str()).detail("index", *index)
            }
            // Their message says all there is.
            _ => failure,
        }
    }

    /// The connection with `peer` ended as it should not.
    pub(crate) fn connection(peer: &dyn Display, error: &ReplicationError) -> Self {
        let failure = match error {
            ReplicationError::Peer(error) => {
                Self::new(error.code(), format!("the peer {peer}: {error}"))
                    .with_peer_details(error)
            }
            // Only these are nobody's fault but the network's or our own.
            other => Self::new(other.code(), format!("connection with {peer}: {other}")),
        };
        failure.detail("peer", peer.to_string())
    }

    fn with_node_details(self, error: &NodeError) -> Self {
        match error {
            NodeError::Storage(error) => {
                let failure = self.detail("file", error.path.as_str());
                match &error.kind {
                    multifeed_tokio::core::storage::StorageErrorKind::InUse { process } => {
                        failure.detail("process", *process)
                    }
                    // The rest is text.
                    _ => failure,
                }
            }
            NodeError::Damaged { feed, .. }
            | NodeError::NotWritable { feed }
            | NodeError::LostTail { feed, .. }
            | NodeError::Full { feed } => self.detail("feed", feed.as_str()),
            NodeError::Store { file, .. } => self.detail("file", *file),
            NodeError::BlockTooLarge { len, max } => self.detail("got", *len).detail("max", *max),
            NodeError::Name { got, max } => self.detail("got", *got).detail("max", *max),
            // The others have nothing to count.
            _ => self,
        }
    }

    fn with_peer_details(self, error: &PeerError) -> Self {
        match error {
            PeerError::VersionMismatch { ours, theirs }
            | PeerError::ClientMismatch { ours, theirs } => {
                self.detail("ours", *ours).detail("theirs", theirs.as_str())
            }
            PeerError::Proof { feed, index, .. } => {
                self.detail("feed", feed.as_str()).detail("index", *index)
            }
            PeerError::Left { connected } => self.detail("connected", *connected),
            // What the others count is of use to nobody but a developer, who reads the message.
            _ => self,
        }
    }
}

/// The code of a command that a signal ended.
pub(crate) const INTERRUPTED: &str = "ERR_INTERRUPTED";
