//! Stands in for the crate `zeromq-src` 0.2, which builds libzmq for `zmq-sys`.
//!
//! That one builds libzmq 4.3.4 without libsodium, so without CURVE. This one passes the order on to its own
//! successor (libzmq 4.3.5) and says where libsodium is. Nothing of it is in the program: it runs while that is built.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use zeromq_src_newer::{Build as Newer, LibLocation};

/// The part of the crate's interface that the build script of `zmq-sys` calls.
#[derive(Debug, Default)]
pub struct Build;

impl Build {
    #[must_use]
    pub fn new() -> Self {
        Build
    }

    /// With libsodium in any case: `zmq-sys` asks for none because it knows of none.
    pub fn with_libsodium(&mut self, _location: Option<PathBuf>) -> &mut Self {
        self
    }

    /// Builds libzmq, and tells cargo what to link.
    pub fn build(&mut self) {
        let sodium = LibLocation::new(env!("DEP_SODIUM_LIB"), env!("DEP_SODIUM_INCLUDE"));
        Newer::new().with_libsodium(Some(sodium)).build();
    }
}
