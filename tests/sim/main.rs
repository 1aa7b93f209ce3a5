//! The engine in a simulated world: stories first, then thousands of random histories.

mod config;
mod dm;
mod histories;
mod rng;
mod stories;
mod world;
