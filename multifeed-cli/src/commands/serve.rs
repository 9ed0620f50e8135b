//! `multifeed serve`: wait for peers and sync with all that come.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use multifeed_tokio::{
    ConnectOptions, Event, Events, Listener, Multifeed, Replication, ReplicationError,
    ReplicationEvent, ReplicationOptions, Role,
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::Serve;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Output, counts, plural, summary};
use crate::peers::{self, LEAVE};
use crate::store::{self, Missing};

pub(super) async fn run(context: &Context, args: Serve) -> Result<ExitCode, Failure> {
    let missing = if args.speaking.read_only { Missing::Read } else { Missing::Make(args.saving) };
    let dialect = args.speaking.dialect.into();
    let store =
        store::open(context, &args.directory, missing, dialect, args.sharing.max_feeds).await?;
    let result = serve(context, &args, &store).await;
    let closed = store::close(&store, &args.directory).await;
    let code = result?;
    closed.map(|()| code)
}

async fn serve(context: &Context, args: &Serve, store: &Multifeed) -> Result<ExitCode, Failure> {
    let replication = ReplicationOptions { live: !args.no_live, ..ReplicationOptions::default() };
    let options = args.sharing.connecting(context, replication).await?;
    let listener = listen(&args.listen).await?;
    let address = listener.local_addr().map_err(|error| not_listening(&args.listen, &error))?;
    context.output.say(
        || json!({ "event": "listening", "address": address.to_string() }),
        || {
            let stop = if args.once { "until the first peer has left" } else { "until Ctrl-C" };
            format!("listening at {address}, {stop}")
        },
    );
    let (stop, stopped) = watch::channel(false);
    let server = Server {
        output: context.output.clone(),
        store: store.clone(),
        options,
        max_peers: args.max_connections.get().into(),
        stopped,
    };
    let mut peers = JoinSet::new();
    let watcher = tokio::spawn(report_failed_feeds(context.output.clone(), store.events()));
    let result = tokio::select! {
        result = server.accept(listener, &mut peers, args.once) => result,
        signal = context.signals.received() => {
            tracing::info!(signal = signal.name(), "ending");
            while peers.try_join_next().is_some() {}
            let seconds = LEAVE.as_secs();
            context.output.note(match peers.len() {
                0 => "stopped".to_owned(),
                _ => format!("stopping: connected peers have {seconds} seconds to end in order"),
            });
            Ok(ExitCode::SUCCESS)
        }
    };
    // Those who are still connected are left in order.
    stop.send_replace(true);
    let all = async { while peers.join_next().await.is_some() {} };
    if timeout(LEAVE, all).await.is_err() {
        let cut = plural(peers.len() as u64, "peer");
        context
            .output
            .note(format!("cut off in the middle: {cut}; a later sync goes on from there"));
        peers.shutdown().await;
    }
    watcher.abort();
    result
}

struct Server {
    output: Output,
    store: Multifeed,
    options: ConnectOptions,
    /// Peers served at once; more wait in the queue of the operating system until one has left.
    max_peers: usize,
    /// Becomes true when the server ends.
    stopped: watch::Receiver<bool>,
}

impl Server {
    /// Serves peers until the first has left, or else for ever.
    async fn accept(
        &self,
        listener: Listener,
        peers: &mut JoinSet<bool>,
        once: bool,
    ) -> Result<ExitCode, Failure> {
        let room = Arc::new(Semaphore::new(self.max_peers));
        loop {
            if room.available_permits() == 0 && !once {
                self.say_full();
            }
            let permit = Arc::clone(&room).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let accepted = listener.accept().await;
            let (stream, address) = accepted.map_err(|error| {
                Failure::new("ERR_LISTEN", format!("cannot wait for peers any more: {error}"))
            })?;
            let connection =
                self.store.replicate_with(stream, Role::Responder, self.options.clone());
            let peer = Peer {
                output: self.output.clone(),
                address,
                in_sync: false,
                stopped: self.stopped.clone(),
            };
            peers.spawn(async move {
                let well = peer.serve(connection).await;
                drop(permit);
                well
            });
            if once {
                drop(listener);
                let well = matches!(peers.join_next().await, Some(Ok(true)));
                return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            // Takes the results of those who have left.
            while peers.try_join_next().is_some() {}
        }
    }

    fn say_full(&self) {
        let max = self.max_peers;
        self.output.say(
            || json!({ "event": "full", "connections": max }),
            || {
                let peers = plural(max as u64, "peer");
                format!("{peers} connected, as many as are let in: others wait until one leaves")
            },
        );
    }
}

/// One peer that connected.
struct Peer {
    output: Output,
    address: SocketAddr,
    in_sync: bool,
    stopped: watch::Receiver<bool>,
}

impl Peer {
    /// Syncs until the peer leaves, or the server ends; gives whether that went well.
    async fn serve(mut self, mut connection: Replication<TcpStream>) -> bool {
        let mut stopped = self.stopped.clone();
        let mut leaving = false;
        loop {
            tokio::select! {
                event = connection.next() => match event {
                    Some(ReplicationEvent::Closed { result }) => {
                        return self.closed(&connection, result);
                    }
                    Some(event) => self.happened(&connection, event),
                    None => return false,
                },
                _ = stopped.wait_for(|stopped| *stopped), if !leaving => {
                    leaving = true;
                    connection.disconnect();
                }
            }
        }
    }

