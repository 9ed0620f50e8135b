//! `multifeed demo`: the main job in a few seconds, explained.

use std::net::Ipv4Addr;
use std::time::Duration;

use indicatif::HumanBytes;
use multifeed_tokio::{
    Bytes, Feed, FeedKey, Listener, Multifeed, Options, ReplicationEvent, ReplicationHandle, Role,
    RootKey, connect,
};
use serde_json::json;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::failure::Failure;
use crate::keys;
use crate::output::{counts, plural};
use crate::store;

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    tokio::select! {
        result = tokio::time::timeout(PATIENCE, demo(context)) => result.unwrap_or_else(|_| {
            let message = format!("the demo did not end within {} s", PATIENCE.as_secs());
            Err(Failure::new("ERR_TIMEOUT", message)
                .advice("the machine is very busy, or this is a bug: `multifeed -v demo` says more"))
        }),
        signal = context.signals.received() => Err(Failure::interrupted(signal)),
    }
}

/// One of the two that share a multifeed.
struct Person {
    name: &'static str,
    store: Multifeed,
    feed: Feed,
    /// Removed when dropped.
    folder: tempfile::TempDir,
}

/// One end of the connection, on a task of its own.
struct End {
    who: &'static str,
    handle: ReplicationHandle,
    in_sync: UnboundedReceiver<()>,
    task: JoinHandle<Result<(), Failure>>,
}

async fn demo(context: &Context) -> Result<(), Failure> {
    let say = |text: &str| context.output.say_to_person(|| text.to_owned());
    say("Two people write, each on a machine of their own, and both end up with everything.\n\n\
         1. Alice and Bob share one secret, the root key of their multifeed. Each has a folder\n   \
         and a writer in it: a log of blocks that only they can add to, signed with their own key.");
    let key = keys::random()?;
    let alice = Person::new("alice", key.clone()).await?;
    let bob = Person::new("bob", key).await?;
    alice.append(context, &["Milk is out.", "I water the plants on Monday."]).await?;
    bob.append(context, &["I buy milk.", "And bread.", "Who feeds the cat?"]).await?;

    say(
        "\n2. Bob waits for a connection, Alice connects. It is a real TCP connection, encrypted;\n   \
         each side shows that it knows the root key, without sending it.",
    );
    let (mut to_bob, mut to_alice) = connection(context, &alice, &bob).await?;
    to_bob.wait_in_sync().await?;
    to_alice.wait_in_sync().await?;
    let counters = to_bob.handle.counters();
    context.output.say(
        || counts("in_sync", &counters),
        || {
            format!(
                "   in sync: alice received {} ({}) and sent {} ({})",
                plural(counters.blocks_received, "block"),
                HumanBytes(counters.block_bytes_received),
                counters.blocks_sent,
                HumanBytes(counters.block_bytes_sent),
            )
        },
    );
    say(
        "   Each block was checked against the signature of its writer before it was stored, so\n   \
         nobody in between can change or invent one.",
    );

    say("\n3. The connection stays. What Alice adds comes to Bob by itself:");
    let feed = bob.find(&alice.feed.key())?;
    let mut coming = feed.subscribe(2..);
    alice.append(context, &["I do. It is asleep on my keyboard."]).await?;
    let block = coming.next().await.ok_or_else(closed_early)?;
    let block = block.map_err(|error| Failure::store(bob.folder.path(), &error))?;
    context.output.say(
        || json!({ "event": "received", "who": "bob", "from": "alice", "block": text(&block) }),
        || format!("   bob received:    \"{}\"", text(&block)),
    );

    say(
        "\n4. They part. Both folders hold the same two feeds, on disk, to be read without a network:",
    );
    to_bob.handle.disconnect();
    let (bobs_end, alices_end) = tokio::join!(to_alice.task, to_bob.task);
    for end in [bobs_end, alices_end] {
        end.map_err(|_| closed_early())??;
    }
    let contents = [alice.show(context).await?, bob.show(context).await?];
    if contents[0] != contents[1] {
        let message = "the two folders hold different contents: this is a bug in multifeed";
        return Err(Failure::new("ERR_DEMO", message));
    }
    for person in [alice, bob] {
        person.leave().await?;
    }
    context.output.say(
        || json!({ "event": "done" }),
        || {
            "\nBoth hold the same. The folders of this demo are removed again.\n\n\
             To do this on your own machines: multifeed init ./db, then see multifeed --help"
                .to_owned()
        },
    );
    Ok(())
}

impl Person {
    async fn new(name: &'static str, key: RootKey) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("multifeed-demo-").tempdir();
        let folder = folder.map_err(|error| {
            let place = std::env::temp_dir();
            let message = format!("cannot make a folder in {}: {error}", place.display());
            Failure::new("ERR_DIRECTORY", message)
                .advice("set TMPDIR to a folder that can be written to")
        })?;
        let store = store::open_with(folder.path(), Options::default().root_key(key)).await?;
        let feed = store.writer(name).await;
        let feed = feed.map_err(|error| Failure::store(folder.path(), &error))?;
        Ok(Self { name, store, feed, folder })
    }

