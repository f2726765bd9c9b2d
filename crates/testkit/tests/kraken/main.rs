//! The fake Kraken as a client sees it, over a real socket.

mod client;
mod market;
mod recorded;
mod rest;
