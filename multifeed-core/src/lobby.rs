//! Who may wait for how long before it has proven anything: the places of strangers.
//!
//! Whoever can reach an address can connect to it, and until it has proven that it knows a root key it is a
//! stranger. Strangers have places of their own, so that they take none of those who belong here; when these
//! are taken, somebody gives way to the newest, so that strangers who stay cannot keep others out.

use alloc::collections::{BTreeMap, BTreeSet};
use core::cmp::Reverse;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use multifeed_proto::Now;

/// Where a connection comes from: an IPv4 address, or a network of IPv6 addresses, of which one site has a
/// whole /64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(IpAddr);

/// How many strangers may wait, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LobbyLimits {
    /// Strangers at once, at least 1.
    pub places: usize,
    /// Of these, strangers of one [`Origin`], at least 1. Those whose origin is not known are not counted.
    pub per_origin: usize,
    /// Time that each may wait; zero: as long as it has a place.
    pub patience: Duration,
}

/// The places of strangers: who is in, and who gives way.
///
/// A value without clock or sockets. `G` names a stranger, each once.
///
/// Where all places are taken, or all of one origin, the newest gets one all the same: the oldest of its origin
/// gives way, or else the oldest of the origin that has the most places. So one that is alone where it comes
/// from is the last to go, however many others come from elsewhere.
#[derive(Clone, Debug)]
pub struct Lobby<G> {
    limits: LobbyLimits,
    /// By number, in the order in which they came.
    guests: BTreeMap<u64, Guest<G>>,
    numbers: BTreeMap<G, u64>,
    origins: BTreeMap<Option<Origin>, BTreeSet<u64>>,
    /// The origins by places taken, of those with as many the one that has waited longest last.
    heaviest: BTreeSet<Weight>,
    next: u64,
}

type Weight = (usize, Reverse<u64>, Option<Origin>);

#[derive(Clone, Debug)]
struct Guest<G> {
    name: G,
    origin: Option<Origin>,
    since: Now,
}

impl<G: Copy + Ord> Lobby<G> {
    /// An empty lobby.
    #[must_use]
    pub const fn new(limits: LobbyLimits) -> Self {
        Self {
            limits,
            guests: BTreeMap::new(),
            numbers: BTreeMap::new(),
            origins: BTreeMap::new(),
            heaviest: BTreeSet::new(),
            next: 0,
        }
    }

    /// A stranger comes in; gives the one that has to leave for it, which has no place any more.
    pub fn enter(&mut self, now: Now, guest: G, origin: Option<Origin>) -> Option<G> {
        self.leave(guest);
        let ours = self.origins.get(&origin);
        let full =
            ours.filter(|ours| origin.is_some() && ours.len() >= self.limits.per_origin.max(1));
        let gone = match full {
            Some(ours) => ours.first().copied(),
            None if self.guests.len() >= self.limits.places.max(1) => {
                self.heaviest.last().map(|(_, Reverse(oldest), _)| *oldest)
            }
            None => None,
        };
        let gone = gone.and_then(|number| self.remove(number));
        let number = self.next;
        self.next += 1;
        self.guests.insert(number, Guest { name: guest, origin, since: now });
        self.numbers.insert(guest, number);
        self.weigh(origin, |numbers| numbers.insert(number));
        gone
    }

    /// A stranger is gone, or no stranger any more; whether it was in.
    pub fn leave(&mut self, guest: G) -> bool {
        let number = self.numbers.get(&guest).copied();
        number.and_then(|number| self.remove(number)).is_some()
    }

    /// Turns out the stranger that has waited longest.
    pub fn turn_out(&mut self) -> Option<G> {
        let (number, _) = self.guests.first_key_value()?;
        self.remove(*number)
    }

    /// A stranger whose time is over, which has no place any more; to be called until there is none.
    pub fn overdue(&mut self, now: Now) -> Option<G> {
        self.poll_timeout().filter(|due| *due <= now)?;
        self.turn_out()
    }

