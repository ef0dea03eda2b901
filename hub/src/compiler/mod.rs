//! Compiling ahead of time, for the nodes' targets: in child processes, once, kept on disk.

pub mod worker;
