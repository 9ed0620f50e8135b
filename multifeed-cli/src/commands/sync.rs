//! `multifeed sync`: connect, sync both ways, leave.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use multifeed_tokio::{
    Backoff, ConnectOptions, Counters, Event, Events, FeedKey, Health, Multifeed, NodeError,
    Replication, ReplicationError, ReplicationEvent, ReplicationOptions, Role, WaitingFor,
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::args::Sync;
use crate::context::Context;
use crate::failure::Failure;
use crate::keys;
use crate::output::{Progress, counts, summary};
use crate::peers::{self, LEAVE};
use crate::signals::Signal;
use crate::store::{self, Missing};

pub(super) async fn run(context: &Context, args: Sync) -> Result<(), Failure> {
    let directory = &args.directory;
    let deadline = args.timeout.map(|limit| Instant::now() + limit);
    let missing = if args.speaking.read_only { Missing::Read } else { Missing::Make(args.saving) };
    let dialect = args.speaking.dialect.into();
    let store = store::open(context, directory, missing, dialect, args.sharing.max_feeds).await?;
    let result = sync(context, &args, &store, deadline).await;
    let closed = store::close(&store, directory).await;
    let synced = result?;
    closed?;
    if let Some(synced) = synced {
        say_in_sync(context, &args.peer, &synced);
    }
    Ok(())
}

/// What came of a sync.
struct Synced {
    counters: Counters,
    /// Time from the connection until both sides had everything.
    took: Duration,
}

/// Why a connection is left.
enum Left {
    /// Both have everything.
    Done,
    /// The user wants to stop.
    Signal(Signal),
    /// It leads nowhere.
    Failed(Failure),
    /// The peer is gone.
    Closed(Result<(), ReplicationError>),
}

/// How an attempt to sync ended.
enum End {
    /// There is nothing more to be done.
    Over(Result<Option<Synced>, Failure>),
    /// There is no connection any more; without a failure both sides had everything before.
    Lost(Option<Failure>),
}

/// How far an attempt came.
#[derive(Debug, Default)]
struct Seen {
    connected: bool,
    /// Both sides had everything at some time.
    in_sync: bool,
}

/// Connects, and again while that is wanted and of use.
async fn sync(
    context: &Context,
    args: &Sync,
    store: &Multifeed,
    deadline: Option<Instant>,
) -> Result<Option<Synced>, Failure> {
    let options =
        args.sharing.connecting(context, ReplicationOptions::default(), args.waiting).await?;
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut reached = false;
    // The last peer left when both sides had everything: a user who stops then lacks nothing.
    let mut settled = false;
    loop {
        let mut seen = Seen::default();
        let limit = if reached { None } else { deadline };
        let failure = match attempt(context, args, store, limit, options.clone(), &mut seen).await {
            End::Over(Err(failure)) if settled && !seen.connected && failure.is_interruption() => {
                return Ok(None);
            }
            End::Over(result) => return result,
            End::Lost(failure) => failure,
        };
        reached |= seen.in_sync;
        if seen.in_sync {
            backoff.succeeded();
        }
        settled = failure.is_none() || (settled && !seen.connected);
        let wanted = args.retry || (args.live && reached);
        // A sync that is not live is over once both sides had everything.
        let wanted = wanted && (args.live || failure.is_some());
        if !wanted || !failure.as_ref().is_none_or(|failure| may_pass(failure.code)) {
            return failure.map_or(Ok(None), Err);
        }
        let wait = backoff.failed(keys::random_number()?);
        say_reconnecting(context, args, failure.as_ref(), backoff.failures(), wait);
        let limit = if reached { None } else { deadline };
        tokio::select! {
            () = sleep(wait) => {}
            signal = context.signals.received() => {
                return if settled { Ok(None) } else { Err(Failure::interrupted(signal)) };
            }
            () = at(limit) => return Err(failure.unwrap_or_else(|| not_connected_in_time(args))),
        }
    }
}

/// Whether what failed like this may go well the next time, without anybody doing something here.
fn may_pass(code: &str) -> bool {
    matches!(
        code,
        "ERR_REFUSED"
            | "ERR_CONNECT"
            | "ERR_CONNECT_TIMEOUT"
            | "ERR_UNKNOWN_HOST"
            | "ERR_PEER_LEFT"
            | "ERR_STREAM"
            | "ERR_TRUNCATED"
            | "ERR_NOTHING_CAME"
            | "ERR_HANDSHAKE_TIMEOUT"
            | "ETIMEDOUT"
    )
}

fn say_reconnecting(
    context: &Context,
    args: &Sync,
    failure: Option<&Failure>,
    attempt: u32,
    wait: Duration,
) {
    let left = || format!("{} left", args.peer);
    let why = failure.map_or_else(left, |failure| failure.message.clone());
    context.output.say(
        || {
            json!({
                "event": "reconnecting",
                "code": failure.map(|failure| failure.code),
                "message": why,
                "attempt": attempt,
                "milliseconds": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            })
        },
        || format!("{why}; connecting again in {:.1} s", wait.as_secs_f64()),
    );
}

