//! Amounts of resources as Kubernetes writes them: `250m`, `64Mi`, `1.5`, `2e3`.
//!
//! Exact: an amount is a count of billionths, so neither parsing nor adding ever rounds a legal value.
//! What is finer than a billionth rounds away from zero, and what is larger than 2^63-1 is cut to it,
//! as Kubernetes documents for its `Quantity`.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

/// Billionths in one.
const NANO: i128 = 1_000_000_000;
/// The largest amount, in billionths.
const MOST: i128 = (i64::MAX as i128) * NANO;
/// More digits than any amount needs; bounds the work on hostile input.
const MOST_TEXT: usize = 128;

/// An amount, and the family of suffixes it is written with. Equality and order look at the amount alone.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The family of suffixes that a quantity keeps when it is printed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `n u m k M G T P E`
    Decimal,
    /// `Ki Mi Gi Ti Pi Ei`
    Binary,
    /// `e3 e6 e-3`
    Exponent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Shape,
    #[error("unable to parse numeric part of quantity")]
    Number,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0), ("m", -3), ("u", -6), ("n", -9)];

const BINARY_SUFFIXES: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::Decimal };

    /// Whole units, written with decimal suffixes.
    pub fn units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANO, format: Format::Decimal }
    }

    /// Thousandths: CPU is counted in them.
    pub fn milli(thousandths: i64) -> Self {
        Self { nanos: i128::from(thousandths) * (NANO / 1000), format: Format::Decimal }
    }

    /// Bytes, written with binary suffixes.
    pub fn bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANO, format: Format::Binary }
    }

    /// Reads `[sign]digits[.digits][suffix]`.
    ///
    /// # Errors
    /// Text of another shape.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() || text.len() > MOST_TEXT {
            return Err(QuantityError::Shape);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.is_empty() || fraction.contains('.') {
            return Err(QuantityError::Shape);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Number);
        }
        let unit = Unit::parse(suffix)?;
        let nanos = unit.nanos(whole, fraction).min(MOST);
        // A binary suffix on less than one byte would print as a fraction of a byte: decimal then.
        let format = if unit.format == Format::Binary && nanos < NANO { Format::Decimal } else { unit.format };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// Reads a JSON string or number, as manifests have both: `cpu: 1`, `cpu: "1"`.
    ///
    /// # Errors
    /// Any other JSON, and text of another shape.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(QuantityError::Shape),
        }
    }

    /// Whole units, rounded away from zero: `1500m` is 2.
    pub fn value(self) -> i64 {
        self.rounded(NANO)
    }

    /// Thousandths, rounded away from zero and cut to `i64`.
    pub fn milli_value(self) -> i64 {
        self.rounded(NANO / 1000)
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The sum, cut at the largest amount. The suffixes are the left side's, unless that is zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-MOST, MOST), format }
    }

    /// The difference, cut at the largest amount.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, format: other.format })
    }

    fn rounded(self, unit: i128) -> i64 {
        let away = if self.nanos < 0 { 1 - unit } else { unit - 1 };
        let rounded = (self.nanos + away) / unit;
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    fn write_decimal(self, f: &mut fmt::Formatter<'_>, format: Format) -> fmt::Result {
        let (suffix, exponent, unit) = DECIMAL_SUFFIXES
            .iter()
            .map(|&(suffix, exponent)| (suffix, exponent, 10i128.pow((exponent + 9).unsigned_abs())))
            .find(|&(_, _, unit)| self.nanos % unit == 0)
            .expect("the last unit is one billionth, which divides everything");
        write!(f, "{}", self.nanos / unit)?;
        match format {
            Format::Exponent if exponent != 0 => write!(f, "e{exponent}"),
            Format::Exponent | Format::Decimal | Format::Binary => f.write_str(suffix),
        }
    }

    fn write_binary(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.nanos / NANO;
        match BINARY_SUFFIXES.iter().find(|&&(_, bits)| units % (1i128 << bits) == 0) {
            Some((suffix, bits)) => write!(f, "{}{suffix}", units >> bits),
            None => write!(f, "{units}"),
        }
    }
}

