//! `30s`, `5m`, `1h30m`: how people write durations.

/// `90`, `90s`, `5m`, `2h`, `1h30m`, in seconds; at least one, as the API wants it.
pub(crate) fn seconds(text: &str) -> Result<u64, DurationError> {
    let (mut total, mut number) = (0_u64, String::new());
    let wrong = || DurationError { text: text.to_owned() };
    let count = |number: &str, unit: u64| number.parse::<u64>().ok()?.checked_mul(unit);
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        total = count(&number, unit).and_then(|seconds| total.checked_add(seconds)).ok_or_else(wrong)?;
        number.clear();
    }
    if !number.is_empty() {
        total = count(&number, 1).and_then(|seconds| total.checked_add(seconds)).ok_or_else(wrong)?;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total.max(1)) }
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{text:?} is no duration, such as 30s, 5m or 1h30m")]
pub(crate) struct DurationError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(seconds(text).ok(), expected, "{text:?}");
        check("30s", Some(30));
        check("90", Some(90));
        check("1h30m", Some(5_400));
        check("2d", Some(172_800));
        check("0s", Some(1));
        for bad in ["", "s", "5x", "-1s", "99999999999999999999s"] {
            check(bad, None);
        }
    }
}
