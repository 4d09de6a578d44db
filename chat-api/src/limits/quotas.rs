//! How much somebody may write: bytes of text, files and rows, by visitor, chatbot and tenant.
//!
//! [`ByteQuotas`] is what is configured, [`Usage`] what was used. What is used of a quota with a period leaks away over it, like
//! a bucket with a hole: as much as the quota at once, then as much in each period. ByteQuotas of what is kept have no period.
//! An ordinary visitor or shop never meets one of them.
//!
//! Bytes in the log are counted as the log has them, by [`follow`](super::usage::follow), so nothing that is written passes
//! by; files by whoever takes them in.

use crate::store::usage::StoredCount;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// Counts kept in memory, some 10 MiB; when there are more, those that are used least are forgotten.
pub(super) const COUNTS_MAX: usize = 100_000;

macro_rules! quotas {
    ($($(#[$doc:meta])* $quota:ident = $name:literal, $default:literal, $what:literal;)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ByteQuota {
            $($(#[$doc])* $quota,)*
        }

        impl ByteQuota {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$quota),*];

            /// The name in the configuration and in the table of counts.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$quota => $name,)* }
            }

            /// The stable code of its error.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$quota => concat!($name, "_quota"),)* }
            }

            /// What it's about, for its error.
            fn what(self) -> &'static str {
                match self { $(Self::$quota => $what,)* }
            }

            fn default_amount(self) -> &'static str {
                match self { $(Self::$quota => $default,)* }
            }
        }
    };
}

quotas! {
    /// What a visitor's doings come to in the log; some 8,000 messages.
    VisitorText = "visitor_text", "8MiB/day", "this visitor has written much";
    /// The same of all visitors of a chatbot; some two million messages.
    ChatbotText = "chatbot_text", "2GiB/day", "the visitors of this chatbot have written much";
    /// What everything of a tenant but its own rows comes to in the log.
    TenantText = "tenant_text", "8GiB/day", "this tenant has written much";
    /// Rows of a tenant's own data sources, as the log has them.
    TenantRows = "tenant_rows", "16GiB/day", "this tenant has sent many rows";
    /// All that the log keeps of a tenant.
    TenantLog = "tenant_log", "100GiB", "the log keeps as much of this tenant as it may";
    /// Files of a visitor.
    VisitorFiles = "visitor_files", "100MiB/day", "this visitor has sent many files";
    /// Files of all visitors of a chatbot.
    ChatbotFiles = "chatbot_files", "4GiB/day", "the visitors of this chatbot have sent many files";
    /// Files in a tenant's conversations, whoever sends them.
    TenantFiles = "tenant_files", "16GiB/day", "many files were sent in this tenant's conversations";
    /// All that is kept of a tenant's files.
    TenantFilesKept = "tenant_files_kept", "100GiB", "as many files of this tenant are kept as may be";
}

/// A quota's size, written `100MiB/day`, `2GiB/h` or, of what is kept, `50GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Bytes at once.
    pub bytes: u64,
    /// In which as many leak away again; never, when there is none.
    pub period_ms: Option<u64>,
}

/// A quota or a name that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuota {
    /// Not of the form.
    #[error(
        "'{0}' isn't a quota: expected a number with KiB, MiB or GiB, and /day or /h, for example 100MiB/day, or off"
    )]
    Amount(String),
    /// A quota of what is kept has no period, every other has one.
    #[error("'{1}' isn't a size of {0}: {what}", what = if *.2 { "it needs /day or /h" } else { "what is kept has no period" })]
    Period(&'static str, String, bool),
    /// No such quota.
    #[error("there is no quota '{0}'; there are {names}, and all", names = names())]
    Name(String),
}

fn names() -> String {
    ByteQuota::ALL.iter().map(|quota| quota.name()).collect::<Vec<_>>().join(", ")
}

/// Bytes, written `100MiB`.
///
/// # Errors
/// `None` for what isn't.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit.trim() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