/// The canonical form: no fraction, the largest suffix that loses nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.nanos % NANO == 0;
        match self.format {
            _ if self.nanos == 0 => f.write_str("0"),
            Format::Binary if whole && self.nanos.abs() >= 1024 * NANO => self.write_binary(f),
            Format::Binary | Format::Decimal => self.write_decimal(f, Format::Decimal),
            Format::Exponent => self.write_decimal(f, Format::Exponent),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// What a suffix multiplies with.
#[derive(Debug, Clone, Copy)]
struct Unit {
    format: Format,
    base: Base,
}

#[derive(Debug, Clone, Copy)]
enum Base {
    /// A power of ten.
    Ten(i32),
    /// A power of two.
    Two(u32),
}

impl Unit {
    fn parse(suffix: &str) -> Result<Self, QuantityError> {
        if let Some(&(_, exponent)) = DECIMAL_SUFFIXES.iter().find(|(text, _)| *text == suffix) {
            return Ok(Self { format: Format::Decimal, base: Base::Ten(exponent) });
        }
        if let Some(&(_, bits)) = BINARY_SUFFIXES.iter().find(|(text, _)| *text == suffix) {
            return Ok(Self { format: Format::Binary, base: Base::Two(bits) });
        }
        let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
        let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
        Ok(Self { format: Format::Exponent, base: Base::Ten(exponent) })
    }

    /// The amount in billionths, rounded up; `i128::MAX` where it would not fit.
    fn nanos(self, whole: &str, fraction: &str) -> i128 {
        let digits = whole.bytes().chain(fraction.bytes()).map(|digit| i128::from(digit - b'0'));
        let scale = -i32::try_from(fraction.len()).expect("bounded by MOST_TEXT");
        let (factor, exponent) = match self.base {
            Base::Ten(exponent) => (1, exponent.saturating_add(scale).saturating_add(9)),
            Base::Two(bits) => (1i128 << bits, scale + 9),
        };
        // Digits past what an i128 holds can only matter below a billionth: they round up.
        let mut mantissa = 0i128;
        let mut exponent = exponent;
        let mut lost = false;
        for digit in digits {
            match mantissa
                .checked_mul(10)
                .and_then(|m| m.checked_add(digit))
                .filter(|m| m.checked_mul(factor).is_some())
            {
                Some(next) if !lost => mantissa = next,
                _ => {
                    lost = true;
                    exponent = exponent.saturating_add(1);
                }
            }
        }
        scale_by_ten(mantissa * factor, exponent)
    }
}

/// `value * 10^exponent`, rounded up; `i128::MAX` where it would not fit.
fn scale_by_ten(value: i128, exponent: i32) -> i128 {
    let power = 10i128.checked_pow(exponent.unsigned_abs());
    match (value, power) {
        (0, _) => 0,
        (_, Some(power)) if exponent >= 0 => value.checked_mul(power).unwrap_or(i128::MAX),
        (_, None) if exponent >= 0 => i128::MAX,
        (_, Some(power)) => value / power + i128::from(value % power != 0),
        (_, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Quantity, QuantityError};

    #[track_caller]
    fn check(text: &str, canonical: &str) {
        let printed = match Quantity::parse(text) {
            Ok(quantity) => quantity.to_string(),
            Err(QuantityError::Shape) => "shape".to_owned(),
            Err(QuantityError::Number) => "number".to_owned(),
            Err(QuantityError::Suffix) => "suffix".to_owned(),
        };
        assert_eq!(printed, canonical, "{text:?}");
    }

    #[test]
    fn prints_the_canonical_form() {
        check("0", "0");
        check("0Ki", "0");
        check("-0", "0");
        check("1", "1");
        check("+1", "1");
        check("-1", "-1");
        check("0.5", "500m");
        check(".5", "500m");
        check("5.", "5");
        check("100m", "100m");
        check("1000m", "1");
        check("1500m", "1500m");
        check("1000", "1k");
        check("1024", "1024");
        check("1000000", "1M");
        check("1e3", "1e3");
        check("1E3", "1e3");
        check("12e2", "1200");
        check("1e-3", "1e-3");
        check("1E", "1E");
        check("1024Ki", "1Mi");
        check("1.5Gi", "1536Mi");
        check("64Mi", "64Mi");
        check("1023", "1023");
        check("0.5Ki", "512");
        check("0.0005Ki", "512m");
        check("0.1Ki", "102400m");
        check("1Ei", "1Ei");
        check("123456789n", "123456789n");
        check("1u", "1u");
    }

    #[test]
    fn rounds_up_and_cuts() {
        check("0.1n", "1n");
        check("-0.1n", "-1n");
        check("1e-40", "1e-9");
        check("9223372036854775807", "9223372036854775807");
        check("9223372036854775808", "9223372036854775807");
        check("100Ei", "9223372036854775807");
        check("1e99", "9223372036854775807e0".trim_end_matches("e0"));
        check("1e2147483647", "9223372036854775807");
        check("1e-2147483648", "1e-9");
        check(&"9".repeat(120), "9223372036854775807");
        check(&format!("0.{}1", "0".repeat(100)), "1n");
        check(&format!("1.{}", "0".repeat(100)), "1");
    }

    #[test]
    fn refuses() {
        check("", "shape");
        check("-", "shape");
        check("Mi", "shape");
        check("1.2.3", "shape");
        check(".", "number");
        check("1 ", "suffix");
        check("1Kb", "suffix");
        check("1mi", "suffix");
        check("1e", "suffix");
        check("1e99999999999", "suffix");
        check("1é", "suffix");
        check(&"1".repeat(200), "shape");
    }

    #[test]
    fn reads_json_numbers() {
        assert_eq!(Quantity::from_json(&json!(2)), Ok(Quantity::units(2)));
        assert_eq!(Quantity::from_json(&json!(0.25)), Ok(Quantity::milli(250)));
        assert_eq!(Quantity::from_json(&json!("1Ki")), Ok(Quantity::bytes(1024)));
        assert_eq!(Quantity::from_json(&json!(true)), Err(QuantityError::Shape));
    }

    #[test]
    fn counts_and_compares() {
        let quantity = |text| Quantity::parse(text).unwrap();
        assert_eq!(quantity("1500m").value(), 2);
        assert_eq!(quantity("-1500m").value(), -2);
        assert_eq!(quantity("0.1m").milli_value(), 1);
        assert_eq!(quantity("9E").milli_value(), i64::MAX);
        assert_eq!(quantity("1Gi").value(), 1 << 30);
        assert!(quantity("1Mi") > quantity("1M"));
        assert_eq!(quantity("1"), quantity("1000m"));
        assert_eq!(quantity("500m").plus(quantity("1")).to_string(), "1500m");
        assert_eq!(Quantity::ZERO.plus(quantity("64Mi")).to_string(), "64Mi");
        assert_eq!(quantity("64Mi").minus(quantity("128Mi")).to_string(), "-64Mi");
        assert_eq!(quantity("9E").plus(quantity("9E")).value(), i64::MAX);
    }

    proptest! {
        #[test]
        fn canonical_text_reads_back(nanos in -super::MOST..super::MOST, binary in any::<bool>()) {
            let format = if binary { super::Format::Binary } else { super::Format::Decimal };
            let quantity = Quantity { nanos, format };
            let text = quantity.to_string();
            let again = Quantity::parse(&text).unwrap();
            prop_assert_eq!(again, quantity);
            prop_assert_eq!(again.to_string(), text);
        }

        #[test]
        fn never_panics(text in "[-+]?[0-9.]{0,40}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,12}") {
            let _ = Quantity::parse(&text);
        }
    }
}
