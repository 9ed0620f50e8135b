//! Parts of a store's names.

use std::fmt::Write as _;

use crate::error::Error;
use crate::feed::Feed;
use crate::store::Store;

/// A part of the names of a [`Store`], so that several applications can share it.
///
/// As in `corestore@5.8.2` it matters for its default feed alone: feeds by name and by key are those of
/// the whole store.
#[derive(Clone, Debug)]
pub struct Namespace {
    store: Store,
    name: String,
}

impl Namespace {
    pub(crate) const fn new(store: Store, name: String) -> Self {
        Self { store, name }
    }

    /// A part of this part.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Self {
        Self::new(self.store.clone(), format!("{}:{name}", self.name))
    }

    /// A part of this part that is called by bytes: by their hex digits.
    #[must_use]
    pub fn namespace_bytes(&self, name: &[u8]) -> Self {
        let mut hex = String::with_capacity(name.len() * 2);
        for byte in name {
            let _never_fails = write!(hex, "{byte:02x}");
        }
        self.namespace(&hex)
    }

    /// The feed of this part, made if there is none: the one that corestore knows by
    /// [`name`](Self::name).
    ///
    /// Dropped early, the feed may still be made.
    ///
    /// # Errors
    ///
    /// As [`Store::named`].
    pub async fn default_feed(&self) -> Result<Feed, Error> {
        self.store.named(&self.name).await
    }

    /// The names of this part and of those around it, joined by `:`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The store that it is a part of.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }
}
