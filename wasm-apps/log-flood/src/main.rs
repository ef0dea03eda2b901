//! Prints numbered lines as fast as it can.

use std::io::{Write, stdout};

fn main() {
    let mut out = stdout().lock();
    for line in 0u64.. {
        if writeln!(out, "log-flood line {line:012} {}", "x".repeat(80)).is_err() {
            return;
        }
    }
}
