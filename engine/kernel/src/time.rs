//! Points in time as tree blobs have them: RFC 3339 with up to nine digits, in the zone that the writer's host had.

use std::fmt;

/// Seconds and nanoseconds since the epoch, and the zone that the text was in: it decides the bytes, not the instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    secs: i64,
    nanos: u32,
    offset_minutes: i16,
}

const DAY: i64 = 86_400;

impl Default for Time {
    /// Go's zero time, 0001-01-01T00:00:00Z: what a node without the field has.
    fn default() -> Self {
        Time { secs: -62_135_596_800, nanos: 0, offset_minutes: 0 }
    }
}

impl Time {
    /// From a `stat`: years are clamped to 0..=9999 as restic does, the text will be in UTC.
    ///
    /// `nanos` at or above 10^9, which no kernel gives, are cut to 999,999,999.
    pub fn from_unix(secs: i64, nanos: u32) -> Self {
        let (year, ..) = civil(secs.div_euclid(DAY));
        let clamped = if (0..=9999).contains(&year) {
            secs
        } else {
            let (_, month, day) = civil(secs.div_euclid(DAY));
            days(year.clamp(0, 9999), month, day) * DAY + secs.rem_euclid(DAY)
        };
        Time { secs: clamped, nanos: nanos.min(999_999_999), offset_minutes: 0 }
    }

    pub fn secs(self) -> i64 {
        self.secs
    }

    pub fn nanos(self) -> u32 {
        self.nanos
    }

    pub fn same_instant(self, other: Time) -> bool {
        (self.secs, self.nanos) == (other.secs, other.nanos)
    }

    pub fn is_after(self, other: Time) -> bool {
        (self.secs, self.nanos) > (other.secs, other.nanos)
    }

