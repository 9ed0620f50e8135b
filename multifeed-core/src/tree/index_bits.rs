//! The third part of a bitfield page: a summary that lets a reader skip what it has.
//!
//! Each byte holds four classes of two bits: `11` all blocks there, `00` none, `01` some. The bytes
//! form a flat tree over the whole file, 512 of them a page; the last one of each page summarises
//! more than one page and is therefore kept apart, in [`Spans`].
//!
//! Source: `hypercore@9.12.0`, `lib/bitfield.js`, `_setIndex`.

use alloc::collections::{BTreeMap, BTreeSet};

use super::flat::NodeIndex;

/// Bytes of this part in a page.
pub(super) const INDEX_BYTES: usize = 512;

/// Depth, in the tree of index bytes, of the byte that summarises exactly one page.
const PAGE_DEPTH: u32 = 8;

/// Deepest page tree that can be: a log of `MAX_LENGTH` blocks has 2^39 pages.
const TOP_DEPTH: u32 = PAGE_DEPTH + 39;

/// All but the last byte of the index part of a page with these blocks.
pub(super) fn within_page(blocks: &[u64; 128]) -> [u8; INDEX_BYTES] {
    let mut out = [0; INDEX_BYTES];
    for (i, word) in blocks.iter().enumerate() {
        let [a, b, c, d, e, f, g, h] = word.to_be_bytes();
        out[4 * i] = leaf([a, b, c, d]);
        out[4 * i + 2] = leaf([e, f, g, h]);
    }
    for depth in 1..=PAGE_DEPTH {
        for offset in 0..(256 >> depth) {
            let node = NodeIndex::at(depth, offset);
            let half = 1 << (depth - 1);
            // Positions in a page are less than 512.
            let at = node.0 as usize;
            out[at] = join(out[at - half], out[at + half]);
        }
    }
    out
}

/// The byte that summarises the page: a class for each quarter of its blocks.
pub(super) fn of_page(blocks: &[u64; 128]) -> u8 {
    blocks.chunks_exact(32).fold(0, |byte, quarter| {
        let class = if quarter.iter().all(|&word| word == u64::MAX) {
            3
        } else {
            u8::from(quarter.iter().any(|&word| word != 0))
        };
        byte << 2 | class
    })
}

fn leaf(bytes: [u8; 4]) -> u8 {
    bytes.iter().fold(0, |byte, &data| byte << 2 | class(data, 0xff))
}

fn join(left: u8, right: u8) -> u8 {
    let nibbles = |byte: u8| class(byte >> 4, 15) << 2 | class(byte & 15, 15);
    nibbles(left) << 4 | nibbles(right)
}

const fn class(value: u8, full: u8) -> u8 {
    if value == full {
        3
    } else if value == 0 {
        0
    } else {
        1
    }
}

/// The last byte of each page, where it is not 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans(BTreeMap<u64, u8>);

impl Spans {
    /// Nothing held.
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The last byte of page `page`.
    pub(super) fn last_byte(&self, page: u64) -> u8 {
        self.0.get(&page).copied().unwrap_or(0)
    }

    /// Recomputes what depends on page `page` in a file of `pages` pages, and notes in `changed`
    /// which pages have another last byte than before.
    ///
    /// `summary` gives [`of_page`] of any page.
    pub(super) fn update(
        &mut self,
        page: u64,
        pages: u64,
        summary: impl Fn(u64) -> u8,
        changed: &mut BTreeSet<u64>,
    ) {
        for depth in PAGE_DEPTH + 1..=TOP_DEPTH {
            let offset = page >> (depth - PAGE_DEPTH);
            let home = home(depth, offset);
            if home >= pages {
                // A byte further up may lie further left, unless this is the leftmost one.
                if offset == 0 {
                    return;
                }
                continue;
            }
            let child = |offset| match depth - 1 {
                PAGE_DEPTH => summary(offset),
                depth => self.last_byte(self::home(depth, offset)),
            };
            let byte = join(child(2 * offset), child(2 * offset + 1));
            if byte != self.last_byte(home) {
                changed.insert(home);
                if byte == 0 {
                    self.0.remove(&home);
                } else {
                    self.0.insert(home, byte);
                }
            }
        }
    }
}

/// The page whose last byte is the index byte at `depth` and `offset`; `depth` is at least 9.
const fn home(depth: u32, offset: u64) -> u64 {
    (offset << (depth - PAGE_DEPTH)) + (1 << (depth - PAGE_DEPTH - 1)) - 1
}
