'use strict'
// The contents of test blocks. The Rust harness has the same few lines (`src/contents.rs`), so that
// either side can check what it received without having been sent it.

// Block `index` of the writer called `name`, `size` bytes: xorshift32 words, little endian, seeded
// with the FNV-1a hash of "name:index". No two blocks agree and nothing repeats inside a block.
function block (name, index, size) {
  let state = fnv1a(Buffer.from(`${name}:${index}`)) || 1
  const words = new Uint32Array(Math.ceil(size / 4))
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return Buffer.from(words.buffer, 0, size)
}

function fnv1a (bytes) {
  let hash = 0x811c9dc5
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash >>> 0
}

module.exports = { block }
