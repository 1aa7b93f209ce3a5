//! Scenarios on real kernels: one test per scenario and kernel. README.md beside this file says how to write, run and
//! debug one.
#![allow(unreachable_pub)] // The lab is written as a library; here it is part of one test program.

mod lab;
mod scenarios_activation;
mod scenarios_alua;
mod scenarios_array;
mod scenarios_assemble;
mod scenarios_boot;
mod scenarios_boot_systemd;
mod scenarios_cables;
mod scenarios_changes;
mod scenarios_clariion;
mod scenarios_control;
mod scenarios_daemon;
mod scenarios_demo;
mod scenarios_handover;
mod scenarios_hostile;
mod scenarios_iscsi;
mod scenarios_lab;
mod scenarios_lio;
mod scenarios_luns;
mod scenarios_mend;
mod scenarios_nvme;
mod scenarios_outage;
mod scenarios_parameters;
mod scenarios_partitions;
mod scenarios_partmaps;
mod scenarios_pressure;
mod scenarios_probe;
mod scenarios_readme;
mod scenarios_refusals;
mod scenarios_rescue;
mod scenarios_shell;
mod scenarios_steady;
mod scenarios_tables;
mod scenarios_udev;
