//! Wherry's own annotations of a pod: what Kubernetes has no field for.

/// How long a pod may run on while its node hears nothing of the hub: `60s`. Then the node stops it by
/// itself; replacing it earlier could run it twice.
pub const STOP_WHEN_ISOLATED: &str = "wherry.dev/stop-when-isolated";
/// How many requests one instance of an HTTP component serves before a fresh one takes over.
pub const INSTANCE_REUSE: &str = "wherry.dev/instance-reuse";
/// Holds JSON: what each container's image meant when the pod was made, as `NAME@sha256:...`.
pub const IMAGES: &str = "wherry.dev/images";

/// A pod that stops within a day of silence; more is no promise to anybody.
const ISOLATION_SECONDS_MAX: u32 = 24 * 60 * 60;
/// Bounds what a leaking guest can pile up.
const INSTANCE_REUSE_MAX: u32 = 1_000_000;

/// Seconds of a text such as `90`, `60s`, `5m` or `1h`.
pub fn isolation_seconds(text: &str) -> Option<u32> {
    let units = [("h", 3600), ("m", 60), ("s", 1), ("", 1)];
    let (number, unit) = units.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u32>().ok()?.checked_mul(*unit)?;
    (1..=ISOLATION_SECONDS_MAX).contains(&seconds).then_some(seconds)
}

pub fn instance_reuse(text: &str) -> Option<u32> {
    text.parse().ok().filter(|requests| (1..=INSTANCE_REUSE_MAX).contains(requests))
}

#[cfg(test)]
mod tests {
    use super::{instance_reuse, isolation_seconds};

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("60s", Some(60)),
            ("5m", Some(300)),
            ("1h", Some(3600)),
            ("24h", Some(86_400)),
            ("90", Some(90)),
            ("25h", None),
            ("0s", None),
            ("-1s", None),
            ("+1s", None),
            ("s", None),
            ("", None),
            ("1d", None),
            ("99999999999h", None),
        ] {
            assert_eq!(isolation_seconds(text), seconds, "{text:?}");
        }
    }

    #[test]
    fn reuse() {
        for (text, requests) in [("1", Some(1)), ("1000", Some(1000)), ("0", None), ("1000001", None), ("many", None)] {
            assert_eq!(instance_reuse(text), requests, "{text:?}");
        }
    }
}
