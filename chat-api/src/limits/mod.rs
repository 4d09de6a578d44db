//! How often somebody may call: token buckets by address, chatbot, visitor, agent and account.
//!
//! [`Rates`] is what is configured, [`Limiter`] the buckets. A bucket is one number, the time at which it is full again
//! (the generic cell rate algorithm), so one that is full needn't be kept: memory is bounded by what is in use.
//! [`client`] says which address a request came from. [`Intake`] bounds what is held in memory on its way in, [`Reading`] on its
//! way out, [`Turns`] who does something large, [`Room`] what is written: quotas of bytes ([`quotas`], counted by [`usage`])
//! and the disk's reserve ([`disk`]).

pub mod client;
pub mod disk;
mod intake;
pub mod quotas;
mod reading;
mod room;
mod turns;
pub mod usage;

pub use client::{Cidr, ClientIp};
pub use intake::{Buffer, Intake, NoRoom, Place};
pub use reading::{Hold, Reader, Reading};
pub use room::{FileSender, NoSpace, Room};
pub use turns::{NoTurn, Turn, Turns};

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Buckets kept of one kind; some 4 MiB. When more are in use, those nearest to full are forgotten.
const BUCKETS_MAX: usize = 100_000;
/// Imports at once, one a tenant: each has a thread. A tenant that sends slowly loses its turn.
const IMPORTS_MAX: usize = 32;
/// Exports at once, one a tenant: what they have read and nobody has taken counts among the rows under way.
const EXPORTS_MAX: usize = 64;

macro_rules! limits {
    ($($(#[$doc:meta])* $limit:ident = $name:literal, $default:literal;)*) => {
        /// What is limited.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Limit {
            $($(#[$doc])* $limit,)*
        }

        impl Limit {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$limit),*];

            /// The name in the configuration.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$limit => $name,)* }
            }

            fn default_rate(self) -> &'static str {
                match self { $(Self::$limit => $default,)* }
            }
        }
    };
}

limits! {
    /// Sign-ups from an address.
    SignUpIp = "sign_up_ip", "10+10/min";
    /// Sign-ins from an address: passwords, codes, mailed links, invitations.
    LoginIp = "login_ip", "20+20/min";
    /// Sign-ins to an account, known or not.
    LoginAccount = "login_account", "10+10/min";
    /// Visitors' sessions from an address.
    SessionIp = "session_ip", "60+1/s";
    /// Visitors' sessions through a chatbot.
    SessionChatbot = "session_chatbot", "1000+50/s";
    /// Requests of a visitor.
    Visitor = "visitor", "100+20/s";
    /// Requests of an agent.
    Agent = "agent", "200+50/s";
    /// Mails of a kind to an address; more wait, or fail when they would come too late.
    MailRecipient = "mail_recipient", "20+20/h";
    /// Mails of a kind that a new tenant sends; ten times as many once an owner has proven their address, and as many more
    /// with each day of its age, a hundred times at most.
    MailTenant = "mail_tenant", "24+2/h";
}

/// A bucket's size and how it refills, written `10+10/min`: ten at once, then ten a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// Until one more.
    pub every: Duration,
}

/// A rate or a name that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRate {
    /// Not of the form.
    #[error("'{0}' isn't a rate: expected BURST+REFILL/s, …/min or …/h, for example 10+10/min, or off")]
    Rate(String),
    /// No such limit.
    #[error("there is no limit '{0}'; there are {names}, and all", names = names())]
    Name(String),
}

fn names() -> String {
    Limit::ALL.iter().map(|limit| limit.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let read = || {
            let (burst, rest) = text.split_once('+')?;
            let (refill, unit) = rest.split_once('/')?;
            let unit = match unit.trim() {
                "s" => Duration::from_secs(1),
                "min" => Duration::from_secs(60),
                "h" => Duration::from_secs(3_600),
                _ => return None,
            };
            let (burst, refill) = (burst.trim().parse().ok()?, refill.trim().parse::<u32>().ok()?);
            let every = unit.checked_div(refill)?;
            // One that refills in no time at all limits nothing.
            (burst > 0 && !every.is_zero()).then_some(Self { burst, every })
        };
        read().ok_or_else(|| InvalidRate::Rate(text.to_owned()))
    }
}

/// The rate of each limit; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates([Option<Rate>; Limit::ALL.len()]);

impl Default for Rates {
    fn default() -> Self {
        let mut rates = Self::off();
        for limit in Limit::ALL {
            rates.0[*limit as usize] = Some(limit.default_rate().parse().expect("the defaults are rates"));
        }
        rates
    }
}

impl Rates {
    /// No limits.
    #[must_use]
    pub const fn off() -> Self {
        Self([None; Limit::ALL.len()])
    }

