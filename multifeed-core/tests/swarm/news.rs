//! What the nodes ask for and tell, and what their applications do then.

use std::hash::Hash;

use multifeed_core::storage::Op;
use multifeed_core::{CommandId, Event, NodeError, Outcome, Output};
use multifeed_proto::RootKey;

use super::blocks::Blocks;
use super::host::Asked;
use super::world::{Check, Due, MILLI, MULTIFEED, ROOT, SECOND, World};

impl World {
    pub fn output(&mut self, host: usize, output: Output) -> Check {
        match output {
            Output::Storage(batch) => {
                (host, batch.id, batch.after).hash(&mut self.trace);
                for op in &batch.ops {
                    (op.doing(), op.path().as_str()).hash(&mut self.trace);
                    if let Op::Write { offset, data, .. } = op {
                        (offset, &data[..]).hash(&mut self.trace);
                    }
                }
                let running = self.running(host)?;
                running.disk.submit(batch);
                self.check_unwritten(host)
            }
            Output::Completed { command, result } => {
                let asked = self.running(host)?.asked.remove(&command);
                let Some(asked) = asked else {
                    return Err(format!("host {host}: {command:?} was answered twice"));
                };
                self.completed(host, command, asked, result)
            }
            Output::Event(event) => self.event(host, event),
            _ => Ok(()),
        }
    }

    fn completed(
        &mut self,
        host: usize,
        command: CommandId,
        asked: Asked,
        result: Result<Outcome, NodeError>,
    ) -> Check {
        match (asked, result) {
            (Asked::Open, Ok(Outcome::Opened)) => {
                self.ask(host, Asked::Join, |node, now| node.join(now, RootKey::new(ROOT)))?;
            }
            (Asked::Join, Ok(Outcome::Joined(MULTIFEED))) => {
                let running = self.running(host)?;
                running.ready = true;
                let feeds: Vec<_> = running.node.feeds(MULTIFEED).collect();
                self.joined(host, &feeds)?;
            }
            (Asked::Load(feed), Ok(_)) => self.loaded(host, feed)?,
            (Asked::Writer(writer), Ok(Outcome::Feed(feed))) => {
                self.writer_open(host, writer, feed)?
            }
            (Asked::Tail(writer, feed), Ok(Outcome::Blocks(tail))) => {
                let length = self.writers[writer].blocks.len() as u64 + tail.len() as u64;
                self.writers[writer].found(length, tail)?;
                self.writers[writer].feed = Some(feed);
            }
            (Asked::Append(writer), Ok(Outcome::Appended { start, length })) => {
                self.writers[writer].appended(command, start, length)?;
            }
            (Asked::Append(writer), Err(error)) => {
                self.note(format!("host {host}: append of writer {writer} failed: {error}"));
                self.counts.refused += 1;
                self.writers[writer].refused(command);
                // What became of it is known when the feed is open again.
                self.writers[writer].feed = None;
                self.plan(self.now + SECOND, Due::Writer { writer });
            }
            (Asked::Wish(writer, start, _), Ok(Outcome::Block(block))) => {
                let right = self.writers[writer].blocks.get(start as usize);
                if right.is_some_and(|right| *right != block) {
                    return Err(format!(
                        "host {host} was given another block {start} of writer {writer}"
                    ));
                }
                self.counts.granted += 1;
            }
            (Asked::Wish(writer, start, end), Ok(Outcome::Downloaded)) => {
                let asked = Blocks::of(start..end).without(&self.hosts[host].cleared[writer]);
                if self.lacks(host, writer, &asked) > 0 {
                    return Err(format!(
                        "host {host} is told that it has the blocks {start} to {end} of writer {writer}"
                    ));
                }
                self.counts.granted += 1;
            }
            (Asked::Clear(writer, start, end), Ok(Outcome::Cleared)) => {
                self.hosts[host].clears.retain(|clear| *clear != (writer, start..end));
            }
            (Asked::Wish(..) | Asked::Clear(..), Err(_)) if self.running(host)?.closing => {}
            (Asked::Wish(writer, start, end), Err(error)) => {
                self.note(format!("host {host}: {asked:?}: {error}"));
                // Until it is asked again, the node wants none of them for that.
                self.running(host)?.issued[writer].remove(start..end);
                let life = self.hosts[host].life;
                self.plan(self.now + SECOND, Due::Wish { host, life, writer, start, end });
            }
            (Asked::Clear(writer, start, end), Err(error)) => {
                self.note(format!("host {host}: {asked:?}: {error}"));
                let life = self.hosts[host].life;
                self.plan(self.now + SECOND, Due::Clear { host, life, writer, start, end });
            }
            (Asked::Close, Ok(Outcome::Closed)) => self.running(host)?.closed = true,
            // The disk is full: the host gives up and tries again later.
            (Asked::Open | Asked::Join, Err(error)) => {
                if self.calm {
                    return Err(format!("host {host}: {asked:?}: {error}"));
                }
                self.note(format!("host {host} does not open: {error}"));
                self.running(host)?.closed = true;
                let at = self.now + SECOND;
                self.plan(at, Due::Start { host });
            }
            (Asked::Writer(writer) | Asked::Tail(writer, _), Err(error)) => {
                self.note(format!("host {host}: {asked:?}: {error}"));
                self.plan(self.now + SECOND, Due::Writer { writer });
            }
            (Asked::Look(writer, feed, from), Ok(Outcome::Blocks(blocks))) => {
                self.looked(host, writer, feed, from, blocks.len() as u64)?;
            }
            (Asked::Load(feed) | Asked::Look(_, feed, _), Err(error)) => {
                self.note(format!("host {host}: {asked:?}: {error}"));
                let life = self.hosts[host].life;
                self.plan(self.now + SECOND, Due::Load { host, life, feed });
            }
            (_, result) => return Err(format!("host {host}: {asked:?} gave {result:?}")),
        }
        Ok(())
    }

