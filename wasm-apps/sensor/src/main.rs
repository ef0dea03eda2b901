//! A plausible edge workload: vibration samples of a motor, smoothed, compared with their own recent
//! past, one JSON line a window and one more where a window stands out.
//!
//! `SENSOR_INTERVAL_MS` (1000) between windows, `SENSOR_WINDOWS` (endless), `SENSOR_SEED`, `SENSOR_ID`.

use std::env;
use std::str::FromStr;
use std::thread::sleep;
use std::time::Duration;

/// Samples of one window.
const WINDOW: usize = 64;
/// Weight of the newest window in the running mean and variance.
const ALPHA: f64 = 0.1;
/// Windows before the running mean is worth comparing with.
const WARM_UP: u64 = 8;
/// Standard deviations that make an anomaly.
const THRESHOLD: f64 = 4.0;

fn main() {
    let id = env::var("SENSOR_ID").or_else(|_| env::var("HOSTNAME")).unwrap_or_else(|_| "sensor".into());
    let interval = Duration::from_millis(setting("SENSOR_INTERVAL_MS", 1000));
    let windows = setting("SENSOR_WINDOWS", u64::MAX);
    let mut motor = Motor::new(setting("SENSOR_SEED", 1));
    let mut normal = Baseline::default();
    for window in 0..windows {
        let level = rms(&smooth(&motor.sample()));
        let deviations = normal.deviations(level);
        println!(r#"{{"sensor":"{id}","window":{window},"rms":{level:.4},"deviations":{deviations:.2}}}"#);
        if window >= WARM_UP && deviations > THRESHOLD {
            println!(r#"{{"sensor":"{id}","window":{window},"alarm":"vibration","rms":{level:.4}}}"#);
        } else {
            normal.learn(level);
        }
        sleep(interval);
    }
}

fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Hum at a fixed frequency, noise, and a shock every 50 windows.
struct Motor {
    random: u64,
    phase: f64,
    windows: u64,
}

impl Motor {
    fn new(seed: u64) -> Self {
        Self { random: seed.max(1), phase: 0.0, windows: 0 }
    }

    fn sample(&mut self) -> [f64; WINDOW] {
        self.windows += 1;
        let shock = if self.windows.is_multiple_of(50) { 3.0 } else { 0.0 };
        std::array::from_fn(|at| {
            self.phase += 0.35;
            let decay = (-(at as f64) / 12.0).exp();
            self.phase.sin() + 0.2 * self.noise() + shock * decay
        })
    }

    /// Uniform in -1..1 (xorshift64).
    fn noise(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Moving average over 5 samples: takes out what is faster than the motor.
fn smooth(samples: &[f64; WINDOW]) -> [f64; WINDOW] {
    std::array::from_fn(|at| {
        let near = &samples[at.saturating_sub(2)..(at + 3).min(WINDOW)];
        near.iter().sum::<f64>() / near.len() as f64
    })
}

fn rms(samples: &[f64; WINDOW]) -> f64 {
    (samples.iter().map(|s| s * s).sum::<f64>() / WINDOW as f64).sqrt()
}

#[derive(Default)]
struct Baseline {
    mean: f64,
    variance: f64,
    seen: u64,
}

impl Baseline {
    fn deviations(&self, level: f64) -> f64 {
        if self.seen == 0 { 0.0 } else { (level - self.mean).abs() / self.variance.sqrt().max(0.01) }
    }

    fn learn(&mut self, level: f64) {
        let weight = if self.seen == 0 { 1.0 } else { ALPHA };
        let off = level - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
        self.seen += 1;
    }
}
