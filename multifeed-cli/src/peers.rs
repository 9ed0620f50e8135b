//! What `serve` and `sync` share: addresses, and connections that are over.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use multifeed_tokio::{
    FeedKey, Health, Multifeed, NodeError, PeerError, ReplicationError, SyncState,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::output::{Output, plural, printable};

/// Connects to the peer at `address`, HOST:PORT.
pub(crate) async fn connect(address: &str) -> Result<TcpStream, Failure> {
    let addresses = resolve(address).await?;
    tracing::debug!(?addresses, "connecting");
    let connecting = multifeed_tokio::connect(&addresses[..]);
    let stream = match tokio::time::timeout(CONNECT, connecting).await {
        Ok(connected) => connected.map_err(|error| not_connected(address, &error))?,
        Err(_) => return Err(no_answer(address)),
    };
    tracing::info!(address, "connected");
    Ok(stream)
}

/// The socket addresses of HOST:PORT, at least one.
pub(crate) async fn resolve(address: &str) -> Result<Vec<SocketAddr>, Failure> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let unknown = |why: String| {
        Failure::new("ERR_UNKNOWN_HOST", format!("the address of {host:?} was not found: {why}"))
            .advice("see whether the name is spelled right, and whether the network is there")
            .detail("address", address)
    };
    let found =
        tokio::net::lookup_host(address).await.map_err(|error| unknown(error.to_string()))?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() {
        return Err(unknown("the name has none".to_owned()));
    }
    Ok(addresses)
}

/// Whether a connection that ended like this, after both sides had everything, was a loss: what
/// the JavaScript does when its program ends is to cut the stream.
pub(crate) fn is_a_cut(error: &ReplicationError) -> bool {
    matches!(
        error,
        ReplicationError::Stream(_)
            | ReplicationError::Peer(PeerError::Truncated | PeerError::Silent)
    )
}

/// What is missing, in words.
pub(crate) fn missing(state: &SyncState) -> Option<String> {
    match state {
        SyncState::InSync | SyncState::Closed => None,
        SyncState::Waiting(waiting) => Some(waiting.to_string()),
    }
}

/// A feed of the store that cannot be used.
pub(crate) fn feed_failed(key: &FeedKey, error: &NodeError) -> Failure {
    let message = format!("feed {} cannot be used: {error}", key.to_hex());
    Failure::new(error.code(), message).detail("feed", key.to_hex())
}

/// The lengths of the two logs of a forked feed, for programs.
pub(crate) fn fork(health: &Health) -> Option<Value> {
    if let Health::Forked { here, there } = health {
        return Some(json!({ "here": here, "there": there }));
    }
    None
}

/// Says what is known to be wrong with a feed.
pub(crate) fn say_health(output: &Output, key: &FeedKey, health: &Health) {
    output.say(
        || {
            let mut line = json!({
                "event": "feed_health",
                "feed": key.to_hex(),
                "health": health.code(),
                "message": health.to_string(),
            });
            if let Some(fork) = fork(health) {
                line["fork"] = fork;
            }
            line
        },
        || format!("feed {}: {health}", key.to_hex()),
    );
}

/// The first of these feeds that was not exchanged with `peer`, because what one of the two has does not fit.
/// Blocks that were damaged here and came back are not missed.
pub(crate) fn first_unhealthy(
    store: &Multifeed,
    feeds: &BTreeMap<FeedKey, Health>,
    peer: &str,
) -> Option<Failure> {
    let came_back = |key| {
        let info = store.feed(key).map(|feed| feed.info());
        info.is_some_and(|info| info.lost == 0 && info.length > 0 && info.blocks == info.length)
    };
    let (key, health) = feeds.iter().find(|(key, health)| match health {
        Health::Sound => false,
        Health::DamagedHere { .. } => !came_back(key),
        Health::Forked { .. } | Health::DamagedThere { .. } | _ => true,
    })?;
    let key = key.to_hex();
    let code = match health {
        Health::Forked { .. } => "ERR_FEED_FORKED",
        Health::DamagedHere { .. } => "ERR_FEED_DAMAGED",
        Health::Sound | Health::DamagedThere { .. } | _ => "ERR_PROOF",
    };
    let message = format!("feed {key} was not exchanged with {peer}: {health}");
    let mut failure = Failure::new(code, message);
    if let Some(fork) = fork(health) {
        failure = failure.detail("fork", fork);
    }
    Some(failure.detail("feed", key).detail("health", health.code()).detail("peer", peer))
}

/// The first of these feeds that still cannot be used: some failures pass.
pub(crate) async fn first_unusable(store: &Multifeed, keys: &[FeedKey]) -> Option<Failure> {
    for key in keys {
        let Some(feed) = store.feed(key) else { continue };
        if let Err(multifeed_tokio::Error::Node(error)) = feed.load().await {
            return Some(feed_failed(key, &error));
        }
    }
    None
}

/// The first feed of the store that lacks blocks which were written here, after a sync with `peer`.
pub(crate) fn first_incomplete(store: &Multifeed, peer: &str) -> Option<Failure> {
    let info = store.feeds().into_iter().map(|feed| feed.info()).find(|info| info.lost > 0)?;
    let (key, lost) = (info.key.to_hex(), plural(info.lost, "block"));
    let message = format!(
        "{lost} that were written here to {}, feed {key}, are damaged or gone, and the peer {peer} does \
         not have them",
        printable(&info.name)
    );
    Some(
        Failure::new("ERR_BLOCKS_LOST", message)
            .detail("feed", key)
            .detail("lost", info.lost)
            .detail("peer", peer),
    )
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the system's reasons are too many")]
fn not_connected(address: &str, error: &io::Error) -> Failure {
    let failure = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            Failure::new("ERR_REFUSED", format!("nobody listens at {address}: connection refused"))
                .advice("start `multifeed serve` there, and see whether the port is right")
        }
        io::ErrorKind::TimedOut => return no_answer(address),
        _ => Failure::new("ERR_CONNECT", format!("cannot connect to {address}: {error}"))
            .advice("see whether the address is right and the network is there"),
    };
    failure.detail("address", address)
}

fn no_answer(address: &str) -> Failure {
    Failure::new("ERR_CONNECT_TIMEOUT", format!("{address} does not answer"))
        .advice("see whether the address is right, and whether a firewall is in between")
        .detail("address", address)
}

/// Time until an address that says nothing is given up.
const CONNECT: Duration = Duration::from_secs(20);

/// Time that peers get to end in order once the user wants to stop.
pub(crate) const LEAVE: Duration = Duration::from_secs(3);
