//! The executable: start code and nothing else. Which applet runs is decided in `apps`.
#![no_std]
#![no_main]

mod start;
