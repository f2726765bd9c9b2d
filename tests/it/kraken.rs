//! Kraken: recorded frames through the parsers and books.

mod recordings;
