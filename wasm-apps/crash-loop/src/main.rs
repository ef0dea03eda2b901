//! Fails `CRASH_AFTER_MS` (500) after each start, with exit code `CRASH_CODE` (1).

use std::env;
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

fn main() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    println!("crash-loop: up, not for long");
    sleep(Duration::from_millis(number("CRASH_AFTER_MS").unwrap_or(500)));
    eprintln!("crash-loop: giving up");
    exit(number("CRASH_CODE").and_then(|code| i32::try_from(code).ok()).unwrap_or(1));
}
