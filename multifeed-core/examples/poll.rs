//! Many connections in one thread, by `mio`: what a program with an event loop of its own does.
//!
//! One server and thirty clients, all in this loop, each with a block of its own; it ends when all
//! have all blocks. `cargo run -p multifeed-core --example poll`
#![allow(clippy::disallowed_methods)] // a host is where the clock is read

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use multifeed_core::storage::Memory;
use multifeed_core::{
    ConnectionId, Event, Node, NodeConfig, NodeError, Outcome, Output, StoreOptions,
};
use multifeed_proto::{Entropy, Now, Role, RootKey};

/// A node, its storage, and its connections.
struct Host {
    node: Node,
    memory: Memory,
    sockets: BTreeMap<ConnectionId, TcpStream>,
    /// Connections whose socket may hold more to read.
    readable: VecDeque<ConnectionId>,
    /// The answer to the last command.
    outcome: Option<Result<Outcome, NodeError>>,
    downloaded: u64,
}

impl Host {
    /// A node with a store that holds one block.
    fn new(number: u8, now: Now) -> Result<Self, Box<dyn Error>> {
        // Where it matters, the seed is 32 bytes drawn by the operating system for this node.
        let node = Node::new(NodeConfig::default(), Entropy::from_seed([number; 32]), now);
        let mut host = Self {
            node,
            memory: Memory::new(),
            sockets: BTreeMap::new(),
            readable: VecDeque::new(),
            outcome: None,
            downloaded: 0,
        };
        host.node.open(now, StoreOptions::default());
        host.drain(now);
        host.node.join(now, RootKey::new([7; 32]));
        host.drain(now);
        let Some(Ok(Outcome::Joined(multifeed))) = host.outcome.take() else {
            return Err("no multifeed".into());
        };
        host.node.writer(now, multifeed, Some("local"), None);
        host.drain(now);
        let Some(Ok(Outcome::Feed(feed))) = host.outcome.take() else {
            return Err("no writer".into());
        };
        host.node.append(now, feed, vec![format!("block of {number}").into()]);
        host.drain(now);
        Ok(host)
    }

    /// Takes a connection, to be told of what it can do as `Token(host, connection)`.
    fn connect(
        &mut self,
        now: Now,
        poll: &Poll,
        at: usize,
        mut socket: TcpStream,
        role: Role,
    ) -> Result<(), Box<dyn Error>> {
        socket.set_nodelay(true)?;
        let id = self.node.connect(now, role).ok_or("the store is closed")?;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, token(at, id), both)?;
        self.sockets.insert(id, socket);
        self.drain(now);
        Ok(())
    }

    /// The drain rule, to be followed after everything that is done to the node; and what may be read
    /// is read, one piece from each socket in turn.
    fn drain(&mut self, now: Now) {
        loop {
            while let Some(output) = self.node.poll_output() {
                match output {
                    Output::Storage(batch) => {
                        let result = self.memory.execute(&batch);
                        self.node.handle_storage(now, result);
                    }
                    Output::Completed { result, .. } => self.outcome = Some(result),
                    Output::Event(Event::Downloaded { length, .. }) => self.downloaded += length,
                    Output::Event(_) => {}
                    _ => {}
                }
            }
            if let Some(id) = self.node.poll_transmit() {
                self.write(now, id);
            } else if let Some(id) = self.next_to_read() {
                self.read(now, id);
            } else {
                return;
            }
        }
    }

    /// Writes until the socket is full or all is written.
    fn write(&mut self, now: Now, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        while !self.node.transmit(id).is_empty() {
            match socket.write(self.node.transmit(id)) {
                Ok(count) => self.node.transmitted(now, id, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.node.handle_cut(now, id),
            }
        }
        if self.node.is_closed(id) {
            self.sockets.remove(&id);
        } else if self.node.is_shut_down(id) {
            // That the peer is gone shows when reading.
            let _gone = socket.shutdown(Shutdown::Write);
        }
    }

    /// A socket that has something, of a connection that wants it.
    fn next_to_read(&mut self) -> Option<ConnectionId> {
        let place = self.readable.iter().position(|id| self.node.wants_read(*id))?;
        self.readable.remove(place)
    }

    /// Reads once; the poll does not tell again what is left after that, so it is noted.
    fn read(&mut self, now: Now, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let mut buffer = [0; 16_384];
        match socket.read(&mut buffer) {
            Ok(0) => return self.node.handle_eof(now, id),
            Ok(count) => self.node.handle_bytes(now, id, &buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return self.node.handle_cut(now, id),
        }
        self.readable.push_back(id);
    }
}

/// What the poll calls a connection of a host.
const fn token(host: usize, id: ConnectionId) -> Token {
    Token(host << 32 | id.0 as usize)
}

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let clock = || Now(start.elapsed());
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;

    // The first is the server.
    let hosts = (0..=CLIENTS).map(|number| Host::new(number, clock()));
    let mut hosts: Vec<Host> = hosts.collect::<Result<_, _>>()?;
    for (at, client) in hosts.iter_mut().enumerate().skip(1) {
        let socket = TcpStream::connect(listener.local_addr()?)?;
        client.connect(clock(), &poll, at, socket, Role::Initiator)?;
    }

    let mut events = Events::with_capacity(256);
    while hosts.iter().any(|host| host.downloaded < u64::from(CLIENTS)) {
        let due = hosts.iter().filter_map(|host| host.node.poll_timeout()).min();
        poll.poll(&mut events, due.map(|due| due.since(clock())))?;
        let now = clock();
        for event in &events {
            if event.token() == LISTENER {
                loop {
                    match listener.accept() {
                        Ok((socket, _)) => {
                            hosts[0].connect(now, &poll, 0, socket, Role::Responder)?;
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                }
                continue;
            }
            let Token(token) = event.token();
            let (host, id) = (&mut hosts[token >> 32], ConnectionId(token as u32));
            if event.is_readable() && !host.readable.contains(&id) {
                host.readable.push_back(id);
            }
            if event.is_writable() {
                host.write(now, id);
            }
            host.drain(now);
        }
        for host in &mut hosts {
            if host.node.poll_timeout().is_some_and(|due| due <= now) {
                host.node.handle_timeout(now);
                host.drain(now);
            }
        }
    }
    println!("{} stores hold all {} blocks, in {:?}", hosts.len(), hosts.len(), start.elapsed());
    Ok(())
}

const CLIENTS: u8 = 30;

const LISTENER: Token = Token(usize::MAX);