    /// Parse RFC 3339 as Go's `time.Time.UnmarshalJSON` does; None where it would refuse the text.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| {
            text.get(range)?
                .iter()
                .try_fold(0i64, |value, b| b.is_ascii_digit().then(|| value * 10 + i64::from(b - b'0')))
        };
        let mark = |at: usize, byte: u8| (text.get(at) == Some(&byte)).then_some(());
        for (at, byte) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
            mark(at, byte)?;
        }
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        if !(1..=12).contains(&month)
            || day < 1
            || day > days_in(year, month)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return None;
        }
        let mut at = 19;
        let mut nanos = 0;
        if let Some(b'.' | b',') = text.get(at) {
            let digits = text[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            nanos = number(at + 1..at + 1 + digits.min(9))? as u32 * 10u32.pow(9 - digits.min(9) as u32);
            at += 1 + digits;
        }
        let offset = match *text.get(at)? {
            b'Z' if text.len() == at + 1 => 0,
            sign @ (b'+' | b'-') if text.len() == at + 6 => {
                mark(at + 3, b':')?;
                let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                (hours * 60 + minutes) * if sign == b'-' { -1 } else { 1 }
            }
            _ => return None,
        };
        let local = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        Some(Time { secs: local - offset * 60, nanos, offset_minutes: offset as i16 })
    }

    /// Append the text that Go writes for this instant in this zone, without quotes.
    pub fn write_into(self, out: &mut Vec<u8>) {
        let local = self.secs + i64::from(self.offset_minutes) * 60;
        let (year, month, day) = civil(local.div_euclid(DAY));
        let second = local.rem_euclid(DAY);
        let mut number = |value: i64, width: u32, before: &[u8]| {
            out.extend_from_slice(before);
            for place in (0..width).rev() {
                out.push(b'0' + (value / 10i64.pow(place) % 10) as u8);
            }
        };
        number(year, 4, b"");
        number(month, 2, b"-");
        number(day, 2, b"-");
        number(second / 3600, 2, b"T");
        number(second / 60 % 60, 2, b":");
        number(second % 60, 2, b":");
        if self.nanos > 0 {
            let (mut fraction, mut width) = (i64::from(self.nanos), 9);
            while fraction % 10 == 0 {
                fraction /= 10;
                width -= 1;
            }
            number(fraction, width, b".");
        }
        if self.offset_minutes == 0 {
            out.push(b'Z');
        } else {
            let offset = i64::from(self.offset_minutes);
            number(offset.abs() / 60, 2, if offset < 0 { b"-" } else { b"+" });
            number(offset.abs() % 60, 2, b":");
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(35);
        self.write_into(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// Days since the epoch of a date in the proleptic Gregorian calendar; a day past the month's end runs into the next.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date (year, month, day) of a day since the epoch.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = (shifted + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_both_ways() {
        for (text, secs, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2024-02-29T23:59:59.000000001Z", 1_709_251_199, 1),
            ("2021-06-12T14:00:00.5+02:00", 1_623_499_200, 500_000_000),
            ("2015-10-15T07:12:49.120034-07:30", 1_444_920_169, 120_034_000),
            ("1969-12-31T23:59:59.999999999Z", -1, 999_999_999),
            ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
            ("0000-01-01T00:00:00Z", -62_167_219_200, 0),
            ("9999-12-31T23:59:59Z", 253_402_300_799, 0),
            ("1900-01-01T00:53:28+00:53", -2_208_988_772, 0),
        ] {
            let time = Time::parse(text.as_bytes()).expect(text);
            assert_eq!((time.secs(), time.nanos()), (secs, nanos), "{text}");
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn writes_what_go_would_write_again() {
        for (text, again) in [
            ("2020-01-01T00:00:00.10Z", "2020-01-01T00:00:00.1Z"),
            ("2020-01-01T00:00:00+00:00", "2020-01-01T00:00:00Z"),
            ("2020-01-01T00:00:00.1234567899Z", "2020-01-01T00:00:00.123456789Z"),
            ("2020-01-01T00:00:00.000Z", "2020-01-01T00:00:00Z"),
            ("2020-01-01T00:00:00,5Z", "2020-01-01T00:00:00.5Z"),
        ] {
            assert_eq!(Time::parse(text.as_bytes()).expect(text).to_string(), again);
        }
    }

    #[test]
    fn every_day_of_ten_thousand_years_survives() {
        let (first, last) = (days(0, 1, 1), days(9999, 12, 31));
        let mut expected = (0, 1, 1);
        for day in first..=last {
            assert_eq!(civil(day), expected);
            assert_eq!(days(expected.0, expected.1, expected.2), day);
            expected.2 += 1;
            if expected.2 > days_in(expected.0, expected.1) {
                expected = if expected.1 == 12 { (expected.0 + 1, 1, 1) } else { (expected.0, expected.1 + 1, 1) };
            }
        }
    }

    #[test]
    fn nanoseconds_lose_only_trailing_zeros() {
        for nanos in [1, 10, 123, 100_000_000, 120_000_000, 999_999_999, 1_000, 7_000_000, 10_000_001] {
            let time = Time::from_unix(1_700_000_000, nanos);
            let again = Time::parse(time.to_string().as_bytes()).expect("own text parses");
            assert_eq!(again, time);
            assert!(!time.to_string().ends_with("0Z"), "{time}");
        }
    }

    #[test]
    fn years_are_clamped_as_restic_does() {
        assert_eq!(Time::from_unix(253_402_300_800, 5).to_string(), "9999-01-01T00:00:00.000000005Z");
        assert_eq!(Time::from_unix(-62_167_219_201, 0).to_string(), "0000-12-31T23:59:59Z");
        // Year 12000 has a 29 February, 9999 has none: Go's AddDate runs into March.
        assert_eq!(Time::from_unix(days(12_000, 2, 29) * DAY, 0).to_string(), "9999-03-01T00:00:00Z");
        for secs in [i64::MIN, i64::MAX, i64::MIN + 1, i64::MAX - 1] {
            let time = Time::from_unix(secs, u32::MAX);
            assert_eq!(Time::parse(time.to_string().as_bytes()), Some(time));
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for bad in [
            "",
            "2020",
            "2020-13-01T00:00:00Z",
            "2020-00-01T00:00:00Z",
            "2021-02-29T00:00:00Z",
            "2020-01-01T24:00:00Z",
            "2020-01-01T00:60:00Z",
            "2020-01-01T00:00:60Z",
            "2020-01-01 00:00:00Z",
            "2020-01-01T00:00:00",
            "2020-01-01T00:00:00.Z",
            "2020-01-01T00:00:00+24:00",
            "2020-01-01T00:00:00+01:60",
            "2020-01-01T00:00:00+0100",
            "2020-01-01T00:00:00Zx",
            "2020-01-01T0:00:00Z",
            "-001-01-01T00:00:00Z",
            "12020-01-01T00:00:00Z",
        ] {
            assert_eq!(Time::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