    fn happened(&mut self, connection: &Replication<TcpStream>, event: ReplicationEvent) {
        let peer = self.address.to_string();
        tracing::debug!(peer, ?event);
        match event {
            ReplicationEvent::Connected { .. } => self.output.say(
                || json!({ "event": "connected", "peer": &peer }),
                || format!("{peer} connected"),
            ),
            ReplicationEvent::InSync => {
                self.in_sync = true;
                let counters = connection.counters();
                self.output.say(
                    || {
                        let mut line = counts("in_sync", &counters);
                        line["peer"] = peer.as_str().into();
                        line
                    },
                    || format!("{peer} in sync: {}", summary(&counters)),
                );
            }
            ReplicationEvent::OutOfSync => self.in_sync = false,
            ReplicationEvent::Stalled { waiting } => {
                let waiting = waiting.to_string();
                self.output.say(
                    || json!({ "event": "stalled", "peer": &peer, "waiting": &waiting }),
                    || format!("{peer} nothing moves: still waiting for {waiting}"),
                );
            }
            // The others are of interest to those who debug.
            ReplicationEvent::Ready { .. }
            | ReplicationEvent::RemoteFeeds { .. }
            | ReplicationEvent::Progress(_)
            | ReplicationEvent::Lagged { .. }
            | ReplicationEvent::Closed { .. }
            | _ => {}
        }
    }

    fn closed(
        self,
        connection: &Replication<TcpStream>,
        result: Result<(), ReplicationError>,
    ) -> bool {
        let peer = self.address.to_string();
        let counters = connection.counters();
        let failure = match &result {
            Err(error) if self.in_sync && peers::is_a_cut(error) => {
                tracing::info!(peer, %error, "the peer left");
                None
            }
            Ok(()) | Err(ReplicationError::StoreClosed) => None,
            Err(error) => Some(Failure::connection(&peer, error)),
        };
        if let Some(failure) = &failure {
            self.output.failure(failure);
        }
        self.output.say(
            || {
                let mut line = counts("closed", &counters);
                line["peer"] = peer.as_str().into();
                line["in_sync"] = self.in_sync.into();
                line["code"] = failure.as_ref().map(|failure| failure.code).into();
                line
            },
            || {
                let how = match (&failure, self.in_sync) {
                    (Some(_), _) => "failed",
                    (None, true) => "left",
                    (None, false) => "left before both sides had everything",
                };
                format!("{peer} {how}: {}", summary(&counters))
            },
        );
        failure.is_none()
    }
}

/// Says which feeds of the store cannot be used, or what is wrong with them; the others go on.
async fn report_failed_feeds(output: Output, mut events: Events) {
    while let Some(event) = events.next().await {
        if let Event::FeedFailed { key, error } = &event {
            output.failure(&peers::feed_failed(key, error));
        }
        if let Event::FeedHealth { key, health, .. } = &event {
            peers::say_health(&output, key, health);
        }
    }
}

async fn listen(address: &str) -> Result<Listener, Failure> {
    let addresses = peers::resolve(address).await?;
    let bound = Listener::bind(&addresses[..]).await;
    bound.map_err(|error| not_listening(address, &error))
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the system's reasons are too many")]
fn not_listening(address: &str, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let advice = match error.kind() {
        ErrorKind::AddrInUse => "another program waits there: end it, or choose another port",
        ErrorKind::AddrNotAvailable => "the address is not one of this machine; try 127.0.0.1:0",
        ErrorKind::PermissionDenied => "ports below 1024 are not for everybody: choose another",
        _ => "choose another address; port 0 picks a free port",
    };
    Failure::new("ERR_LISTEN", format!("cannot listen at {address}: {error}"))
        .advice(advice)
        .detail("address", address)
}