async fn attempt(
    context: &Context,
    args: &Sync,
    store: &Multifeed,
    deadline: Option<Instant>,
    options: ConnectOptions,
    seen: &mut Seen,
) -> End {
    let stream = tokio::select! {
        stream = peers::connect(&args.peer) => match stream {
            Ok(stream) => stream,
            Err(failure) => return End::Lost(Some(failure)),
        },
        signal = context.signals.received() => return End::Over(Err(Failure::interrupted(signal))),
        () = at(deadline) => return End::Over(Err(not_connected_in_time(args))),
    };
    seen.connected = true;
    context.output.note(format_args!("connected to {}", args.peer));
    let events = store.events();
    let mut session = Session {
        context,
        args,
        progress: context.output.progress(),
        connection: store.replicate_with(stream, Role::Initiator, options),
        started: Instant::now(),
        in_sync: false,
        took: None,
        failed_feeds: Vec::new(),
        unhealthy: BTreeMap::new(),
    };
    let left = session.run(events, deadline).await;
    session.progress.end();
    let end = session.end(left).await;
    seen.in_sync = session.took.is_some();
    // A feed that failed is not in sync, whatever the rest is.
    if let Some(failure) = peers::first_unusable(store, &session.failed_feeds).await {
        return End::Over(Err(failure));
    }
    // Blocks that were written here and are lost say more than that the feed is damaged.
    let lost = peers::first_incomplete(store, &args.peer);
    let unhealthy = || peers::first_unhealthy(store, &session.unhealthy, &args.peer);
    match (end, lost.or_else(unhealthy)) {
        (End::Over(Ok(Some(_))), Some(failure)) => End::Over(Err(failure)),
        (end, _) => end,
    }
}

struct Session<'a> {
    context: &'a Context,
    args: &'a Sync,
    progress: Progress,
    connection: Replication<TcpStream>,
    started: Instant,
    in_sync: bool,
    /// How long it took to be in sync, the last time.
    took: Option<Duration>,
    failed_feeds: Vec<FeedKey>,
    /// What is known to be wrong with feeds.
    unhealthy: BTreeMap<FeedKey, Health>,
}

