//! How much memory an input takes.

use multifeed_proto::fuzzing::Reached;
use peak_alloc::PeakAlloc;

use crate::Target;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs one input.
///
/// # Panics
///
/// If anything comes out that must not, or the input takes more memory than its target allows.
pub fn run(target: &Target, data: &[u8], reached: &mut Reached) {
    if let Some(prepare) = target.prepare {
        prepare();
    }
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    (target.body)(data, reached);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let allowed = target.base_bytes + target.bytes_each * data.len();
    assert!(
        taken <= allowed,
        "{} bytes of input took {taken} bytes of memory, {allowed} are allowed",
        data.len()
    );
}