impl FromStr for Amount {
    type Err = InvalidQuota;

    fn from_str(text: &str) -> Result<Self, InvalidQuota> {
        let read = || {
            let (size, period_ms) = match text.split_once('/') {
                None => (text, None),
                Some((size, period)) => match period.trim() {
                    "h" => (size, Some(3_600_000)),
                    "day" => (size, Some(86_400_000)),
                    _ => return None,
                },
            };
            let bytes = bytes(size)?;
            (bytes > 0).then_some(Self { bytes, period_ms })
        };
        read().ok_or_else(|| InvalidQuota::Amount(text.to_owned()))
    }
}

/// The size of each quota; `None` is no quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByteQuotas([Option<Amount>; ByteQuota::ALL.len()]);

impl Default for ByteQuotas {
    fn default() -> Self {
        let mut quotas = Self::off();
        for quota in ByteQuota::ALL {
            quotas.0[*quota as usize] = Some(quota.default_amount().parse().expect("the defaults are quotas"));
        }
        quotas
    }
}

impl ByteQuotas {
    /// No quotas.
    #[must_use]
    pub const fn off() -> Self {
        Self([None; ByteQuota::ALL.len()])
    }

    /// The size of one.
    #[must_use]
    pub fn get(&self, quota: ByteQuota) -> Option<Amount> {
        self.0[quota as usize]
    }

    /// Sets one by its name to a size or `off`, or `all` of them to `off`.
    ///
    /// # Errors
    /// Says what is wrong with either.
    pub fn set(&mut self, name: &str, amount: &str) -> Result<(), InvalidQuota> {
        let off = amount.trim() == "off";
        if name == "all" && off {
            *self = Self::off();
            return Ok(());
        }
        let quota = ByteQuota::ALL.iter().find(|quota| quota.name() == name);
        let quota = *quota.ok_or_else(|| InvalidQuota::Name(name.to_owned()))?;
        let amount: Option<Amount> = if off { None } else { Some(amount.parse()?) };
        let leaks = quota.leaks();
        if let Some(amount) = amount
            && amount.period_ms.is_some() != leaks
        {
            return Err(InvalidQuota::Period(quota.name(), format!("{} bytes", amount.bytes), leaks));
        }
        self.0[quota as usize] = amount;
        Ok(())
    }
}

impl ByteQuota {
    /// Whether what is used leaks away; else it's kept.
    fn leaks(self) -> bool {
        !matches!(self, Self::TenantLog | Self::TenantFilesKept)
    }
}

/// A quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedUp {
    /// Which.
    pub quota: ByteQuota,
    /// Whole seconds after which there is room again; none when there won't be by itself.
    pub retry_after_s: Option<u64>,
}

impl fmt::Display for UsedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.quota.what())?;
        match self.retry_after_s {
            Some(seconds) => write!(f, "; try again in {seconds} s"),
            None => f.write_str("; whoever runs this server can raise the quota"),
        }
    }
}

/// Whose count it is: an id.
pub type Whose = [u8; 16];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    used: u64,
    /// When `used` was so much, in ms since 1970.
    at_ms: i64,
    /// Changed since it was stored.
    dirty: bool,
}

impl Count {
    fn used_at(self, amount: Option<Amount>, now_ms: i64) -> u64 {
        let Some(Amount { bytes, period_ms: Some(period_ms) }) = amount else { return self.used };
        let passed = u64::try_from(now_ms - self.at_ms).unwrap_or(0);
        let leaked = u128::from(bytes) * u128::from(passed) / u128::from(period_ms);
        self.used.saturating_sub(u64::try_from(leaked).unwrap_or(u64::MAX))
    }
}

/// What was used of every quota.
#[derive(Debug)]
pub struct Usage {
    quotas: ByteQuotas,
    counts: Mutex<HashMap<(ByteQuota, Whose), Count>>,
}

impl Usage {
    /// Nothing used.
    #[must_use]
    pub fn new(quotas: ByteQuotas) -> Self {
        Self { quotas, counts: Mutex::default() }
    }

