//! Timestamps in RFC 3339 format, UTC, with milliseconds: `2026-11-24T17:03:11.042Z`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last millisecond of the year 9999, after which RFC 3339 has no years.
const LAST: u64 = 253_402_300_799_999;

/// A time between the years 1970 and 9999 with millisecond resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    milliseconds: u64,
}

/// A text that is not an RFC 3339 timestamp.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a time in UTC in RFC 3339's form between 1970 and 9999; expected e.g. \
     `2026-11-24T17:03:11.042Z`"
)]
pub struct TimestampError {
    found: String,
}

impl Timestamp {
    /// The current time of this machine.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Time since then; zero if the clock of the writer is ahead of ours.
    pub fn age(self) -> Duration {
        Self::now().since(self)
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.milliseconds.saturating_sub(earlier.milliseconds))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self { milliseconds: u64::try_from(elapsed).unwrap_or(LAST).min(LAST) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.milliseconds)).fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let time = humantime::parse_rfc3339(text).ok().filter(|_| ends_in_utc(text));
        time.map(Self::from).ok_or_else(|| TimestampError { found: text.chars().take(40).collect() })
    }
}

/// Whether only a fraction and `Z` follow the seconds. `humantime` also accepts other endings (`.Z`, `ZZ`).
fn ends_in_utc(text: &str) -> bool {
    let fraction = text.get(19..).and_then(|end| end.strip_suffix('Z'));
    fraction.is_some_and(|fraction| match fraction.strip_prefix('.') {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => fraction.is_empty(),
    })
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp { milliseconds }
    }

    #[test]
    fn known_moments() {
        let known = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_000_000_000_123, "2001-09-09T01:46:40.123Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (milliseconds, text) in known {
            assert_eq!(at(milliseconds).to_string(), text);
            assert_eq!(text.parse(), Ok(at(milliseconds)));
        }
    }

    #[test]
    fn other_spellings_of_rfc_3339() {
        let moment = |text: &str| text.parse::<Timestamp>().unwrap().to_string();
        assert_eq!(moment("2026-11-24T17:03:11Z"), "2026-11-24T17:03:11.000Z");
        assert_eq!(moment("2026-11-24T17:03:11.5Z"), "2026-11-24T17:03:11.500Z");
        assert_eq!(moment("2026-11-24T17:03:11.500999Z"), "2026-11-24T17:03:11.500Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-11-24",
            "2026-11-24 17:03:11Z",
            "2026-11-24T17:03:11",
            "2026-11-24T17:03:11.Z",
            "2026-11-24T18:03:11+01:00",
            "2026-13-24T17:03:11Z",
            "2026-02-29T17:03:11Z",
            "2026-11-24T24:03:11Z",
            "2026-11-24T17:60:11Z",
            "2026-11-24T17:03:11+1:00",
            "2026-11-24T17:03:11+01:60",
            "2026-11-24T17:03:11ZZ",
            "-026-11-24T17:03:11Z",
            "1969-12-31T23:59:59Z",
            "2026-11-24T17:03:1\u{e9}Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        assert_eq!(
            "now".parse::<Timestamp>().unwrap_err().to_string(),
            "`now` is not a time in UTC in RFC 3339's form between 1970 and 9999; expected e.g. `2026-11-24T17:03:11.042Z`"
        );
    }

    #[test]
    fn ages_are_never_negative() {
        assert_eq!(at(5_000).since(at(3_500)), Duration::from_millis(1500));
        assert_eq!(at(3_500).since(at(5_000)), Duration::ZERO);
        assert!(Timestamp::now().age() < Duration::from_mins(1));
    }

    /// Moments all over the range, of every remainder: a stride that has no factor in common with days or seconds.
    fn everywhere() -> impl Iterator<Item = u64> {
        (0..=LAST).step_by(86_399_999_989)
    }

    #[test]
    fn text_comes_back_and_sorts_like_time() {
        let mut last = String::new();
        for milliseconds in everywhere() {
            let text = at(milliseconds).to_string();
            assert_eq!(text.parse(), Ok(at(milliseconds)));
            assert_eq!(text.len(), 24);
            assert!(text > last, "{text} {last}");
            last = text;
        }
    }

    #[test]
    fn a_damaged_time_is_answered() {
        let text = "2026-11-24T17:03:11.042Z";
        for place in 0..text.len() {
            for byte in 0..128 {
                let mut bytes = text.as_bytes().to_vec();
                bytes[place] = byte;
                let _ = String::from_utf8(bytes).unwrap().parse::<Timestamp>();
            }
            let _ = text[..place].parse::<Timestamp>();
        }
    }
}