    /// When [`overdue`](Self::overdue) is to be asked again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Now> {
        let (_, guest) = self.guests.first_key_value()?;
        (!self.limits.patience.is_zero()).then(|| guest.since.after(self.limits.patience))
    }

    /// Strangers that are in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.guests.len()
    }

    /// Whether nobody is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    fn remove(&mut self, number: u64) -> Option<G> {
        let Guest { name, origin, .. } = self.guests.remove(&number)?;
        self.numbers.remove(&name);
        self.weigh(origin, |numbers| numbers.remove(&number));
        Some(name)
    }

    /// Changes who of an origin is in, and what it weighs.
    fn weigh(&mut self, origin: Option<Origin>, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let weight = |numbers: &BTreeSet<u64>| {
            numbers.first().map(|oldest| (numbers.len(), Reverse(*oldest), origin))
        };
        let numbers = self.origins.entry(origin).or_default();
        let before = weight(numbers);
        change(numbers);
        let after = weight(numbers);
        if after.is_none() {
            self.origins.remove(&origin);
        }
        if let Some(before) = before {
            self.heaviest.remove(&before);
        }
        self.heaviest.extend(after);
    }
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl From<SocketAddr> for Origin {
    fn from(address: SocketAddr) -> Self {
        address.ip().into()
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "Origin({address})"),
            IpAddr::V6(address) => write!(f, "Origin({address}/64)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;

    const LIMITS: LobbyLimits =
        LobbyLimits { places: 4, per_origin: 3, patience: Duration::from_secs(3) };

    fn at(seconds: u64) -> Now {
        Now(Duration::from_secs(seconds))
    }

    fn from(address: &str) -> Option<Origin> {
        Some(address.parse::<IpAddr>().unwrap().into())
    }

    #[test]
    fn the_oldest_of_an_address_gives_way_to_its_newest() {
        let mut lobby = Lobby::new(LIMITS);
        let one = from("192.0.2.1");
        for guest in 0..3 {
            assert_eq!(lobby.enter(at(0), guest, one), None);
        }
        assert_eq!(lobby.enter(at(0), 3, from("192.0.2.2")), None);
        assert_eq!(lobby.enter(at(1), 4, one), Some(0));
        assert_eq!(lobby.enter(at(1), 5, one), Some(1));
        assert_eq!(lobby.len(), 4);
    }

    #[test]
    fn one_that_is_alone_where_it_comes_from_outlasts_those_who_come_in_numbers() {
        let limits = LobbyLimits { places: 100, per_origin: 40, ..LIMITS };
        let mut lobby = Lobby::new(limits);
        assert_eq!(lobby.enter(at(0), 0, from("198.51.100.7")), None);
        for guest in 1..10_000_u32 {
            let address = alloc::format!("192.0.2.{}", guest % 20);
            assert_ne!(lobby.enter(at(0), guest, from(&address)), Some(0));
        }
        assert_eq!(lobby.len(), 100);
        assert!(lobby.leave(0), "it is still in");
    }

    #[test]
    fn where_all_come_from_different_places_the_oldest_gives_way() {
        let mut lobby = Lobby::new(LIMITS);
        for guest in 0..4_u32 {
            assert_eq!(lobby.enter(at(0), guest, from(&alloc::format!("192.0.2.{guest}"))), None);
        }
        for guest in 4..20_u32 {
            let gone = lobby.enter(at(0), guest, from(&alloc::format!("192.0.2.{guest}")));
            assert_eq!(gone, Some(guest - 4));
        }
    }

    #[test]
    fn those_of_whom_nothing_is_known_share_all_places_by_age() {
        let mut lobby = Lobby::new(LIMITS);
        let gone: Vec<_> = (0..7).map(|guest| lobby.enter(at(0), guest, None)).collect();
        assert_eq!(gone, [None, None, None, None, Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_stranger_has_its_time_and_no_more() {
        let mut lobby = Lobby::new(LIMITS);
        lobby.enter(at(10), 'a', None);
        lobby.enter(at(11), 'b', None);
        assert_eq!(lobby.poll_timeout(), Some(at(13)));
        assert_eq!(lobby.overdue(at(12)), None);
        assert_eq!(lobby.overdue(at(13)), Some('a'));
        assert_eq!(lobby.overdue(at(13)), None);
        assert!(lobby.leave('b'));
        assert!(!lobby.leave('b'));
        assert!(lobby.is_empty());
        assert_eq!(lobby.poll_timeout(), None);

        let mut patient = Lobby::new(LobbyLimits { patience: Duration::ZERO, ..LIMITS });
        patient.enter(at(0), 1, None);
        assert_eq!(patient.poll_timeout(), None);
        assert_eq!(patient.overdue(Now(Duration::MAX)), None);
    }

    #[test]
    fn a_network_of_ipv6_is_one_origin_and_mapped_addresses_are_those_of_ipv4() {
        assert_eq!(from("2001:db8:1:2::1"), from("2001:db8:1:2:ffff::9"));
        assert_ne!(from("2001:db8:1:2::1"), from("2001:db8:1:3::1"));
        assert_eq!(from("::ffff:192.0.2.1"), from("192.0.2.1"));
        assert_ne!(from("192.0.2.1"), from("192.0.2.2"));
        let shown = alloc::format!("{:?}", from("2001:db8:1:2::1").unwrap());
        assert_eq!(shown, "Origin(2001:db8:1:2::/64)".to_string());
    }

    #[test]
    fn the_places_are_never_more_than_there_are_whatever_happens() {
        let mut random: u32 = 7;
        let mut lobby = Lobby::new(LIMITS);
        let mut inside = BTreeSet::new();
        for guest in 0..5_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let origin = (random >> 16) % 5;
            let origin =
                (origin > 0).then(|| Origin::from(IpAddr::from([192, 0, 2, origin as u8])));
            if let Some(gone) = lobby.enter(at(0), guest, origin) {
                assert!(inside.remove(&gone), "it was in");
            }
            inside.insert(guest);
            if random >> 28 == 0 {
                let one = *inside.first().unwrap();
                assert!(lobby.leave(one));
                inside.remove(&one);
            }
            assert_eq!(lobby.len(), inside.len());
            assert!(lobby.len() <= LIMITS.places);
            let counted: usize = lobby.origins.values().map(BTreeSet::len).sum();
            assert_eq!((counted, lobby.heaviest.len()), (lobby.len(), lobby.origins.len()));
            let most = lobby.origins.iter().filter(|(origin, _)| origin.is_some());
            assert!(most.map(|(_, numbers)| numbers.len()).max().unwrap_or(0) <= LIMITS.per_origin);
        }
    }
}
