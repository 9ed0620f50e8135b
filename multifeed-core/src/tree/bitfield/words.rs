//! Bits in words, counted from the most significant one.

/// Word and bit of a position in a page.
pub(super) const fn place(position: u64) -> (usize, u64) {
    ((position / 64) as usize, 1 << (63 - position % 64))
}

/// The bits of word `word` that lie in `from .. to`.
const fn mask(word: usize, from: usize, to: usize) -> u64 {
    let start = 64 * word;
    let left = if from <= start { u64::MAX } else { u64::MAX >> (from - start) };
    let right = if to >= start + 64 { u64::MAX } else { !(u64::MAX >> (to - start)) };
    left & right
}

/// The first 1-bit in `from .. to` of what `view` makes of the words.
pub(super) fn first(
    words: &[u64],
    from: usize,
    to: usize,
    view: impl Fn(u64) -> u64,
) -> Option<usize> {
    (from / 64..to.div_ceil(64)).find_map(|i| {
        let word = view(words[i]) & mask(i, from, to);
        (word != 0).then(|| 64 * i + word.leading_zeros() as usize)
    })
}

/// Number of 1-bits in `from .. to`.
pub(super) fn count(words: &[u64], from: usize, to: usize) -> u32 {
    (from / 64..to.div_ceil(64)).map(|i| (words[i] & mask(i, from, to)).count_ones()).sum()
}

pub(super) fn clear_after(words: &mut [u64], from: usize) {
    let end = 64 * words.len();
    for (i, word) in words.iter_mut().enumerate().skip(from / 64) {
        *word &= !mask(i, from, end);
    }
}

/// The bits at even places of a word, counted from the most significant one, close together.
pub(super) const fn even(word: u64) -> u64 {
    let mut bits = (word >> 1) & 0x5555_5555_5555_5555;
    bits = (bits | bits >> 1) & 0x3333_3333_3333_3333;
    bits = (bits | bits >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits >> 4) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff;
    (bits | bits >> 16) & 0x0000_0000_ffff_ffff
}
