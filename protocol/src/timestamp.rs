//! Moments as RFC 3339 text in UTC with milliseconds: `2026-11-24T17:03:11.042Z`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_A_DAY: i64 = 86_400;
/// The first second of the year 10000, which RFC 3339 cannot write.
const END: i64 = 253_402_300_800;

/// A moment between the years 1970 and 9999, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    milliseconds: i64,
}

/// A text that is not a moment in RFC 3339's form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a time in RFC 3339's form between 1970 and 9999; expected e.g. `2026-11-24T17:03:11.042Z`"
)]
pub struct TimestampError {
    found: String,
}

impl Timestamp {
    /// This moment, by the clock of this machine.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// How long ago this was; zero when the clock of the writer is ahead of ours.
    pub fn age(self) -> Duration {
        Self::now().since(self)
    }

    /// The time from `earlier` to this moment; zero when `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.milliseconds - earlier.milliseconds).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let last = END * 1000 - 1;
        Self { milliseconds: i64::try_from(elapsed).unwrap_or(last).min(last) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, fraction) = (self.milliseconds / 1000, self.milliseconds % 1000);
        let (year, month, day) = civil_from_days(seconds / SECONDS_A_DAY);
        let of_day = seconds % SECONDS_A_DAY;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z")
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let milliseconds = parse(text.as_bytes()).filter(|at| (0..END * 1000).contains(at));
        milliseconds
            .map(|milliseconds| Self { milliseconds })
            .ok_or_else(|| TimestampError { found: text.chars().take(40).collect() })
    }
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

/// Milliseconds since 1970, or none if the text is not `YYYY-MM-DDTHH:MM:SS[.fraction](Z|+HH:MM|-HH:MM)`.
fn parse(text: &[u8]) -> Option<i64> {
    let (head, mut rest) = text.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(place, separator)| head[*place].to_ascii_uppercase() != *separator) {
        return None;
    }
    let number = |from: usize, to: usize| digits(&head[from..to]);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    // A leap second (60) is read as the second after it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut milliseconds = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        for place in 0..3 {
            let digit = fraction[..length].get(place).map_or(0, |byte| i64::from(byte - b'0'));
            milliseconds = milliseconds * 10 + digit;
        }
        rest = &fraction[length..];
    }
    let seconds = days_from_civil(year, month, day) * SECONDS_A_DAY + hour * 3600 + minute * 60 + second;
    Some((seconds - offset_seconds(rest)?) * 1000 + milliseconds)
}

/// `Z` or `+HH:MM` or `-HH:MM`.
fn offset_seconds(text: &[u8]) -> Option<i64> {
    let sign = match text {
        b"Z" | b"z" => return Some(0),
        [b'+', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let (hours, minutes) = (digits(&text[1..3])?, digits(&text[4..6])?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days in the years `1..year` of the Gregorian calendar.
fn days_before_year(year: i64) -> i64 {
    let past = year - 1;
    past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let of_year: i64 = (1..month).map(|month| days_in_month(year, month)).sum();
    days_before_year(year) - days_before_year(1970) + of_year + day - 1
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // A year is at most 366 days, so the estimate is never past the right year, and soon there.
    let mut year = 1970 + days / 366;
    while days_from_civil(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut day = days - days_from_civil(year, 1, 1);
    let mut month = 1;
    while day >= days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
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
        let same = "2026-11-24T17:03:11.500Z".parse::<Timestamp>().unwrap();
        for text in
            ["2026-11-24t17:03:11.5z", "2026-11-24T18:03:11.500999+01:00", "2026-11-24T11:33:11.50-05:30"]
        {
            assert_eq!(text.parse(), Ok(same), "{text}");
        }
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
            "`now` is not a time in RFC 3339's form between 1970 and 9999; expected e.g. `2026-11-24T17:03:11.042Z`"
        );
    }

    #[test]
    fn ages_are_never_negative() {
        assert_eq!(at(5_000).since(at(3_500)), Duration::from_millis(1500));
        assert_eq!(at(3_500).since(at(5_000)), Duration::ZERO);
        assert!(Timestamp::now().age() < Duration::from_mins(1));
    }

    /// Moments all over the range, of every remainder: a stride that has no factor in common with days or seconds.
    fn everywhere() -> impl Iterator<Item = i64> {
        (0..END * 1000).step_by(86_399_999_989)
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
    fn every_first_of_march_is_the_day_after_february() {
        for year in 1970..10_000 {
            let day = days_from_civil(year, 3, 1);
            assert_eq!(civil_from_days(day), (year, 3, 1));
            assert_eq!(civil_from_days(day - 1), (year, 2, if is_leap(year) { 29 } else { 28 }));
        }
    }

    #[test]
    fn a_damaged_time_is_answered() {
        let text = "2026-11-24T17:03:11.042+01:00";
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
