//! Ranges of values, and their description in words.

use super::kind::OptionType;
use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use toml::Value;

/// The range of a key.
#[derive(Debug, Clone, Copy)]
pub struct ValueLimit {
    /// Whether a value, of the key's type, lies within.
    pub holds: fn(&Value) -> bool,
    /// The range as a phrase after "must be".
    pub words: fn() -> String,
}

/// The range above a number, without that number.
pub const fn above<T>(number: T) -> (Bound<T>, Bound<T>) {
    (Bound::Excluded(number), Bound::Unbounded)
}

/// The description of a range.
pub fn words<T: OptionType + Display>(range: &impl RangeBounds<T>) -> String {
    let (start, end) = (range.start_bound(), range.end_bound());
    let low = match start {
        Bound::Included(low) => Some(format!("at least {}", number(low))),
        Bound::Excluded(low) => Some(format!("above {}", number(low))),
        Bound::Unbounded => None,
    };
    let high = match end {
        Bound::Included(high) => Some(format!("at most {}", number(high))),
        Bound::Excluded(high) => Some(format!("below {}", number(high))),
        Bound::Unbounded => None,
    };
    match (start, end, low, high) {
        (Bound::Included(low), Bound::Included(high), ..) => {
            format!("from {} to {}", number(low), number(high))
        }
        (.., Some(low), Some(high)) => format!("{low} and {high}"),
        (.., low, high) => low.or(high).unwrap_or_else(|| "anything".to_owned()),
    }
}

/// A number in full, or as a power of two if it is large.
fn number(number: &impl Display) -> String {
    let text = number.to_string();
    match text.parse::<u64>() {
        Ok(whole) if whole.is_power_of_two() && whole > 1 << 32 => format!("2^{}", whole.ilog2()),
        _ => text,
    }
}
