//! A tenant's own settings: time zone, opening hours, days off, promises.

use super::time::date;
use super::{FieldFault, FieldResult, LIST_MAX, number, optional_name};
use ingest::payload::{Holiday, OpeningHours, SlaTargets};

/// Days off of a tenant: ten years of them.
const HOLIDAYS_MAX: usize = 366;

/// An IANA time zone.
///
/// # Errors
/// `unknown_time_zone`.
pub fn time_zone(field: &str, text: &str) -> FieldResult<String> {
    match text.parse::<chrono_tz::Tz>() {
        Ok(zone) => Ok(zone.name().to_owned()),
        Err(_) => {
            let detail = format!("'{field}' is not an IANA time zone, for example Europe/Berlin");
            Err(FieldFault::new(field, "unknown_time_zone", detail))
        }
    }
}

/// Opening hours: stretches of days that don't overlap; answered by day and time.
///
/// # Errors
/// `invalid_hours`.
pub fn opening_hours(list: &[OpeningHours]) -> FieldResult<Vec<OpeningHours>> {
    let invalid = |detail: &str| FieldFault::new("openingHours", "invalid_hours", format!("'openingHours' {detail}"));
    if list.len() > LIST_MAX {
        return Err(invalid("has at most 100 entries"));
    }
    let mut hours = list.to_vec();
    for stretch in &hours {
        match (clock_minutes(&stretch.from), clock_minutes(&stretch.to)) {
            (Some(from), Some(to)) if from < to => {}
            _ => return Err(invalid("has times as HH:MM, 'from' before 'to', at most 24:00")),
        }
    }
    hours.sort_by(|left, right| (left.day, &left.from).cmp(&(right.day, &right.from)));
    if hours.windows(2).any(|pair| pair[0].day == pair[1].day && pair[0].to > pair[1].from) {
        return Err(invalid("has stretches that overlap"));
    }
    Ok(hours)
}

/// Minutes of the day of `HH:MM`, 24:00 included.
fn clock_minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !two_digits(hours) || !two_digits(minutes) {
        return None;
    }
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60 && hours * 60 + minutes <= 24 * 60).then_some(hours * 60 + minutes)
}

/// Days off, by date, each once.
///
/// # Errors
/// `too_many`, `invalid_date`, `time_out_of_range`; those of a name.
pub fn holidays(list: &[Holiday]) -> FieldResult<Vec<Holiday>> {
    if list.len() > HOLIDAYS_MAX {
        let detail = format!("'holidays' has at most {HOLIDAYS_MAX} entries");
        return Err(FieldFault::new("holidays", "too_many", detail));
    }
    let mut days = Vec::with_capacity(list.len());
    for day in list {
        date("holidays", &day.date)?;
        days.push(Holiday { date: day.date.clone(), name: optional_name("holidays", day.name.as_deref())? });
    }
    days.sort_by(|left, right| left.date.cmp(&right.date));
    days.dedup_by(|later, earlier| later.date == earlier.date);
    Ok(days)
}

/// Promises: from a second to a year.
///
/// # Errors
/// `out_of_range`.
pub fn sla_targets(targets: SlaTargets) -> FieldResult<SlaTargets> {
    for seconds in [targets.first_response_seconds, targets.next_response_seconds, targets.resolution_seconds] {
        number("slaTargets", seconds, 1..=365 * 24 * 60 * 60)?;
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_hours_are_stretches_of_days() {
        let stretch = |day, from: &str, to: &str| OpeningHours { day, from: from.to_owned(), to: to.to_owned() };
        let (mon, tue) = (ingest::payload::Weekday::Monday, ingest::payload::Weekday::Tuesday);
        let sorted = opening_hours(&[
            stretch(tue, "00:00", "24:00"),
            stretch(mon, "13:00", "17:30"),
            stretch(mon, "09:00", "13:00"),
        ]);
        let from: Vec<String> = sorted.expect("good").into_iter().map(|stretch| stretch.from).collect();
        assert_eq!(from, ["09:00", "13:00", "00:00"]);
        for (from, to) in
            [("9:00", "17:00"), ("09:00", "09:00"), ("17:00", "09:00"), ("09:60", "10:00"), ("23:00", "24:01")]
        {
            assert!(opening_hours(&[stretch(mon, from, to)]).is_err(), "{from} to {to}");
        }
        assert!(opening_hours(&[stretch(mon, "09:00", "13:00"), stretch(mon, "12:00", "14:00")]).is_err());
    }
}
