//! The fuzz targets: what each does is a function of the crate that it tests, called here with a measure of
//! the memory that it takes.
//!
//! In this folder: the list of targets (`targets`), the measure (`memory`), what the kept inputs must
//! reach (`floor`), and the test that replays them (`replay`).

#[cfg(test)]
mod floor;
mod memory;
#[cfg(test)]
mod replay;
mod targets;

#[cfg(feature = "libfuzzer")]
pub use libfuzzer_sys;
pub use memory::run;
pub use targets::{TARGETS, Target, find};

/// A program of the fuzzer for the target of this name.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            let target = $crate::find(stringify!($name)).expect("a target of this name");
            $crate::run(target, data, &mut Default::default());
        });
    };
}
