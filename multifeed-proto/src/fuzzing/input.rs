//! Random bytes as numbers and choices.

/// The bytes that the fuzzer gave, read from front to back. At the end everything is 0 or empty.
#[derive(Clone, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of two, by one byte.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `n`, which is 1 to 256, by one byte.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    /// One of these, by one byte.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Two bytes, the first the lower.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Bytes of a count of one byte.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        self.take(len)
    }

    /// `len` bytes, or what is left.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    /// A number of the kinds that code goes wrong at: small ones, those around pages and powers of two,
    /// and the largest that are legal.
    pub fn number(&mut self) -> u64 {
        const LARGEST: u64 = (1 << 53) - 1;
        let kind = self.byte();
        match kind {
            0..=159 => u64::from(kind % 32),
            160..=191 => u64::from(self.short()),
            192..=207 => 8192 * u64::from(self.byte() % 5) + u64::from(kind % 3),
            208..=223 => (1_u64 << (self.byte() % 54)).saturating_sub(u64::from(kind % 3)),
            224..=239 => LARGEST - u64::from(kind % 16),
            240..=247 => u64::from(self.short()) << (kind % 8 * 5),
            248..=255 => {
                let mut bytes = [0; 8];
                let taken = self.take(8);
                bytes[..taken.len()].copy_from_slice(taken);
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// The same, within what a message may hold.
    pub fn integer(&mut self) -> u64 {
        self.number().min(crate::wire::varint::MAX_SAFE_INTEGER)
    }
}