    /// Whether there is room for so many bytes in each of these quotas. Takes nothing.
    ///
    /// # Errors
    /// The first that is used up.
    pub fn check(&self, of: &[(ByteQuota, Whose)], bytes: u64, now_ms: i64) -> Result<(), UsedUp> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        self.room(&counts, of, bytes, now_ms)
    }

    /// Takes so many bytes of each of these.
    ///
    /// # Errors
    /// The first that is used up; then nothing is taken.
    pub fn take(&self, of: &[(ByteQuota, Whose)], bytes: u64, now_ms: i64) -> Result<(), UsedUp> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        self.room(&counts, of, bytes, now_ms)?;
        of.iter().for_each(|of| self.change(&mut counts, *of, now_ms, |used| used.saturating_add(bytes)));
        Ok(())
    }

    /// Counts what was used already, whether there was room or not.
    pub fn add(&self, of: &[(ByteQuota, Whose)], bytes: u64, now_ms: i64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        of.iter().for_each(|of| self.change(&mut counts, *of, now_ms, |used| used.saturating_add(bytes)));
    }

    /// What was taken and isn't needed.
    pub fn give_back(&self, of: &[(ByteQuota, Whose)], bytes: u64, now_ms: i64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        of.iter().for_each(|of| self.change(&mut counts, *of, now_ms, |used| used.saturating_sub(bytes)));
    }

    /// Says what is kept of everybody, which was found out elsewhere; of who isn't named, nothing.
    pub fn set_all(&self, quota: ByteQuota, kept: &HashMap<Whose, u64>, now_ms: i64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for ((of, whose), count) in counts.iter_mut() {
            if *of == quota && !kept.contains_key(whose) {
                *count = Count { used: 0, at_ms: now_ms, dirty: true };
            }
        }
        kept.iter().for_each(|(whose, bytes)| self.change(&mut counts, (quota, *whose), now_ms, |_| *bytes));
    }

    /// How much of a quota there is at once; without end when there is no quota.
    #[must_use]
    pub fn quota(&self, quota: ByteQuota) -> u64 {
        self.quotas.get(quota).map_or(u64::MAX, |amount| amount.bytes)
    }

    /// Counts that were stored.
    pub fn restore(&self, stored: Vec<StoredCount>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, whose, used, at_ms) in stored {
            // One of a quota that there is no more isn't anybody's.
            if let Some(quota) = ByteQuota::ALL.iter().find(|quota| quota.name() == name) {
                counts.insert((*quota, whose), Count { used, at_ms, dirty: false });
            }
        }
    }

    /// The counts that changed since the last call; those that have leaked away are 0.
    pub fn changed(&self, now_ms: i64) -> Vec<StoredCount> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Vec::new();
        counts.retain(|(quota, whose), count| {
            let used = count.used_at(self.quotas.get(*quota), now_ms);
            if std::mem::take(&mut count.dirty) || used == 0 {
                changed.push((quota.name().to_owned(), *whose, used, now_ms));
                (count.used, count.at_ms) = (used, now_ms);
            }
            used > 0
        });
        changed
    }

    fn room(
        &self,
        counts: &HashMap<(ByteQuota, Whose), Count>,
        of: &[(ByteQuota, Whose)],
        bytes: u64,
        now_ms: i64,
    ) -> Result<(), UsedUp> {
        for of in of {
            let Some(amount) = self.quotas.get(of.0) else { continue };
            let used = counts.get(of).map_or(0, |count| count.used_at(Some(amount), now_ms));
            let over = used.saturating_add(bytes).saturating_sub(amount.bytes);
            if over == 0 {
                continue;
            }
            metrics::counter!("parlance_quota_used_up_total", "quota" => of.0.name()).increment(1);
            let retry_after_s = amount.period_ms.map(|period_ms| {
                let wait = u128::from(over) * u128::from(period_ms) / u128::from(amount.bytes) / 1_000;
                u64::try_from(wait).unwrap_or(u64::MAX).saturating_add(1)
            });
            return Err(UsedUp { quota: of.0, retry_after_s });
        }
        Ok(())
    }

    fn change(
        &self,
        counts: &mut HashMap<(ByteQuota, Whose), Count>,
        of: (ByteQuota, Whose),
        now_ms: i64,
        new: impl FnOnce(u64) -> u64,
    ) {
        if self.quotas.get(of.0).is_none() {
            return;
        }
        if counts.len() >= COUNTS_MAX && !counts.contains_key(&of) {
            self.make_room(counts, now_ms);
        }
        let count = counts.entry(of).or_insert(Count { used: 0, at_ms: now_ms, dirty: true });
        let used = new(count.used_at(self.quotas.get(of.0), now_ms));
        *count = Count { used, at_ms: now_ms, dirty: true };
    }

    /// Forgets the half of the visitors' counts that is used least. Those of chatbots and tenants stay: they are few.
    fn make_room(&self, counts: &mut HashMap<(ByteQuota, Whose), Count>, now_ms: i64) {
        let visitors = |quota: ByteQuota| matches!(quota, ByteQuota::VisitorText | ByteQuota::VisitorFiles);
        let used = |of: &(ByteQuota, Whose), count: &Count| count.used_at(self.quotas.get(of.0), now_ms);
        let mut all: Vec<u64> =
            counts.iter().filter(|(of, _)| visitors(of.0)).map(|(of, count)| used(of, count)).collect();
        if all.is_empty() {
            return;
        }
        let middle = all.len() / 2;
        let (_, median, _) = all.select_nth_unstable(middle);
        let median = *median;
        let mut forgotten = 0;
        counts.retain(|of, count| {
            let goes = visitors(of.0) && used(of, count) <= median && forgotten <= middle;
            forgotten += usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    const ME: (ByteQuota, Whose) = (ByteQuota::VisitorText, [1; 16]);
    const SHOP: (ByteQuota, Whose) = (ByteQuota::TenantText, [2; 16]);

    fn usage(quotas: &[(&str, &str)]) -> Usage {
        let mut all = ByteQuotas::off();
        quotas.iter().for_each(|(name, amount)| all.set(name, amount).expect("a quota"));
        Usage::new(all)
    }

    #[test]
    fn a_quota_is_used_up_and_leaks_away() {
        let usage = usage(&[("visitor_text", "1MiB/day"), ("tenant_text", "1GiB/day")]);
        assert_eq!(usage.take(&[ME, SHOP], 1 << 20, 0), Ok(()));
        let refused = usage.take(&[SHOP, ME], 1 << 19, 0).expect_err("used up");
        assert_eq!(refused, UsedUp { quota: ByteQuota::VisitorText, retry_after_s: Some(43_201) });
        assert_eq!(usage.check(&[SHOP], (1 << 30) - (1 << 20), 0), Ok(()), "of the others nothing was taken then");
        assert_eq!(usage.take(&[ME], 1 << 19, 43_201_000), Ok(()), "when it says so");
        assert!(usage.take(&[ME], 1 << 19, 43_201_000).is_err());
        assert_eq!(usage.take(&[ME], 1 << 20, 3 * DAY_MS), Ok(()), "left alone for long, all is there and no more");
        assert!(usage.take(&[ME], 1, 3 * DAY_MS).is_err());
        assert_eq!(usage.take(&[(ByteQuota::VisitorText, [3; 16])], 1, 0), Ok(()), "another one's is another");
        usage.give_back(&[ME], 1 << 20, 3 * DAY_MS);
        assert_eq!(usage.take(&[ME], 1 << 20, 3 * DAY_MS), Ok(()));
        // A clock that was set back doesn't give more.
        assert!(usage.take(&[ME], 1, 0).is_err());
    }

    #[test]
    fn what_is_kept_does_not_leak() {
        let kept = (ByteQuota::TenantFilesKept, [1; 16]);
        let usage = usage(&[("tenant_files_kept", "1MiB")]);
        usage.add(&[kept], 2 << 20, 0);
        let refused = usage.take(&[kept], 1, 1_000 * DAY_MS).expect_err("used up");
        assert_eq!(refused, UsedUp { quota: ByteQuota::TenantFilesKept, retry_after_s: None });
        usage.set_all(ByteQuota::TenantFilesKept, &HashMap::from([([2; 16], 5)]), 0);
        assert_eq!(usage.take(&[kept], 1, 0), Ok(()));
    }

    #[test]
    fn counts_survive_in_a_store() {
        let quotas = [("visitor_text", "1MiB/day"), ("tenant_text", "1GiB/day")];
        let before = usage(&quotas);
        before.add(&[ME, SHOP], 1 << 20, 0);
        let stored = before.changed(0);
        assert_eq!(stored.len(), 2);
        assert!(before.changed(0).is_empty(), "nothing has changed since");
        let after = usage(&quotas);
        after.restore(stored);
        assert!(after.take(&[ME], 1 << 19, 0).is_err());
        assert_eq!(after.take(&[ME], 1 << 19, DAY_MS / 2), Ok(()));
        // What has leaked away is said once, and is no count any more.
        assert!(after.changed(3 * DAY_MS).iter().all(|(_, _, used, _)| *used == 0));
        assert!(after.counts.lock().expect("nobody panicked").is_empty());
    }

    #[test]
    fn counts_in_memory_are_bounded_and_the_most_used_stay() {
        let usage = usage(&[("visitor_text", "1MiB/day"), ("tenant_text", "1GiB/day")]);
        usage.add(&[ME, SHOP], 1 << 20, 0);
        for number in 0..3 * COUNTS_MAX as u128 {
            usage.add(&[(ByteQuota::VisitorText, number.to_be_bytes())], 1_000, 0);
        }
        assert!(usage.counts.lock().expect("nobody panicked").len() <= COUNTS_MAX);
        assert!(usage.take(&[ME], 1, 0).is_err(), "who has used much isn't forgotten");
        assert_eq!(usage.take(&[SHOP], 1 << 30, 0).expect_err("nor is a tenant").quota, ByteQuota::TenantText);
    }

    /// The operator's table has all of them with their defaults.
    #[test]
    fn every_quota_is_documented() {
        let page = include_str!("../../../docs/OPERATIONS.md");
        for quota in ByteQuota::ALL {
            let row = format!("| `{}` | {} |", quota.name(), quota.default_amount());
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn quotas_are_read_and_named() {
        let amount = |bytes, period_ms| -> Result<Amount, InvalidQuota> { Ok(Amount { bytes, period_ms }) };
        assert_eq!("100MiB/day".parse(), amount(100 << 20, Some(86_400_000)));
        assert_eq!("2 GiB/h".parse(), amount(2 << 30, Some(3_600_000)));
        assert_eq!("1TiB".parse(), amount(1 << 40, None));
        for wrong in ["", "100", "MiB", "0MiB/day", "1MB/day", "1MiB/month", "-1MiB", "99999999999999TiB"] {
            assert!(wrong.parse::<Amount>().is_err(), "{wrong}");
        }
        let mut quotas = ByteQuotas::default();
        assert!(
            ByteQuota::ALL
                .iter()
                .all(|quota| quotas.get(*quota).is_some_and(|a| a.period_ms.is_some() == quota.leaks()))
        );
        quotas.set("visitor_text", "off").expect("known");
        assert_eq!(quotas.get(ByteQuota::VisitorText), None);
        assert!(quotas.set("visitor", "off").expect_err("unknown").to_string().contains("chatbot_text"));
        assert!(quotas.set("tenant_log", "1GiB/day").is_err() && quotas.set("tenant_text", "1GiB").is_err());
        quotas.set("all", "off").expect("known");
        assert_eq!(quotas, ByteQuotas::off());
    }
}