    /// The rate of one limit.
    #[must_use]
    pub fn get(&self, limit: Limit) -> Option<Rate> {
        self.0[limit as usize]
    }

    /// Sets one limit by its name, or `all`, to a rate or `off`.
    ///
    /// # Errors
    /// Says what is wrong with either.
    pub fn set(&mut self, name: &str, rate: &str) -> Result<(), InvalidRate> {
        let rate = if rate.trim() == "off" { None } else { Some(rate.parse()?) };
        if name == "all" {
            self.0 = [rate; Limit::ALL.len()];
            return Ok(());
        }
        let limit = Limit::ALL.iter().find(|limit| limit.name() == name);
        let limit = limit.ok_or_else(|| InvalidRate::Name(name.to_owned()))?;
        self.0[*limit as usize] = rate;
        Ok(())
    }
}

/// Whose bucket it is, within one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketKey([u8; 16]);

impl BucketKey {
    /// An address; IPv6 by its /64, which one customer has whole.
    #[must_use]
    pub fn ip(address: IpAddr) -> Self {
        Self(client::network(address).to_bits().to_be_bytes())
    }

    /// An id.
    #[must_use]
    pub fn id(id: [u8; 16]) -> Self {
        Self(id)
    }

    /// Any text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&digest.as_ref()[..16]);
        Self(key)
    }
}

impl fmt::Display for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Called too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften {
    /// Which limit.
    pub limit: Limit,
    /// Whole seconds after which it goes on, at least 1.
    pub retry_after_s: u64,
}

impl fmt::Display for TooOften {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "too many requests; try again in {} s", self.retry_after_s)
    }
}

/// What a bucket with a rate of its own has left, as headers tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests a second.
    pub limit: u32,
    /// Requests that could follow at once.
    pub remaining: u32,
    /// Whole seconds until all of them could.
    pub reset_s: u64,
    /// Set when this one was refused: whole seconds until the next, at least 1.
    pub retry_after_s: Option<u64>,
}

/// All buckets of the process.
pub struct Limiter {
    rates: Rates,
    start: Instant,
    buckets: [Mutex<Buckets>; Limit::ALL.len()],
    /// Those whose rate comes with the credential.
    tokens: Mutex<Buckets>,
    /// Rows under way.
    pub intake: Intake,
    /// What was read and isn't taken yet.
    pub reading: Reading,
    /// Imports under way.
    pub imports: Turns,
    /// Exports under way.
    pub exports: Turns,
    /// What may still be written.
    pub room: Arc<Room>,
}

impl Limiter {
    /// Full buckets.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        let buckets = std::array::from_fn(|_| Mutex::default());
        Self {
            rates,
            start: Instant::now(),
            buckets,
            tokens: Mutex::default(),
            intake: Intake::default(),
            reading: Reading::default(),
            imports: Turns::new(IMPORTS_MAX),
            exports: Turns::new(EXPORTS_MAX),
            room: Arc::new(Room::unlimited()),
        }
    }

    /// The same, with quotas and a disk.
    #[must_use]
    pub fn within(self, room: Room) -> Self {
        Self { room: Arc::new(room), ..self }
    }

    /// Takes one from the bucket of a credential that brings its own rate, at least 1 a second.
    pub fn take_of_token(&self, key: BucketKey, rps: u32) -> Quota {
        let rps = rps.max(1);
        let rate = Rate { burst: rps, every: Duration::from_secs(1) / rps };
        let now = self.start.elapsed();
        let mut buckets = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = buckets.take(rate, key, now).err();
        let until_full = buckets.0.get(&key).copied().unwrap_or_default().saturating_sub(now);
        let used = until_full.as_nanos().div_ceil(rate.every.as_nanos().max(1));
        if refused.is_some() {
            metrics::counter!("parlance_rate_limited_total", "limit" => "token").increment(1);
        }
        Quota {
            limit: rps,
            remaining: rps.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX)),
            reset_s: whole_seconds(until_full),
            retry_after_s: refused.map(|wait| whole_seconds(wait).max(1)),
        }
    }

    /// Takes one from a bucket.
    ///
    /// # Errors
    /// When it's empty; then nothing is taken.
    pub fn take(&self, limit: Limit, key: BucketKey) -> Result<(), TooOften> {
        let Some(rate) = self.rates.get(limit) else { return Ok(()) };
        let mut buckets = self.buckets[limit as usize].lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(rate, key, self.start.elapsed()).map_err(|wait| {
            metrics::counter!("parlance_rate_limited_total", "limit" => limit.name()).increment(1);
            TooOften { limit, retry_after_s: whole_seconds(wait) }
        })
    }
}