    fn event(&mut self, host: usize, event: Event) -> Check {
        if self.setup.verbose || !matches!(event, Event::Downloaded { .. } | Event::Appended { .. })
        {
            let text = format!("{event:?}");
            let end = text.char_indices().nth(160).map_or(text.len(), |(at, _)| at);
            self.note(format!("host {host}: {}", &text[..end]));
        }
        match event {
            Event::FeedAdded { feed, .. } => {
                let info = self.running(host)?.node.feed(feed);
                let Some(info) = info else { return Err(format!("host {host}: no {feed:?}")) };
                self.hosts[host].keys.insert(feed, info.key);
                self.knows(host, &info.key)?;
            }
            Event::Ready { connection, .. } => self.ready(host, connection)?,
            Event::Question(question) => self.question(host, question)?,
            Event::Appended { feed, start, length } | Event::Downloaded { feed, start, length } => {
                (host, feed, start, length).hash(&mut self.trace);
                let key = self.hosts[host].keys.get(&feed).copied();
                let writer = key.and_then(|key| self.by_key.get(&key)).copied();
                let Some(writer) = writer else {
                    return Err(format!("host {host} has blocks of a feed that nobody writes"));
                };
                let this = &mut self.hosts[host];
                this.hold(writer, start..start + length);
                if matches!(event, Event::Downloaded { .. }) {
                    let known = this.lengths[writer];
                    let mut blocks = start..start + length;
                    if let Some(block) = blocks.find(|at| !this.may_have(writer, *at, known)) {
                        return Err(format!(
                            "host {host} got block {block} of writer {writer}, which it does not take"
                        ));
                    }
                    self.writers[writer].got_out(start + length)?;
                }
                self.counts.blocks += length;
            }
            Event::Cleared { feed, start, length } => {
                (host, feed, start, length, "cleared").hash(&mut self.trace);
                let key = self.hosts[host].keys.get(&feed);
                if let Some(&writer) = key.and_then(|key| self.by_key.get(key)) {
                    let blocks = start..start + length;
                    if !self.hosts[host].is_clearing(writer, &blocks) {
                        return Err(format!("host {host} gives up {blocks:?} of writer {writer}"));
                    }
                    self.hosts[host].change(writer, |held| held.remove(blocks));
                }
            }
            Event::InSync { connection } => self.in_sync(host, connection)?,
            Event::Closed { connection, error, unsent, .. } => {
                self.ended(host, connection, error, &unsent)?;
            }
            Event::StorageFailed { error: ref failed, .. }
            | Event::FeedFailed { error: ref failed, .. }
                if matches!(failed, NodeError::Damaged { .. } | NodeError::Store { .. }) =>
            {
                return Err(format!("host {host}: {event:?}"));
            }
            // What its storage said to have failed may be in the feed when it is open again.
            Event::FeedFailed { feed, .. } => {
                let life = self.hosts[host].life;
                self.plan(self.now + SECOND, Due::Load { host, life, feed });
            }
            _ => {}
        }
        Ok(())
    }

    pub fn append(&mut self, writer: usize) -> Check {
        let host = self.writers[writer].host;
        let (feed, busy) = (self.writers[writer].feed, self.writers[writer].pending.len() > 4);
        if let (Some(feed), true, false) = (feed, self.hosts[host].is_ready(), busy) {
            let blocks = self.writers[writer].draw(&mut self.rng);
            let given = blocks.clone();
            let command =
                self.ask(host, Asked::Append(writer), |node, now| node.append(now, feed, given))?;
            self.writers[writer].pending.push_back((command, blocks));
            self.drain(host)?;
        }
        if !self.calm {
            let at = self.now + self.setup.pace * self.rng.within(100 * MILLI..4 * SECOND);
            self.plan(at, Due::Append { writer });
        }
        Ok(())
    }
}
