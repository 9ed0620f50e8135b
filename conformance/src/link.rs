//! A connection without a store.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use multifeed_proto::{Config, Connection, Entropy, Now, Output, Role, RootId, RootKey, UserData};

/// A connection and its socket: the whole of a blocking driver.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub connection: Connection,
    stream: TcpStream,
    start: Instant,
    root: RootId,
}

impl Link {
    /// Connects to a port of this machine.
    pub fn connect(port: u16, key: &str) -> Self {
        Self::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), Role::Initiator, key)
    }

    /// Speaks over a stream.
    pub fn new(stream: TcpStream, role: Role, key: &str) -> Self {
        Self::with(stream, role, key, None, Config::default())
    }

    /// The same with `userData`, JSON text, for the multifeed handshake, and other limits.
    pub fn with(
        stream: TcpStream,
        role: Role,
        key: &str,
        user_data: Option<&str>,
        config: Config,
    ) -> Self {
        stream.set_nodelay(true).unwrap();
        let seed = std::array::from_fn(|_| rand_byte());
        let mut connection =
            Connection::new(role, config, Entropy::from_seed(seed), Now::default());
        let root = connection
            .join(
                Now::default(),
                RootKey::from_hex(key).unwrap(),
                user_data.map(|text| UserData::from_json(text).unwrap()),
            )
            .unwrap();
        Self { connection, stream, start: clock(), root }
    }

    /// The time of the connection.
    pub fn now(&self) -> Now {
        Now(self.start.elapsed())
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "it looks for one output")]
    /// Runs the connection until the multifeed handshake is over; gives the root.
    pub fn until_ready(&mut self) -> RootId {
        let root = self.root;
        self.until("Ready", |output| match output {
            Output::Ready { root: ready, version, .. } => {
                assert_eq!((*ready, version.as_str()), (root, "4.0.0"));
                Some(root)
            }
            _ => None,
        })
    }

    /// The root that the connection joined.
    #[must_use]
    pub const fn root(&self) -> RootId {
        self.root
    }

    fn flush(&mut self) {
        while !self.connection.transmit().is_empty() {
            let written = self.stream.write(self.connection.transmit()).unwrap();
            let now = self.now();
            self.connection.transmitted(now, written);
        }
    }

    /// Runs the connection until an output is the one looked for; any other end is a failure.
    pub fn until<T>(&mut self, what: &str, find: impl Fn(&Output) -> Option<T>) -> T {
        let deadline = self.now().after(Duration::from_secs(30));
        let mut seen = Vec::new();
        let mut buffer = [0; 64 * 1024];
        loop {
            while let Some(output) = self.connection.poll_output() {
                if let Some(found) = find(&output) {
                    self.flush();
                    return found;
                }
                let closed = matches!(output, Output::Closed { .. });
                seen.push(output);
                assert!(!closed, "no {what}: {seen:?}");
            }
            self.flush();
            if self.connection.is_shut_down() {
                self.stream.shutdown(Shutdown::Write).unwrap();
            }
            let now = self.now();
            assert!(now < deadline, "no {what}: {seen:?}");
            let next = self.connection.poll_timeout().unwrap_or(deadline).min(deadline);
            let wait = next.0.saturating_sub(now.0).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(wait)).unwrap();
            match self.stream.read(&mut buffer) {
                Ok(0) => self.connection.handle_eof(now),
                Ok(read) => {
                    let now = self.now();
                    self.connection.handle_bytes(now, &buffer[..read]);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    let now = self.now();
                    self.connection.handle_timeout(now);
                }
                Err(error) => panic!("no {what}: {error}; {seen:?}"),
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a driver reads the clock")]
fn clock() -> Instant {
    Instant::now()
}

/// From the keys of the standard hasher, which are random.
fn rand_byte() -> u8 {
    let state = std::collections::hash_map::RandomState::new();
    std::hash::BuildHasher::hash_one(&state, 0).to_le_bytes()[0]
}
