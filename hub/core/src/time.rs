//! Times as text: RFC 3339 of API objects, and the short ages that `kubectl get` shows.
//!
//! No clock here: seconds since 1970 come from the shell.

use jiff::Timestamp;

/// Shown where an object has no creation time.
pub const UNKNOWN: &str = "<unknown>";

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// `2026-11-23T19:15:00Z`; out-of-range seconds are cut to the years that RFC 3339 can write.
pub fn format(unix_seconds: i64) -> String {
    let bounded = unix_seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    let stamp = Timestamp::from_second(bounded).unwrap_or(Timestamp::UNIX_EPOCH);
    stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-11-23T19:15:00.000001Z`: the form of `MicroTime` fields (leases, events).
pub fn format_micros(unix_micros: i64) -> String {
    let bounded = unix_micros.clamp(Timestamp::MIN.as_microsecond(), Timestamp::MAX.as_microsecond());
    let stamp = Timestamp::from_microsecond(bounded).unwrap_or(Timestamp::UNIX_EPOCH);
    stamp.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Seconds since 1970 of an RFC 3339 text with any offset; a fraction of a second is dropped.
/// `None` for anything else.
pub fn parse(text: &str) -> Option<i64> {
    parse_stamp(text).map(Timestamp::as_second)
}

/// Microseconds since 1970.
pub fn parse_micros(text: &str) -> Option<i64> {
    parse_stamp(text).map(Timestamp::as_microsecond)
}

/// Jiff reads more than RFC 3339 (a blank for the `T`, brackets, no seconds): hold it to the letter first.
fn parse_stamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = |at: usize, separator: u8| bytes.get(at) == Some(&separator);
    let strict = (20..=40).contains(&bytes.len())
        && shape(4, b'-')
        && shape(7, b'-')
        && shape(10, b'T')
        && shape(13, b':')
        && shape(16, b':')
        && bytes.iter().all(|b| b.is_ascii_digit() || b"-+:.TZ".contains(b));
    if strict { text.parse().ok() } else { None }
}

/// How old something is, from its time as the API writes it.
pub fn age(stamp: Option<&str>, now: i64) -> String {
    stamp.and_then(parse).map_or_else(|| UNKNOWN.to_owned(), |then| human(now.saturating_sub(then)))
}

/// A span in at most two units, as `kubectl` rounds it: `59s`, `2m5s`, `5d3h`, `3y`.
///
/// Clocks of two machines differ by a second easily, so -1 s is still `0s`.
pub fn human(seconds: i64) -> String {
    /// Below `until`, a span is told in whole `unit`s, and the rest in whole `rest`s if there are any.
    struct Step {
        until: i64,
        unit: (i64, &'static str),
        rest: Option<(i64, &'static str)>,
    }
    const S: (i64, &str) = (1, "s");
    const M: (i64, &str) = (MINUTE, "m");
    const H: (i64, &str) = (HOUR, "h");
    const D: (i64, &str) = (DAY, "d");
    const Y: (i64, &str) = (YEAR, "y");
    const STEPS: [Step; 9] = [
        Step { until: 2 * MINUTE, unit: S, rest: None },
        Step { until: 10 * MINUTE, unit: M, rest: Some(S) },
        Step { until: 3 * HOUR, unit: M, rest: None },
        Step { until: 8 * HOUR, unit: H, rest: Some(M) },
        Step { until: 2 * DAY, unit: H, rest: None },
        Step { until: 8 * DAY, unit: D, rest: Some(H) },
        Step { until: 2 * YEAR, unit: D, rest: None },
        Step { until: 8 * YEAR, unit: Y, rest: Some(D) },
        Step { until: i64::MAX, unit: Y, rest: None },
    ];
    match seconds {
        i64::MIN..=-2 => return "<invalid>".to_owned(),
        -1 => return "0s".to_owned(),
        0.. => (),
    }
    let step = STEPS.iter().find(|step| seconds < step.until).unwrap_or(&STEPS[STEPS.len() - 1]);
    let (size, letter) = step.unit;
    let whole = format!("{}{letter}", seconds / size);
    match step.rest.map(|(rest_size, rest_letter)| (seconds % size / rest_size, rest_letter)) {
        None | Some((0, _)) => whole,
        Some((rest, rest_letter)) => format!("{whole}{rest}{rest_letter}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_span(seconds: i64, text: &str) {
        assert_eq!(human(seconds), text, "{seconds} s");
    }

    #[test]
    fn spans_are_short() {
        check_span(-2, "<invalid>");
        check_span(-1, "0s");
        check_span(0, "0s");
        check_span(119, "119s");
        check_span(120, "2m");
        check_span(125, "2m5s");
        check_span(599, "9m59s");
        check_span(600, "10m");
        check_span(601, "10m");
        check_span(3 * HOUR - 1, "179m");
        check_span(3 * HOUR, "3h");
        check_span(3 * HOUR + 70, "3h1m");
        check_span(8 * HOUR + 3500, "8h");
        check_span(2 * DAY - 1, "47h");
        check_span(2 * DAY, "2d");
        check_span(5 * DAY + 3 * HOUR, "5d3h");
        check_span(8 * DAY + HOUR, "8d");
        check_span(2 * YEAR - 1, "729d");
        check_span(2 * YEAR, "2y");
        check_span(2 * YEAR + 3 * DAY, "2y3d");
        check_span(8 * YEAR + 3 * DAY, "8y");
        check_span(i64::MAX, "292471208677y");
    }

    #[track_caller]
    fn check_stamp(text: &str, seconds: Option<i64>) {
        assert_eq!(parse(text), seconds, "{text:?}");
    }

    #[test]
    fn stamps_are_rfc_3339_to_the_letter() {
        check_stamp("1970-01-01T00:00:00Z", Some(0));
        check_stamp("2026-11-23T17:00:00Z", Some(1_795_453_200));
        check_stamp("2026-11-23T17:00:00.999999Z", Some(1_795_453_200));
        check_stamp("2026-11-23T18:00:00+01:00", Some(1_795_453_200));
        check_stamp("2026-11-23 17:00:00Z", None);
        check_stamp("2026-11-23T17:00:00", None);
        check_stamp("2026-13-23T17:00:00Z", None);
        check_stamp("2026-11-23T17:00Z", None);
        check_stamp("", None);
        check_stamp("2026-11-23T17:00:00Z[UTC]", None);
    }

    #[test]
    fn stamps_are_written() {
        assert_eq!(format(1_795_453_200), "2026-11-23T17:00:00Z");
        assert_eq!(format_micros(1_795_453_200_000_001), "2026-11-23T17:00:00.000001Z");
        assert_eq!(format_micros(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(parse_micros("2026-11-23T17:00:00.000001Z"), Some(1_795_453_200_000_001));
        assert!(!format(i64::MAX).is_empty() && !format(i64::MIN).is_empty());
    }

    #[test]
    fn ages_are_spans_since() {
        assert_eq!(age(Some("1970-01-01T00:00:10Z"), 70), "60s");
        assert_eq!(age(Some("yesterday"), 70), UNKNOWN);
        assert_eq!(age(None, 70), UNKNOWN);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0i64..253_000_000_000) {
            prop_assert_eq!(parse(&format(seconds)), Some(seconds));
        }
    }
}
