//! Peers that say nothing wait at the door, and give way.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use multifeed_driver::{Door, Listen, LobbyLimits, Now, Origin, Sleep, Timer};

const LIMITS: LobbyLimits =
    LobbyLimits { places: 8, per_origin: 4, patience: Duration::from_secs(3) };

/// A peer: its number, and the last part of its address.
type Peer = (u32, u8);

/// A listener that a test plays.
#[derive(Default)]
struct Played {
    coming: RefCell<VecDeque<io::Result<Peer>>>,
    accepting: RefCell<Option<Waker>>,
    /// What each peer did: `true` it spoke, `false` it left.
    did: RefCell<BTreeMap<u32, bool>>,
    wakers: RefCell<BTreeMap<u32, Waker>>,
    looks: RefCell<usize>,
    /// Connections that the system still has room for.
    files: RefCell<Option<usize>>,
}

impl Played {
    fn comes(&self, peer: Peer) {
        self.coming.borrow_mut().push_back(Ok(peer));
        if let Some(waker) = self.accepting.take() {
            waker.wake();
        }
    }

    fn does(&self, peer: u32, spoken: bool) {
        self.did.borrow_mut().insert(peer, spoken);
        if let Some(waker) = self.wakers.borrow_mut().remove(&peer) {
            waker.wake();
        }
    }
}

impl Listen for Played {
    type Peer = Peer;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Peer>> {
        if *self.files.borrow() == Some(0) {
            // EMFILE
            return Poll::Ready(Err(io::Error::from_raw_os_error(24)));
        }
        match self.coming.borrow_mut().pop_front() {
            Some(peer) => Poll::Ready(peer),
            None => {
                self.accepting.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    fn poll_spoken(&self, (peer, _): &Peer, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        *self.looks.borrow_mut() += 1;
        match self.did.borrow().get(peer) {
            Some(did) => Poll::Ready(Ok(*did)),
            None => {
                self.wakers.borrow_mut().insert(*peer, cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn origin(&self, (_, place): &Peer) -> Option<Origin> {
        Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, *place)).into())
    }
}

/// A clock that a test turns.
#[derive(Default)]
struct Clock(Arc<Mutex<Duration>>);

impl Timer for Clock {
    fn now(&self) -> Now {
        Now(*self.0.lock().unwrap())
    }

    fn sleep_until(&self, at: Now) -> Sleep {
        let clock = Arc::clone(&self.0);
        Box::pin(std::future::poll_fn(move |_| {
            if *clock.lock().unwrap() >= at.0 { Poll::Ready(()) } else { Poll::Pending }
        }))
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Stage {
    door: Door<Peer>,
    listener: Played,
    clock: Clock,
    woken: Arc<Woken>,
}

impl Stage {
    fn new() -> Self {
        Self {
            door: Door::new(LIMITS),
            listener: Played::default(),
            clock: Clock::default(),
            woken: Arc::default(),
        }
    }

    /// Polls until nothing is left to do; gives the peers that came out.
    fn peers(&mut self) -> Vec<u32> {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        let mut peers = Vec::new();
        loop {
            let before = self.woken.0.load(Ordering::SeqCst);
            match self.door.poll_peer(&mut cx, &self.listener, &self.clock) {
                Poll::Ready(peer) => peers.push(peer.unwrap().0),
                Poll::Pending if self.woken.0.load(Ordering::SeqCst) == before => return peers,
                Poll::Pending => {}
            }
        }
    }

    fn pass(&self, span: Duration) {
        *self.clock.0.lock().unwrap() += span;
    }
}

#[test]
fn only_peers_that_have_said_something_come_out() {
    let mut stage = Stage::new();
    for peer in 0..4 {
        stage.listener.comes((peer, 1));
    }
    stage.listener.does(2, true);
    assert_eq!(stage.peers(), [2], "one that has spoken already needs no wait");
    stage.listener.does(1, true);
    stage.listener.does(0, false);
    assert_eq!(stage.peers(), [1], "and one that left says nothing any more");
    assert_eq!(stage.door.turned_away(), 0);
}

#[test]
fn the_oldest_silent_peer_gives_way_and_one_that_has_just_spoken_does_not() {
    let mut stage = Stage::new();
    for peer in 0..4 {
        stage.listener.comes((peer, 1));
    }
    assert_eq!(stage.peers(), [0_u32; 0]);
    // Its bytes are there; nobody has told yet.
    stage.listener.did.borrow_mut().insert(0, true);
    for peer in 4..7 {
        stage.listener.comes((peer, 1));
    }
    assert_eq!(stage.peers(), [0]);
    assert_eq!(stage.door.turned_away(), 2, "1 and 2 went");
    stage.listener.does(1, true);
    stage.listener.does(3, true);
    assert_eq!(stage.peers(), [3]);
}

#[test]
fn a_flood_of_silent_peers_costs_a_look_or_two_each_and_keeps_nobody_out() {
    let mut stage = Stage::new();
    stage.listener.comes((0, 200));
    for peer in 1..10_000 {
        stage.listener.comes((peer, (peer % 4) as u8));
    }
    assert_eq!(stage.peers(), [0_u32; 0]);
    stage.listener.does(0, true);
    assert_eq!(stage.peers(), [0], "alone where it comes from");
    assert_eq!(stage.door.turned_away(), 9_992);
    assert!(*stage.listener.looks.borrow() <= 20_001);
}

#[test]
fn a_peer_has_its_time_and_is_looked_at_a_last_time() {
    let mut stage = Stage::new();
    for peer in 0..2 {
        stage.listener.comes((peer, 1));
    }
    assert_eq!(stage.peers(), [0_u32; 0]);
    stage.pass(Duration::from_millis(2_999));
    assert_eq!(stage.peers(), [0_u32; 0]);
    assert_eq!(stage.door.turned_away(), 0);
    stage.listener.did.borrow_mut().insert(1, true);
    stage.pass(Duration::from_millis(2));
    assert_eq!(stage.peers(), [1]);
    assert_eq!(stage.door.turned_away(), 1);
}

#[test]
fn where_too_many_files_are_open_silent_peers_leave_first() {
    let mut stage = Stage::new();
    for peer in 0..3 {
        stage.listener.comes((peer, 1));
    }
    assert_eq!(stage.peers(), [0_u32; 0]);
    stage.listener.files.replace(Some(0));
    if let Some(waker) = stage.listener.accepting.take() {
        waker.wake();
    }
    assert_eq!(stage.peers(), [0_u32; 0]);
    assert_eq!(stage.door.turned_away(), 3);
    // Nobody is left to go: it waits, and goes on.
    stage.listener.files.replace(None);
    stage.listener.comes((7, 1));
    stage.listener.does(7, true);
    stage.pass(Duration::from_millis(101));
    assert_eq!(stage.peers(), [7]);
}

#[test]
fn an_error_of_one_connection_is_passed_over_and_one_of_the_listener_is_told() {
    let mut stage = Stage::new();
    let aborted = io::Error::from(io::ErrorKind::ConnectionAborted);
    stage.listener.coming.borrow_mut().push_back(Err(aborted));
    stage.listener.comes((1, 1));
    stage.listener.does(1, true);
    assert_eq!(stage.peers(), [1]);
    let broken = io::Error::from(io::ErrorKind::InvalidInput);
    stage.listener.coming.borrow_mut().push_back(Err(broken));
    let mut cx = Context::from_waker(Waker::noop());
    let polled = loop {
        match stage.door.poll_peer(&mut cx, &stage.listener, &stage.clock) {
            Poll::Ready(result) => break result,
            Poll::Pending => {}
        }
    };
    assert_eq!(polled.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
