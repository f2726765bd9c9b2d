//! Tests of what an event is, through its public face.

mod golden;
mod strategy;
mod wire;
