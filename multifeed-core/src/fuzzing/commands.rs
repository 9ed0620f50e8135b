//! What the applications of the two hosts want.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use multifeed_proto::fuzzing::script::finished;
use multifeed_proto::fuzzing::{Input, Reached};
use multifeed_proto::{FeedKey, RootKey};

use super::host::{Asked, Host};
use super::node::World;
use super::prepared::{OTHER_ROOT, ROOT};
use super::reached::node_error;
use crate::{
    CommandId, ConnectOptions, ConnectionId, Decision, FeedId, Fetch, MultifeedId, NodeError,
    Peers, Policy, QuestionId, ReplicationOptions,
};

impl World {
    pub(super) fn command(&mut self, input: &mut Input<'_>, reached: &mut Reached) {
        let (mode, which) = (input.byte(), input.byte());
        let at = usize::from(mode & 1);
        let now = self.now;
        let host = &mut self.hosts[at];
        let feeds = host.feeds();
        let feed =
            feeds.get(usize::from(which & 15)).copied().unwrap_or(FeedId(u32::from(which & 15)));
        let key = host.node.feed(feed).map_or(FeedKey([which; 32]), |info| info.key);
        let multifeed = MultifeedId(u32::from(which >> 4 & 1));
        match mode >> 1 {
            0..=19 => {
                let blocks = self.blocks(input);
                let host = &mut self.hosts[at];
                let command = host.node.append(now, feed, blocks.clone());
                host.asked.insert(command, Asked::Append(key, blocks));
            }
            20..=34 => {
                let (index, count, bytes) = (input.number(), input.number(), input.short());
                let command = host.node.read(now, feed, index, count, bytes.into());
                host.asked.insert(command, Asked::Read(key, index));
            }
            35..=44 => {
                let index = input.number();
                let command = if input.flag() {
                    host.node.wait(now, feed, index)
                } else {
                    host.node.wait_if_available(now, feed, index)
                };
                host.asked.insert(command, Asked::Wait(key, index));
            }
            45..=52 => {
                let blocks = input.number()..input.number();
                endless(host, |host| host.node.download(now, feed, blocks));
            }
            53..=59 => {
                let length = input.flag().then(|| input.number());
                endless(host, |host| match input.flag() {
                    true => host.node.update(now, feed, length),
                    false => host.node.update_if_available(now, feed, length),
                });
            }
            60..=66 => {
                let offset = input.number();
                endless(host, |host| host.node.seek(now, feed, offset));
            }
            67..=74 => {
                let blocks = input.number()..input.number();
                self.gone.insert(key);
                other(host, |host| host.node.clear(now, feed, blocks));
            }
            75..=79 => {
                let name = ["w", "v", "n", "", "x"][input.below(5)];
                let long = "x".repeat(2000);
                let name = if which == 255 { &long } else { name };
                let named = which != 254;
                other(host, |host| host.node.writer(now, multifeed, named.then_some(name), None));
            }
            80..=82 => {
                other(host, |host| host.node.named(now, ["app", "data", ""][input.below(3)]))
            }
            83..=86 => {
                self.gone.insert(key);
                other(host, |host| host.node.block(now, key));
            }
            87..=89 => other(host, |host| host.node.unblock(now, key)),
            90..=92 => {
                let root = [ROOT, OTHER_ROOT, key.0, [9; 32]][input.below(4)];
                if root == key.0 {
                    // The feed cannot be open beside it.
                    self.gone.insert(key);
                }
                let host = &mut self.hosts[at];
                let command = host.node.join(now, RootKey::new(root));
                host.asked.insert(command, Asked::Join);
            }
            93..=95 => other(host, |host| host.node.load(now, feed)),
            96..=98 => {
                let blocks = input.number()..input.number();
                other(host, |host| host.node.has(now, feed, blocks));
            }
            99..=101 => {
                let waits: Vec<CommandId> = host.asked.keys().copied().collect();
                if let Some(command) = waits.get(input.below(waits.len().max(1))) {
                    host.node.cancel(now, *command);
                }
            }
            102 => host.node.set_sparse(now, feed, input.flag()),
            103 => host.node.set_transfer(now, feed, input.flag(), input.flag()),
            _ => self.verb(mode, feed, key, multifeed, input, reached, now),
        }
    }

