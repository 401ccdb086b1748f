#![doc = include_str!("../README.md")]

mod driver;
mod nvrtc;

use std::ffi::c_int;

/// Identifies the stand-in: neither NVRTC nor the driver exports this symbol.
#[unsafe(no_mangle)]
extern "C" fn nvrtc_stand_in() -> c_int {
    1
}

/// The fault that a test has planted.
fn fault() -> String {
    std::env::var("NVRTC_STAND_IN_FAULT").unwrap_or_default()
}
