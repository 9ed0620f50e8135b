//! Signatures that were checked before. Inputs begin with the same stores, and check the same ones again and
//! again: most of the time would go into that.

use std::cell::RefCell;
use std::collections::BTreeMap;

use multifeed_proto::keyed_hash;

/// Whether a signature is good, as `verify` says or said before.
pub(crate) fn remember(
    key: &[u8; 32],
    message: &[u8],
    signature: &[u8; 64],
    verify: impl FnOnce() -> bool,
) -> bool {
    thread_local!(static KNOWN: RefCell<BTreeMap<[u8; 32], bool>> = const { RefCell::new(BTreeMap::new()) });
    let name = keyed_hash(key, &[signature, message]);
    if let Some(known) = KNOWN.with_borrow(|known| known.get(&name).copied()) {
        return known;
    }
    let good = verify();
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(name, good);
    });
    good
}

/// Some 600 KiB.
const MAX_KNOWN: usize = 8192;