    /// What is not answered later.
    #[allow(clippy::too_many_arguments, reason = "what was chosen so far")]
    fn verb(
        &mut self,
        mode: u8,
        feed: FeedId,
        key: FeedKey,
        multifeed: MultifeedId,
        input: &mut Input<'_>,
        reached: &mut Reached,
        now: multifeed_proto::Now,
    ) {
        let at = usize::from(mode & 1);
        let connection = self.connection(at, input);
        let host = &mut self.hosts[at];
        let payload = Bytes::from_static(b"hello");
        let result: Result<(), NodeError> = match mode >> 1 {
            104 => host.node.register_extension(now, feed, ["a", "b", ""][input.below(3)]),
            105 => host
                .node
                .send_extension(now, feed, None, ["a", "c"][input.below(2)], &payload)
                .map(|_| ()),
            106 => host.node.register_stream_extension(now, ["b", "c"][input.below(2)]),
            107 => host.node.send_stream_extension(now, None, "b", &payload).map(|_| ()),
            108..=111 => {
                let question = host.questions.pop();
                let allowed: Vec<(FeedKey, Fetch)> = question
                    .iter()
                    .flat_map(|question| &question.keys)
                    .map(|key| (*key, fetch(input)))
                    .collect();
                if question.as_ref().is_some_and(|question| question.decision == Decision::Accept) {
                    reached.note("accept");
                }
                let id = question.map_or(QuestionId(99), |question| question.id);
                host.node.answer(now, id, &allowed)
            }
            112 | 113 => host.node.admit(now, connection),
            114 | 115 => host.node.allow(now, connection, multifeed, &[(key, fetch(input))]),
            116 | 117 => host.node.attach(now, connection, multifeed),
            118 | 119 => {
                host.node.disconnect(now, connection);
                Ok(())
            }
            120 => {
                host.node.abort(now, connection);
                Ok(())
            }
            121 => {
                other(host, |host| host.node.close(now));
                Ok(())
            }
            _ => {
                let _ = (host.node.sync_state(connection), host.node.counters(connection));
                let _ = host.node.multifeed_sync_state(connection, multifeed);
                let _ = host.node.peers(feed).count();
                Ok(())
            }
        };
        if let Err(error) = result {
            reached.note(node_error(&error));
        }
    }

    /// A connection of a host, or one that there never was.
    fn connection(&self, at: usize, input: &mut Input<'_>) -> ConnectionId {
        let ends = self.wires.iter().flat_map(|wire| wire.ends);
        let liars = self.liars.iter().map(|liar| (liar.host, liar.id));
        let all: Vec<_> =
            ends.chain(liars).filter(|(host, _)| *host == at).map(|(_, id)| id).collect();
        all.get(input.below(all.len() + 1)).copied().unwrap_or(ConnectionId(1000))
    }

    fn blocks(&mut self, input: &mut Input<'_>) -> Vec<Bytes> {
        let count = [1, 1, 1, 2, 3, 0, 17, 1][input.below(8)];
        let len = [0, 1, 30, 200, 699, 701][input.below(6)];
        let block = |serial: &mut u32| {
            *serial += 1;
            Bytes::from(format!("{serial} {}", "-".repeat(len)))
        };
        (0..count).map(|_| block(&mut self.serial)).collect()
    }
}

fn other(host: &mut Host, ask: impl FnOnce(&mut Host) -> CommandId) {
    let command = ask(host);
    host.asked.insert(command, Asked::Other);
}

fn endless(host: &mut Host, ask: impl FnOnce(&mut Host) -> CommandId) {
    let command = ask(host);
    host.asked.insert(command, Asked::Endless);
}

fn fetch(input: &mut Input<'_>) -> Fetch {
    match input.byte() % 6 {
        0 => Fetch::Newest(input.number()),
        1 => Fetch::Ranges(vec![input.number()..input.number(), 2..4]),
        2 => Fetch::OnlyAsked,
        _ => Fetch::All,
    }
}

/// What a connection is for, of all kinds that there are.
pub(super) fn connect_options(input: &mut Input<'_>, feeds: &[FeedKey]) -> ConnectOptions {
    let (mode, more) = (input.byte(), input.byte());
    let replication = ReplicationOptions {
        live: mode & 1 == 0,
        upload: mode & 6 != 6,
        download: mode & 24 != 24,
    };
    let policy = match more % 8 {
        0 => Policy::Ask,
        1 => {
            let some = feeds.iter().filter(|_| input.flag());
            Policy::AllowList(some.map(|key| (*key, Fetch::All)).collect::<BTreeMap<_, _>>())
        }
        2 => {
            let some: Vec<_> = feeds.iter().take(2).map(|key| (*key, fetch(input))).collect();
            Policy::AllowList(some.into_iter().collect())
        }
        _ => Policy::AcceptAll,
    };
    let peers = match more >> 3 & 7 {
        0 => Peers::Ask,
        1 => Peers::Listed(BTreeSet::from([finished().remote_public_key])),
        2 => Peers::Listed(BTreeSet::from([[1; 32]])),
        _ => Peers::Any,
    };
    let multifeeds = match mode >> 5 {
        0 => Some(vec![MultifeedId(0)]),
        1 => Some(vec![MultifeedId(1), MultifeedId(0)]),
        2 => Some(Vec::new()),
        _ => None,
    };
    ConnectOptions { replication, policy, peers, multifeeds, ..ConnectOptions::default() }
}
