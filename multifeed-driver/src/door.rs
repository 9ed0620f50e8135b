//! Where peers wait that connected and have said nothing: sockets, and nothing else is spent on them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use multifeed_core::disk::is_too_many_files;
use multifeed_core::{Lobby, LobbyLimits, Origin};

use crate::accept::{RETRY, is_about_one_peer};
use crate::traits::{Sleep, Timer};

/// A listener, as an adapter brings it.
pub trait Listen {
    /// A connection that was accepted.
    type Peer;

    /// The next connection.
    ///
    /// # Errors
    ///
    /// As the operating system's `accept`.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Peer>>;

    /// Whether bytes of the peer are there to be read, and stay there; `false`: it closed its side.
    ///
    /// # Errors
    ///
    /// If the connection failed.
    fn poll_spoken(&self, peer: &Self::Peer, cx: &mut Context<'_>) -> Poll<io::Result<bool>>;

    /// Where the peer connects from.
    fn origin(&self, peer: &Self::Peer) -> Option<Origin>;
}

/// The peers of a listener that have said nothing yet.
///
/// Anybody can connect and say nothing, in any number. Such peers have [places](Lobby) of their own here, and
/// cost a socket each; only those that have said something are handed on, to the node that decides what it was
/// worth. Before one gives way, or its time is over, it is looked at a last time.
#[derive(Debug)]
pub struct Door<P> {
    lobby: Lobby<u64>,
    guests: BTreeMap<u64, Guest<P>>,
    bells: Arc<Bells>,
    spoken: VecDeque<P>,
    alarm: Option<(multifeed_proto::Now, Alarm)>,
    /// The end of a pause after too many files were open.
    pause: Option<Alarm>,
    next: u64,
    turned_away: u64,
    /// Others are to have their turn first.
    rests: bool,
}

#[derive(Debug)]
struct Guest<P> {
    peer: P,
    waker: Waker,
}

struct Alarm(Sleep);

/// Who has to be looked at, and who is to be told of that.
#[derive(Debug, Default)]
struct Bells {
    rung: Mutex<Vec<u64>>,
    owner: Mutex<Option<Waker>>,
}

#[derive(Debug)]
struct Bell {
    guest: u64,
    bells: Arc<Bells>,
}

impl<P> Door<P> {
    /// A door with so many places.
    #[must_use]
    pub fn new(limits: LobbyLimits) -> Self {
        Self {
            lobby: Lobby::new(limits),
            guests: BTreeMap::new(),
            bells: Arc::default(),
            spoken: VecDeque::new(),
            alarm: None,
            pause: None,
            next: 0,
            turned_away: 0,
            rests: false,
        }
    }

