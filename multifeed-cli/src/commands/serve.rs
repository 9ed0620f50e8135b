//! `multifeed serve`: wait for peers and sync with all that come.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use multifeed_tokio::{
    ConnectOptions, Event, Events, Listener, Multifeed, Replication, ReplicationError,
    ReplicationEvent, ReplicationOptions, Role,
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::Serve;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Output, counts, plural, summary};
use crate::peers::{self, LEAVE};
use crate::store::{self, Missing};
use crate::strangers::{Strangers, raise_open_files};

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
    raise_open_files();
    let replication = ReplicationOptions { live: !args.no_live, ..ReplicationOptions::default() };
    let options = args.sharing.connecting(context, replication, args.waiting).await?;
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
    let max_peers = args.max_connections.get().into();
    let server = Server {
        output: context.output.clone(),
        store: store.clone(),
        options,
        max_peers,
        room: Arc::new(Semaphore::new(max_peers)),
        strangers: Arc::new(Strangers::new(context.output.clone())),
        proven: args.once.then(Arc::default),
        stopped,
    };
    let mut peers = JoinSet::new();
    let watcher = tokio::spawn(report_failed_feeds(context.output.clone(), store.events()));
    let result = tokio::select! {
        result = server.accept(&listener, &mut peers) => result,
        () = server.strangers.tell_now_and_then(&listener) => unreachable!("it goes on for ever"),
        signal = context.signals.received() => {
            tracing::info!(signal = signal.name(), "ending");
            let seconds = LEAVE.as_secs();
            context.output.note(match max_peers - server.room.available_permits() {
                0 => "stopped".to_owned(),
                _ => format!("stopping: connected peers have {seconds} seconds to end in order"),
            });
            Ok(ExitCode::SUCCESS)
        }
    };
    drop(listener);
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
    max_peers: usize,
    /// Places of peers that have proven that they know the root key.
    room: Arc<Semaphore>,
    strangers: Arc<Strangers>,
    /// With `--once`: told by the first peer that has proven it.
    proven: Option<Arc<Proven>>,
    /// Becomes true when the server ends.
    stopped: watch::Receiver<bool>,
}

/// The peer that `--once` is for.
#[derive(Debug, Default)]
struct Proven {
    taken: AtomicBool,
    told: Notify,
}

impl Server {
    /// Serves peers until the first that has proven the root key has left, or else for ever.
    async fn accept(
        &self,
        listener: &Listener,
        peers: &mut JoinSet<Left>,
    ) -> Result<ExitCode, Failure> {
        let taken = async {
            match &self.proven {
                Some(proven) => proven.told.notified().await,
                None => pending().await,
            }
        };
        tokio::pin!(taken);
        loop {
            let accepted = tokio::select! {
                accepted = self.next(listener) => accepted,
                () = &mut taken => break,
            };
            let (stream, address) = accepted.map_err(|error| {
                Failure::new("ERR_LISTEN", format!("cannot wait for peers any more: {error}"))
            })?;
            let options = self.options.clone().accepted_from(address);
            let connection = self.store.replicate_with(stream, Role::Responder, options);
            peers.spawn(self.peer(address).serve(connection));
            // Takes the results of those who have left.
            while peers.try_join_next().is_some() {}
        }
        while let Some(left) = peers.join_next().await {
            if let Ok(Left::Member { well }) = left {
                return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
        }
        Ok(ExitCode::FAILURE)
    }

    /// The next peer, once there is a place for it if it proves to be one.
    async fn next(&self, listener: &Listener) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = listener.next_peer().await?;
        drop(self.room.acquire().await);
        Ok(accepted)
    }

    fn peer(&self, address: SocketAddr) -> Peer {
        Peer {
            output: self.output.clone(),
            address,
            room: Arc::clone(&self.room),
            max_peers: self.max_peers,
            place: None,
            strangers: Arc::clone(&self.strangers),
            proven: self.proven.clone(),
            in_sync: false,
            stopped: self.stopped.clone(),
        }
    }
}

/// What became of a connection.
enum Left {
    /// Its peer never proved that it knows the root key.
    Stranger,
    /// It did; whether all went well.
    Member { well: bool },
}

/// One peer that connected.
struct Peer {
    output: Output,
    address: SocketAddr,
    room: Arc<Semaphore>,
    max_peers: usize,
    /// Its place among those that have proven that they know the root key.
    place: Option<OwnedSemaphorePermit>,
    strangers: Arc<Strangers>,
    proven: Option<Arc<Proven>>,
    in_sync: bool,
    stopped: watch::Receiver<bool>,
}

impl Peer {
    /// Syncs until the peer leaves, or the server ends.
    async fn serve(mut self, mut connection: Replication<TcpStream>) -> Left {
        let mut stopped = self.stopped.clone();
        let mut leaving = false;
        loop {
            tokio::select! {
                event = connection.next() => match event {
                    Some(ReplicationEvent::Closed { result }) => {
                        return self.closed(&connection, result);
                    }
                    Some(ReplicationEvent::Ready { .. }) if self.place.is_none() => {
                        if !self.is_let_in().await {
                            connection.handle().abort();
                            return Left::Stranger;
                        }
                    }
                    Some(event) => self.happened(&connection, event),
                    None => return self.left(false),
                },
                () = ended(&mut stopped), if !leaving => {
                    leaving = true;
                    if self.place.is_none() {
                        connection.handle().abort();
                        return Left::Stranger;
                    }
                    connection.disconnect();
                }
            }
        }
    }

    /// The peer has proven that it knows the root key: gives it a place, as soon as there is one. `false`: it
    /// has none. While it waits nothing of it is read.
    async fn is_let_in(&mut self) -> bool {
        if let Some(proven) = &self.proven {
            if proven.taken.swap(true, Ordering::AcqRel) {
                return false;
            }
            proven.told.notify_one();
        }
        let mut stopped = self.stopped.clone();
        let place = tokio::select! {
            place = Arc::clone(&self.room).acquire_owned() => place,
            () = ended(&mut stopped) => return false,
        };
        self.place = Some(place.expect("the semaphore is never closed"));
        let peer = self.address.to_string();
        self.output
            .say(|| json!({ "event": "connected", "peer": &peer }), || format!("{peer} connected"));
        if self.room.available_permits() == 0 && self.proven.is_none() {
            self.say_full();
        }
        true
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

    const fn left(&self, well: bool) -> Left {
        if self.place.is_some() { Left::Member { well } } else { Left::Stranger }
    }

    fn happened(&mut self, connection: &Replication<TcpStream>, event: ReplicationEvent) {
        let peer = self.address.to_string();
        tracing::debug!(peer, ?event);
        match event {
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
            ReplicationEvent::Connected { .. }
            | ReplicationEvent::Ready { .. }
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
    ) -> Left {
        let peer = self.address.to_string();
        if self.place.is_none() && !self.strangers.may_tell() {
            tracing::debug!(peer, ?result, "a stranger left");
            return Left::Stranger;
        }
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
        self.left(failure.is_none())
    }
}

/// Waits until the server ends.
async fn ended(stopped: &mut watch::Receiver<bool>) {
    let _gone_with_it = stopped.wait_for(|stopped| *stopped).await.map(|stopped| *stopped);
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
fn not_listening(address: &str, error: &io::Error) -> Failure {
    use io::ErrorKind;
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
