//! Percentiles.

use std::time::Duration;

/// The value below which a share of the samples lies (nearest rank).
pub fn percentile(samples: &[Duration], share: f64) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

pub fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// `p50 12.0 ms, p99 30.1 ms (100 samples)`
pub fn summary(samples: &[Duration]) -> String {
    format!(
        "p50 {}, p99 {} ({} samples)",
        millis(percentile(samples, 0.5)),
        millis(percentile(samples, 0.99)),
        samples.len()
    )
}

#[cfg(test)]
mod tests {
    use super::percentile;
    use std::time::Duration;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&samples, 0.5), Duration::from_millis(50));
        assert_eq!(percentile(&samples, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