    async fn append(&self, context: &Context, texts: &[&str]) -> Result<(), Failure> {
        for text in texts {
            let appended = self.feed.append(*text).await;
            let index = appended.map_err(|error| self.failed(&error))?;
            context.output.say(
                || {
                    json!({
                        "event": "appended",
                        "who": self.name,
                        "key": self.feed.key().to_hex(),
                        "start": index,
                        "length": 1,
                    })
                },
                || format!("   {:5} appended:  \"{text}\"", self.name),
            );
        }
        Ok(())
    }

    fn find(&self, key: &FeedKey) -> Result<Feed, Failure> {
        self.store.feed(key).ok_or_else(closed_early)
    }

    /// Prints all that the folder holds, read from there; gives it sorted by feed.
    async fn show(&self, context: &Context) -> Result<Vec<(FeedKey, Vec<Bytes>)>, Failure> {
        let mut contents = Vec::new();
        for feed in self.store.feeds() {
            let length = feed.load().await.map_err(|error| self.failed(&error))?.length;
            let blocks = feed.read(0, length, usize::MAX).await;
            contents.push((feed.key(), blocks.map_err(|error| self.failed(&error))?));
        }
        contents.sort_by_key(|(key, _)| *key);
        let place = self.folder.path();
        context
            .output
            .say_to_person(|| format!("\n   {}'s folder, {}:", self.name, place.display()));
        for (key, blocks) in &contents {
            let own = *key == self.feed.key();
            let hex = key.to_hex();
            context.output.say(
                || {
                    let blocks: Vec<_> = blocks.iter().map(|block| text(block)).collect();
                    json!({ "event": "contents", "who": self.name, "key": hex, "blocks": blocks })
                },
                || {
                    let whose = if own { "own feed" } else { "received" };
                    let mut lines = format!("     feed {}… ({whose})", &hex[..12]);
                    for (index, block) in blocks.iter().enumerate() {
                        lines.push_str(&format!("\n       {index}  {}", text(block)));
                    }
                    lines
                },
            );
        }
        Ok(contents)
    }

    /// Closes the store and removes the folder.
    async fn leave(self) -> Result<(), Failure> {
        store::close(&self.store, self.folder.path()).await?;
        let place = self.folder.path().display().to_string();
        self.folder.close().map_err(|error| {
            Failure::new("ERR_DIRECTORY", format!("cannot remove the folder {place}: {error}"))
        })
    }

    fn failed(&self, error: &multifeed_tokio::Error) -> Failure {
        Failure::store(self.folder.path(), error)
    }
}

/// Connects the two; gives the end of Alice and that of Bob.
async fn connection(
    context: &Context,
    alice: &Person,
    bob: &Person,
) -> Result<(End, End), Failure> {
    let failed = |error| {
        Failure::new("ERR_CONNECT", format!("no connection on this machine itself: {error}"))
            .advice("the demo needs to listen at 127.0.0.1")
    };
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (connected, accepted) = tokio::join!(connect(address), listener.accept());
    let (to_bob, (to_alice, _)) = (connected.map_err(failed)?, accepted.map_err(failed)?);
    context.output.say(
        || json!({ "event": "connected", "address": address.to_string() }),
        || format!("   alice connected to bob at {address}"),
    );
    let alices = alice.store.replicate(to_bob, Role::Initiator);
    let bobs = bob.store.replicate(to_alice, Role::Responder);
    Ok((End::spawn(alice.name, alices), End::spawn(bob.name, bobs)))
}

impl End {
    fn spawn(
        who: &'static str,
        mut replication: multifeed_tokio::Replication<tokio::net::TcpStream>,
    ) -> Self {
        let handle = replication.handle();
        let (sender, in_sync) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(event) = replication.next().await {
                tracing::debug!(who, ?event);
                happened(who, event, &sender)?;
            }
            Ok(())
        });
        Self { who, handle, in_sync, task }
    }

    /// Waits until this end knows that both have everything.
    async fn wait_in_sync(&mut self) -> Result<(), Failure> {
        match self.in_sync.recv().await {
            Some(()) => Ok(()),
            None => match (&mut self.task).await {
                Ok(Err(failure)) => Err(failure),
                Ok(Ok(())) | Err(_) => {
                    let message = format!("the connection of {} ended too early", self.who);
                    Err(Failure::new("ERR_DEMO", message))
                }
            },
        }
    }
}

fn happened(
    who: &'static str,
    event: ReplicationEvent,
    in_sync: &UnboundedSender<()>,
) -> Result<(), Failure> {
    if let ReplicationEvent::Closed { result } = event {
        return result.map_err(|error| Failure::connection(&format!("of {who}"), &error));
    }
    if matches!(event, ReplicationEvent::InSync) {
        let _nobody_waits = in_sync.send(());
    }
    Ok(())
}

fn closed_early() -> Failure {
    Failure::new("ERR_DEMO", "the demo's connection or store ended too early")
}

fn text(block: &[u8]) -> String {
    String::from_utf8_lossy(block).into_owned()
}

/// Far more than the demo takes.
const PATIENCE: Duration = Duration::from_secs(60);
