//! The three forms of a date on the wire (RFC 9110 section 5.6.7): IMF-fixdate, RFC 850 and asctime.
//!
//! Written by us rather than taken from a crate: it is one small grammar, and what it reads comes from strangers.

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Reads a date as seconds since 1970. `now_unix` is the wall clock, which gives a two-digit year its century. The name of
/// the day must be one, but need not fit the date. None if the text has none of the three forms.
#[must_use]
pub fn parse(value: &str, now_unix: u64) -> Option<i64> {
    let Some((day_name, rest)) = value.split_once(", ") else {
        return asctime(value);
    };
    let rest = rest.strip_suffix(" GMT")?;
    if is_short_day(day_name) {
        return imf_fixdate(rest);
    }
    DAYS.contains(&day_name)
        .then(|| rfc_850(rest, now_unix))
        .flatten()
}

// 06 Nov 1994 08:49:37
fn imf_fixdate(text: &str) -> Option<i64> {
    if text.len() != 20 || !spaces_at(text, [2, 6, 11]) {
        return None;
    }
    let (day, month, year) = (text.get(..2)?, text.get(3..6)?, text.get(7..11)?);
    seconds(digits(year, 4)?, month, digits(day, 2)?, text.get(12..)?)
}

// 06-Nov-94 08:49:37
fn rfc_850(text: &str, now_unix: u64) -> Option<i64> {
    let (date, time) = text.split_once(' ')?;
    let mut parts = date.splitn(3, '-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let year = century(digits(year, 2)?, now_unix);
    seconds(year, month, digits(day, 2)?, time)
}

// Sun Nov  6 08:49:37 1994
fn asctime(text: &str) -> Option<i64> {
    let (day_name, rest) = text.split_once(' ')?;
    if !is_short_day(day_name) || rest.len() != 20 || !spaces_at(rest, [3, 6, 15]) {
        return None;
    }
    let (month, day) = (rest.get(..3)?, rest.get(4..6)?);
    let day = match day.strip_prefix(' ') {
        Some(single) => digits(single, 1)?,
        None => digits(day, 2)?,
    };
    seconds(digits(rest.get(16..)?, 4)?, month, day, rest.get(7..15)?)
}

/// A moment as an IMF-fixdate, the only form to write (RFC 9110 section 5.6.7). Outside of the years 1 to 9999: the nearest
/// that has a form.
#[must_use]
pub fn write(unix: i64) -> [u8; 29] {
    // 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
    let unix = unix.clamp(-62_135_596_800, 253_402_300_799);
    let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    // 1970-01-01 was a Thursday.
    let day_name = DAYS[(days + 4).rem_euclid(7) as usize].as_bytes();
    let month_name = MONTHS[(month - 1) as usize].as_bytes();
    let mut text = *b"DDD, 00 MMM 0000 00:00:00 GMT";
    text[..3].copy_from_slice(&day_name[..3]);
    text[8..11].copy_from_slice(month_name);
    let fields = [
        (5, 2, day),
        (12, 4, year),
        (17, 2, second / 3600),
        (20, 2, second / 60 % 60),
        (23, 2, second % 60),
    ];
    for (at, width, mut number) in fields {
        for digit in text[at..at + width].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    text
}

// Year, month and day of the days since 1970-01-01; the way back of `days_from_epoch`.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

fn spaces_at(text: &str, places: [usize; 3]) -> bool {
    places
        .iter()
        .all(|at| text.as_bytes().get(*at) == Some(&b' '))
}

fn is_short_day(name: &str) -> bool {
    name.len() == 3 && DAYS.iter().any(|day| &day[..3] == name)
}

fn digits(text: &str, count: usize) -> Option<i64> {
    let all = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

// RFC 9110 section 5.6.7: a two-digit year that seems more than 50 years ahead is the last past year with those digits.
fn century(two_digits: i64, now_unix: u64) -> i64 {
    const YEAR_S: f64 = 365.2425 * 86_400.0;
    // A clock beyond the year 9999 is broken, and would overflow what follows.
    let this_year = (1970 + (now_unix as f64 / YEAR_S) as i64).min(9999);
    let year = this_year - this_year % 100 + two_digits;
    if year > this_year + 50 {
        year - 100
    } else {
        year
    }
}

fn seconds(year: i64, month: &str, day: i64, time: &str) -> Option<i64> {
    let month = MONTHS.iter().position(|name| *name == month)?;
    let month = i64::try_from(month).ok()? + 1;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let colons = time.len() == 8 && time.as_bytes()[2] == b':' && time.as_bytes()[5] == b':';
    if !colons || !(1..=days_in).contains(&day) {
        return None;
    }
    let hour = digits(time.get(..2)?, 2)?;
    let minute = digits(time.get(3..5)?, 2)?;
    let second = digits(time.get(6..)?, 2)?;
    // 60 is a leap second.
    let valid = hour < 24 && minute < 60 && second <= 60;
    valid.then_some(days_from_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

// Days since 1970-01-01 in the proleptic Gregorian calendar: years counted from March put the leap day last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
