//! Extension names of one scope (the stream or a channel) and their numbers on the wire.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::{Config, PeerError};

/// The names registered in one scope and how the remote numbers them.
///
/// A name's number is its place in the *sender's* sorted list, which the sender puts into an
/// `Options` message before it uses the number.
///
/// Source: `simple-hypercore-protocol@2.1.2`, `lib/message-handlers.js`; `abstract-extension@3.1.1`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    names: Vec<String>,
    /// For each of the remote's numbers the place in `names`, if the name is registered here too.
    remote: Vec<Option<u16>>,
    /// Whether the remote has seen `names` as they are.
    announced: bool,
}

impl Scope {
    /// A scope with these names; equal ones count once.
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut scope = Self::default();
        for name in names {
            scope.register(name);
        }
        scope
    }

    /// Adds a name. What the remote said of its numbers is void then.
    pub(crate) fn register(&mut self, name: &str) {
        if let Err(place) = self.names.binary_search_by(|known| utf16_order(known, name)) {
            self.names.insert(place, name.to_owned());
            self.remote.clear();
            self.announced = false;
        }
    }

    /// Takes the remote's list in place of its former one.
    pub(crate) fn set_remote(&mut self, list: &[String]) {
        self.remote = list.iter().map(|name| self.place(name)).collect();
    }

    /// Forgets what was said in both directions: the channel starts anew.
    pub(crate) fn reset(&mut self) {
        self.remote = Vec::new();
        self.announced = false;
    }

    /// Gives the list to be sent if the remote has not seen it, and takes it as sent.
    pub(crate) fn announce(&mut self) -> Option<Vec<String>> {
        (!core::mem::replace(&mut self.announced, true)).then(|| self.names.clone())
    }

    /// Upper bound of the bytes that the names take in a message.
    pub(crate) fn encoded_len(&self) -> usize {
        self.names.iter().map(|name| name.len() + 16).sum()
    }

    /// Our number for `name`.
    pub(crate) fn id(&self, name: &str) -> Option<u64> {
        self.place(name).map(u64::from)
    }

    /// The name behind one of the remote's numbers, if it announced it and it is registered here.
    pub(crate) fn name(&self, remote_id: u64) -> Option<&str> {
        let place = (*self.remote.get(usize::try_from(remote_id).ok()?)?)?;
        self.names.get(usize::from(place)).map(String::as_str)
    }

    fn place(&self, name: &str) -> Option<u16> {
        let place = self.names.binary_search_by(|known| utf16_order(known, name)).ok()?;
        u16::try_from(place).ok()
    }
}

/// Checks the size of a list of names that the remote sent.
///
/// # Errors
///
/// [`PeerError::Extensions`] above [`Config::max_extensions`] names or
/// [`Config::max_extension_name`] bytes a name.
pub(crate) fn check(list: &[String], config: &Config) -> Result<(), PeerError> {
    let too_long = |name: &String| name.len() > config.max_extension_name;
    if list.len() > config.max_extensions || list.iter().any(too_long) {
        return Err(PeerError::Extensions);
    }
    Ok(())
}

/// The order of JavaScript's `sort`: by UTF-16 code units.
fn utf16_order(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_sorted_by_utf16_code_units_and_counted_once() {
        // U+FF5E comes before U+1F600 by code point, after it by UTF-16 code unit.
        let mut scope = Scope::new(["\u{ff5e}", "\u{1f600}", "b", "B", "b", "_"]);
        let sorted = list(&["B", "_", "b", "\u{1f600}", "\u{ff5e}"]);
        assert_eq!(scope.announce(), Some(sorted));
        assert_eq!(scope.id("b"), Some(2));
        assert_eq!(scope.id("c"), None);
    }

    #[test]
    fn numbers_mean_nothing_before_the_remote_sent_its_list() {
        let mut scope = Scope::new(["a"]);
        assert_eq!(scope.name(0), None);
        scope.set_remote(&list(&["x", "a"]));
        assert_eq!(scope.name(0), None);
        assert_eq!(scope.name(1), Some("a"));
        assert_eq!(scope.name(2), None);
        assert_eq!(scope.name(u64::MAX), None);
    }

    #[test]
    fn a_list_is_announced_once_and_again_after_a_change() {
        let mut scope = Scope::new(["a"]);
        assert_eq!(scope.announce(), Some(list(&["a"])));
        assert_eq!(scope.announce(), None);
        scope.register("a");
        assert_eq!(scope.announce(), None);
        scope.register("b");
        assert_eq!(scope.announce(), Some(list(&["a", "b"])));
    }
}
