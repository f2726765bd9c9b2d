//! The program `tapedeck`: a thin shell around the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tapedeck::cli::main()
}