/// Rounded up.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// The buckets of one limit: when each is full again, since the start. One that isn't there is full.
#[derive(Default)]
struct Buckets(HashMap<BucketKey, Duration>);

impl Buckets {
    fn take(&mut self, rate: Rate, key: BucketKey, now: Duration) -> Result<(), Duration> {
        let full_at = self.0.get(&key).copied().unwrap_or_default().max(now) + rate.every;
        let size = rate.every * rate.burst;
        if let Some(wait) = full_at.checked_sub(now + size).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        if self.0.len() >= BUCKETS_MAX && !self.0.contains_key(&key) {
            self.make_room(now);
        }
        self.0.insert(key, full_at);
        Ok(())
    }

    /// Forgets the full ones, and the half that is nearest to full if that isn't enough.
    fn make_room(&mut self, now: Duration) {
        self.0.retain(|_, full_at| *full_at > now);
        if self.0.len() <= BUCKETS_MAX / 2 {
            return;
        }
        let mut times: Vec<_> = self.0.values().copied().collect();
        let (_, median, _) = times.select_nth_unstable(BUCKETS_MAX / 2);
        let median = *median;
        self.0.retain(|_, full_at| *full_at > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn key(number: u32) -> BucketKey {
        BucketKey::id(u128::from(number).to_be_bytes())
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate: Rate = "3+2/s".parse().expect("a rate");
        let mut buckets = Buckets::default();
        let mut take = |at: u32| buckets.take(rate, key(1), MS * at);
        assert_eq!([take(0), take(0), take(0)], [Ok(()); 3]);
        assert_eq!(take(0), Err(MS * 500));
        assert_eq!(take(400), Err(MS * 100), "a refusal takes nothing");
        assert_eq!((take(500), take(500)), (Ok(()), Err(MS * 500)));
        // Left alone for long, it is full and no fuller.
        assert_eq!([take(60_000), take(60_000), take(60_000)], [Ok(()); 3]);
        assert!(take(60_000).is_err());
        assert_eq!(buckets.take(rate, key(2), MS * 60_000), Ok(()), "another one's bucket is another");
    }

    #[test]
    fn a_token_has_its_own_rate_and_is_told_what_is_left() {
        let limiter = Limiter::new(Rates::off());
        let take = || limiter.take_of_token(key(1), 3);
        let first = take();
        assert_eq!((first.limit, first.remaining, first.reset_s, first.retry_after_s), (3, 2, 1, None));
        assert_eq!([take().remaining, take().remaining], [1, 0]);
        let refused = take();
        assert_eq!((refused.remaining, refused.retry_after_s), (0, Some(1)));
        assert_eq!(limiter.take_of_token(key(2), 3).remaining, 2, "another one's bucket is another");
    }

    #[test]
    fn buckets_in_memory_are_bounded_and_the_emptiest_stay() {
        let rate: Rate = "10+1/min".parse().expect("a rate");
        let mut buckets = Buckets::default();
        (0..10).for_each(|_| buckets.take(rate, key(0), MS).expect("in its burst"));
        for number in 1..=3 * u32::try_from(BUCKETS_MAX).expect("fits") {
            buckets.take(rate, key(number), MS).expect("a full bucket");
            assert!(buckets.0.len() <= BUCKETS_MAX);
        }
        assert!(buckets.take(rate, key(0), MS).is_err(), "who called too often isn't forgotten");
        buckets.make_room(Duration::from_secs(3_600));
        assert!(buckets.0.is_empty(), "full buckets aren't kept");
    }

    #[test]
    fn rates_are_read_and_named() {
        let rate = |burst, every| -> Result<Rate, InvalidRate> { Ok(Rate { burst, every }) };
        assert_eq!("10+10/min".parse(), rate(10, Duration::from_secs(6)));
        assert_eq!("60 + 1/s".parse(), rate(60, Duration::from_secs(1)));
        assert_eq!("20+20/h".parse(), rate(20, Duration::from_secs(180)));
        for wrong in ["", "10", "10+10", "0+1/s", "1+0/s", "1+4000000000/s", "1+1/day", "-1+1/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        let mut rates = Rates::default();
        assert_eq!(rates.get(Limit::Agent), rate(200, Duration::from_millis(20)).ok());
        rates.set("all", "off").expect("known");
        assert_eq!(rates, Rates::off());
        rates.set("visitor", "1+1/s").expect("known");
        assert_eq!(rates.get(Limit::Visitor), rate(1, Duration::from_secs(1)).ok());
        assert!(rates.set("visitors", "off").expect_err("unknown").to_string().contains("session_ip"));
    }
}
