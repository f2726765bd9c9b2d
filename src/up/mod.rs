//! `tapedeck up`: a deck in the background, with the processes beside it.
//!
//! ```text
//! up ──starts, detached──► supervisor ──keeps──► [server.NAME] …   by command, or by docker compose
//!  ▲                          │   └────keeps──► tapedeck run (the deck)
//!  └──run/supervisor.json─────┤
//! down · restart ──run/control.sock──►┘        status · top ◄── run/*.json, the deck's control socket
//! ```
//!
//! - A start goes through [`phases::PHASES`], each with a gate that proves what the phase promises (`gates`).
//! - The supervisor is small and does nothing but keep (`keeper`: the life of one thing, `spec`: what it is); what it knows is in files that every shell reads
//!   ([`table`]). When it is killed, what it kept runs on and the deck records on: the next `up` takes all of it over, the
//!   next `down` ends all of it. That is why children write their logs themselves and die with nobody.
//! - A process is known by number, start time and start of the machine, so that no stranger is ever signalled.

mod access;
mod compose;
mod gates;
mod keeper;
pub mod log;
pub mod phases;
pub mod process;
mod ready;
mod running;
mod spec;
mod supervisor;
pub mod table;

pub use phases::{Access, Phase, PhaseState, Stage, Supervisor, Trouble};
pub(crate) use ready::ask as ask_ready;
pub(crate) use spec::changes;
pub use supervisor::{Ask, Job, STARTING, clean, run};
pub use table::{Compose, DECK, Entry, Kind, Lock, SERVERS, State, Table, means};