impl Session<'_> {
    /// Syncs until there is a reason to leave.
    async fn run(&mut self, mut events: Events, deadline: Option<Instant>) -> Left {
        loop {
            let limit = if self.took.is_some() { None } else { deadline };
            tokio::select! {
                event = self.connection.next() => match event {
                    Some(event) => {
                        if let Some(left) = self.happened(event) {
                            return left;
                        }
                    }
                    None => return Left::Closed(Ok(())),
                },
                event = events.next() => match event {
                    Some(Event::FeedFailed { key, error }) => {
                        tracing::warn!(?key, %error, "feed failed");
                        if self.is_hopeless(&error) {
                            return Left::Failed(peers::feed_failed(&key, &error));
                        }
                        self.failed_feeds.push(key);
                    }
                    Some(Event::FeedHealth { key, health, .. }) => {
                        peers::say_health(&self.context.output, &key, &health);
                        self.unhealthy.insert(key, health);
                    }
                    Some(Event::StorageFailed { error, .. }) if self.is_hopeless(&error) => {
                        return Left::Failed(Failure::store(
                            &self.args.directory,
                            &multifeed_tokio::Error::Node(error),
                        ));
                    }
                    Some(event) => tracing::trace!(?event),
                    None => return Left::Closed(Err(ReplicationError::StoreClosed)),
                },
                signal = self.context.signals.received() => return Left::Signal(signal),
                () = at(limit) => return Left::Failed(self.out_of_time()),
            }
        }
    }

    /// Whether it is no use to wait until our own disk works again: nobody will make it.
    fn is_hopeless(&self, error: &NodeError) -> bool {
        let full = matches!(error.code(), "ERR_DISK_FULL" | "ERR_DENIED");
        full && (!self.args.live || self.took.is_none())
    }

    fn happened(&mut self, event: ReplicationEvent) -> Option<Left> {
        tracing::debug!(?event);
        match event {
            ReplicationEvent::Progress(counters) => self.progress.show(&counters),
            ReplicationEvent::InSync => {
                self.in_sync = true;
                let took = self.started.elapsed();
                self.took = Some(took);
                if !self.args.live {
                    return Some(Left::Done);
                }
                self.progress.end();
                let synced = Synced { counters: self.connection.counters(), took };
                say_in_sync(self.context, &self.args.peer, &synced);
            }
            ReplicationEvent::OutOfSync => self.in_sync = false,
            ReplicationEvent::Stalled { waiting } => {
                let failure = self.stalled(&waiting);
                if !self.args.live || self.took.is_none() {
                    return Some(Left::Failed(failure));
                }
                self.context.output.failure(&failure);
            }
            ReplicationEvent::Closed { result } => return Some(Left::Closed(result)),
            // The others are of interest to those who debug.
            ReplicationEvent::Connected { .. }
            | ReplicationEvent::Ready { .. }
            | ReplicationEvent::RemoteFeeds { .. }
            | ReplicationEvent::Lagged { .. }
            | _ => {}
        }
        None
    }

    /// Leaves the peer, and says how it went.
    async fn end(&mut self, left: Left) -> End {
        match left {
            Left::Done => {
                self.leave(None).await;
                let took = self.took.unwrap_or_default();
                End::Over(Ok(Some(Synced { counters: self.connection.counters(), took })))
            }
            // The user ends a live sync like this; it lacks nothing.
            Left::Signal(_) if self.args.live && self.in_sync => {
                self.leave(Some(LEAVE)).await;
                End::Over(Ok(None))
            }
            Left::Signal(signal) => {
                self.leave(Some(LEAVE)).await;
                End::Over(Err(Failure::interrupted(signal)))
            }
            Left::Failed(failure) => {
                self.connection.handle().abort();
                End::Over(Err(failure))
            }
            Left::Closed(result)
                if self.in_sync && result.as_ref().err().is_none_or(peers::is_a_cut) =>
            {
                End::Lost(None)
            }
            Left::Closed(result) => {
                let failed = |error| Failure::connection(&self.args.peer, &error);
                End::Lost(Some(result.err().map_or_else(|| self.left_early(), failed)))
            }
        }
    }

    /// Leaves in order, within a limit of time if there is one. The two are in sync, or the user
    /// does not care: how it ends is for those who debug.
    async fn leave(&mut self, limit: Option<Duration>) {
        self.connection.disconnect();
        let end = async {
            while let Some(event) = self.connection.next().await {
                tracing::debug!(?event, "leaving");
            }
        };
        match limit {
            Some(limit) => {
                if timeout(limit, end).await.is_err() {
                    self.connection.handle().abort();
                }
            }
            // The node has a limit of its own.
            None => end.await,
        }
    }

    fn stalled(&self, waiting: &WaitingFor) -> Failure {
        let message = format!("nothing moves any more: still waiting for {waiting}");
        let advice = if matches!(waiting, WaitingFor::Slow { .. }) {
            "if the network is as slow as that, allow it with a lower --least-rate; what came of a block \
             that is not complete is lost, the other blocks are stored"
        } else if matches!(waiting, WaitingFor::GivenBack { .. }) {
            "see whether there is room on the peer's disk; syncing again goes on from there"
        } else if matches!(waiting, WaitingFor::Room { .. }) {
            "the peer may be suspended, or the network stand still; syncing again goes on from there, a longer \
             --patience waits longer"
        } else {
            "what arrived is stored; syncing again goes on from there, a longer --patience waits longer"
        };
        let failure = self.unfinished("ERR_STALLED", message).advice(advice);
        failure.detail("waiting", waiting.to_string())
    }

    fn out_of_time(&self) -> Failure {
        let limit = self.args.timeout.unwrap_or_default().as_secs_f64();
        let waiting = peers::missing(&self.connection.sync_state());
        let waiting = waiting.unwrap_or_else(|| "the peer".to_owned());
        let message = format!("not in sync after {limit} s: still waiting for {waiting}");
        self.unfinished("ERR_TIMEOUT", message).detail("waiting", waiting)
    }

    fn left_early(&self) -> Failure {
        let counters = self.connection.counters();
        let missing = match counters.missing {
            0 => String::new(),
            missing => format!("; at least {missing} of its blocks are missing here"),
        };
        let message = format!(
            "the peer {} closed the connection before both sides had everything{missing}",
            self.args.peer
        );
        self.unfinished("ERR_PEER_LEFT", message).detail("missing", counters.missing)
    }

    fn unfinished(&self, code: &'static str, message: String) -> Failure {
        let counters = self.connection.counters();
        Failure::new(code, message)
            .advice("what arrived is stored; the same command goes on from there")
            .detail("peer", self.args.peer.as_str())
            .detail("blocks_received", counters.blocks_received)
            .detail("blocks_sent", counters.blocks_sent)
    }
}

fn say_in_sync(context: &Context, peer: &str, synced: &Synced) {
    let Synced { counters, took } = synced;
    context.output.say(
        || {
            let mut line = counts("in_sync", counters);
            line["milliseconds"] = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into();
            line
        },
        || {
            let mut text = format!(
                "in sync with {peer}: {} in {:.1} s",
                summary(counters),
                took.as_secs_f64()
            );
            if counters.not_wanted > 0 {
                text.push_str(&format!("; {} of ours it did not want", counters.not_wanted));
            }
            text
        },
    );
}

fn not_connected_in_time(args: &Sync) -> Failure {
    let limit = args.timeout.unwrap_or_default().as_secs_f64();
    let waiting = format!("an answer from {}", args.peer);
    let message = format!("not in sync after {limit} s: still waiting for {waiting}");
    Failure::new("ERR_TIMEOUT", message)
        .advice("see whether the address is right, and whether a firewall is in between")
        .detail("address", args.peer.as_str())
        .detail("waiting", waiting)
}

/// Waits until this moment; for ever if there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Longest wait before a connection is made again for the first time.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Longest wait before a connection is made again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