    /// Peers that had to leave without having said anything, so far.
    #[must_use]
    pub const fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// The next peer that has said something.
    ///
    /// Goes on after errors of a single connection; where too many files are open, the peer that has waited
    /// longest leaves, or time passes.
    ///
    /// # Errors
    ///
    /// If the listener itself is broken.
    pub fn poll_peer<L: Listen<Peer = P>>(
        &mut self,
        cx: &mut Context<'_>,
        listener: &L,
        timer: &impl Timer,
    ) -> Poll<io::Result<P>> {
        // A listener that always has somebody would let no other task run.
        if mem::take(&mut self.rests) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        *unpoisoned(&self.bells.owner) = Some(cx.waker().clone());
        let rung = mem::take(&mut *unpoisoned(&self.bells.rung));
        for guest in rung {
            self.look(guest, listener);
        }
        for _ in 0..ROUND {
            if let Some(peer) = self.spoken.pop_front() {
                self.rests = true;
                return Poll::Ready(Ok(peer));
            }
            if self.is_paused(cx) {
                return self.wait(cx, listener, timer);
            }
            match listener.poll_accept(cx) {
                Poll::Pending => return self.wait(cx, listener, timer),
                Poll::Ready(Ok(peer)) => self.enter(peer, listener, timer),
                Poll::Ready(Err(error)) if is_about_one_peer(&error) => {}
                Poll::Ready(Err(error)) if is_too_many_files(&error) => {
                    match self.lobby.turn_out() {
                        Some(guest) => self.turn_away(guest, listener),
                        None => {
                            self.pause = Some(Alarm(timer.sleep_until(timer.now().after(RETRY))))
                        }
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_paused(&mut self, cx: &mut Context<'_>) -> bool {
        let paused =
            self.pause.as_mut().is_some_and(|pause| pause.0.as_mut().poll(cx).is_pending());
        if !paused {
            self.pause = None;
        }
        paused
    }

    /// A peer connected.
    fn enter<L: Listen<Peer = P>>(&mut self, peer: P, listener: &L, timer: &impl Timer) {
        let guest = self.next;
        self.next += 1;
        let waker = Waker::from(Arc::new(Bell { guest, bells: Arc::clone(&self.bells) }));
        match listener.poll_spoken(&peer, &mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(true)) => self.spoken.push_back(peer),
            Poll::Ready(Ok(false) | Err(_)) => {}
            Poll::Pending => {
                let origin = listener.origin(&peer);
                self.guests.insert(guest, Guest { peer, waker });
                if let Some(gone) = self.lobby.enter(timer.now(), guest, origin) {
                    self.turn_away(gone, listener);
                }
            }
        }
    }

    /// Looks whether a guest has said something; whether it is still there.
    fn look<L: Listen<Peer = P>>(&mut self, id: u64, listener: &L) -> bool {
        let Some(guest) = self.guests.get(&id) else { return false };
        let spoken = listener.poll_spoken(&guest.peer, &mut Context::from_waker(&guest.waker));
        let Poll::Ready(spoken) = spoken else { return true };
        self.lobby.leave(id);
        let guest = self.guests.remove(&id);
        // One that closed its side before it said a word wants nothing.
        self.spoken
            .extend(guest.filter(|_| spoken.is_ok_and(|spoken| spoken)).map(|guest| guest.peer));
        false
    }

    /// A guest has no place any more.
    fn turn_away<L: Listen<Peer = P>>(&mut self, id: u64, listener: &L) {
        if self.look(id, listener) {
            self.guests.remove(&id);
            self.turned_away += 1;
        }
    }

    /// Nobody comes: turns those away whose time is over, and waits for the next of them.
    fn wait<L: Listen<Peer = P>>(
        &mut self,
        cx: &mut Context<'_>,
        listener: &L,
        timer: &impl Timer,
    ) -> Poll<io::Result<P>> {
        loop {
            while let Some(guest) = self.lobby.overdue(timer.now()) {
                self.turn_away(guest, listener);
            }
            if let Some(peer) = self.spoken.pop_front() {
                return Poll::Ready(Ok(peer));
            }
            let Some(due) = self.lobby.poll_timeout() else {
                self.alarm = None;
                return Poll::Pending;
            };
            let (at, mut alarm) = match self.alarm.take() {
                // To wake too early is cheaper than to set the timer each time.
                Some((at, alarm)) if at <= due => (at, alarm),
                Some(_) | None => (due, Alarm(timer.sleep_until(due.after(LATER)))),
            };
            if alarm.0.as_mut().poll(cx).is_pending() {
                self.alarm = Some((at, alarm));
                return Poll::Pending;
            }
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        unpoisoned(&self.bells.rung).push(self.guest);
        if let Some(owner) = unpoisoned(&self.bells.owner).take() {
            owner.wake();
        }
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarm(..)")
    }
}

/// What a lock guards here is whole at every moment.
fn unpoisoned<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections accepted before other tasks have their turn.
const ROUND: usize = 64;

/// Timers are somewhat early on some systems; those that are late do no harm here.
const LATER: Duration = Duration::from_millis(1);

/// The places of peers that have said nothing, unless told otherwise.
pub const SILENT: LobbyLimits =
    LobbyLimits { places: 512, per_origin: 256, patience: Duration::from_secs(3) };
