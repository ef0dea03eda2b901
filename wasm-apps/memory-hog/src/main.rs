//! Takes a megabyte every `HOG_INTERVAL_MS` (10) and touches it, until it is refused.

use std::env;
use std::thread::sleep;
use std::time::Duration;

fn main() {
    let interval = env::var("HOG_INTERVAL_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![0xAB; 1 << 20]);
        println!("memory-hog: {} MiB", taken.len());
        sleep(Duration::from_millis(interval));
    }
}
