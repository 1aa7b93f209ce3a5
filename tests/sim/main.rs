//! The engine in a simulated world: stories first, then thousands of random histories.
// A test target has no outside; `pub` here only says "for the other files".
#![allow(unreachable_pub)]

mod adoption;
mod clocks;
mod config;
mod dm;
mod errands;
mod histories;
mod rng;
mod stories;
mod trouble;
mod world;
