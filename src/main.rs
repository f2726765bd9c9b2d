//! The program `tapedeck`: a thin shell around the library.

fn main() {}
