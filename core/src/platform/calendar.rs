//! The proleptic Gregorian calendar, by counting days from 1970-01-01.
//!
//! Years are counted from March, so that the leap day is a year's last; an era is 400 years, which always have the same length.

const DAYS_PER_ERA: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

/// Days from 1970-01-01 to a date. Months and days outside their range count on from the nearest that exists.
pub fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let month = i64::from(month.clamp(1, 12));
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(day.max(1)) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - EPOCH
}

/// Year, month (1–12) and day (1–31) of a count of days from 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let days = days + EPOCH;
    let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (
        era * 400 + year_of_era + i64::from(month <= 2),
        month as u8,
        day as u8,
    )
}

/// 0 is Sunday.
pub fn weekday(days: i64) -> u8 {
    (days + 4).rem_euclid(7) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        for (days, date, on) in [
            (0, (1970, 1, 1), 4),
            (-1, (1969, 12, 31), 3),
            (11_016, (2000, 2, 29), 2),
            (11_017, (2000, 3, 1), 3),
            (20_089, (2025, 1, 1), 3),
            (-25_508, (1900, 3, 1), 4),
        ] {
            assert_eq!(civil_from_days(days), date);
            assert_eq!(days_from_civil(date.0, date.1, date.2), days);
            assert_eq!(weekday(days), on, "{date:?}");
        }
    }

    #[test]
    fn both_directions_agree_for_centuries() {
        let mut previous = civil_from_days(-200_001);
        for days in -200_000..200_000 {
            let date = civil_from_days(days);
            assert!(date > previous);
            assert_eq!(days_from_civil(date.0, date.1, date.2), days);
            previous = date;
        }
    }
}
