//! The accounts of an address: which of them a sign-in, a code or a link is for when no tenant is named.
//!
//! Anyone can sign up with anyone's address, so what is known of an address elsewhere must not change what its owner gets.
//! A password is compared with every account of the address, by one hash: they share a [`Salt`]. Mails go to accounts that
//! have proven the address, whoever else has signed up with it. What strangers use up of an address's [`Limit`] isn't
//! missing where its owner has signed in from before.

use super::problem::Outcome;
use crate::app::App;
use crate::auth::passwords::{self, Salt};
use crate::core::state::Agent;
use crate::import::email_hmac;
use crate::limits::client::network;
use crate::limits::{BucketKey, ClientIp, Limit, TooOften};
use crate::store::read;
use ingest::id::TenantId;
use ingest::seal::Text;
use std::net::IpAddr;

/// Accounts of an address that a code is compared with, of those that have proven it first and then of the oldest.
const ACCOUNTS_MAX: usize = 64;
/// Accounts that are mailed at once while none has proven that the address is theirs.
const MAILED_UNPROVEN_MAX: usize = 8;
/// Accounts that have proven it and are mailed at once.
const MAILED_PROVEN_MAX: usize = 4;
/// Hashes computed for passwords that don't have the address's own salt: those from before there was one, and of accounts
/// whose address was changed. With the shared one this is all that a sign-in costs.
const OTHER_HASHES_MAX: usize = 4;

/// Whose account is asked for.
enum Place {
    Anywhere,
    In(TenantId),
    /// The tenant that was named isn't there.
    Nowhere,
}

/// Somebody asks for the account of an address.
pub(super) struct Asked {
    email_hmac: String,
    place: Place,
    client: ClientIp,
    /// The address was asked for too often: only those are answered who have signed in from here before.
    too_often: Option<TooOften>,
}

impl Asked {
    /// Takes one from the address's bucket.
    ///
    /// # Errors
    /// 500 when the tenants can't be read.
    pub(super) fn new(app: &App, email: &str, tenant: Option<&str>, client: ClientIp) -> Outcome<Self> {
        let email_hmac = email_hmac(&app.key_file, email);
        // Also for an address that nobody has: a limit must not tell.
        let too_often = app.limiter.take(Limit::LoginAccount, BucketKey::text(&email_hmac)).err();
        let place = match tenant.map(|text| (text, text.parse::<TenantId>())) {
            None => Place::Anywhere,
            Some((_, Ok(id))) => Place::In(id),
            Some((slug, Err(_))) => {
                let found = app.pool.read(|connection| read::tenant_by_slug(connection, slug))?;
                found.map_or(Place::Nowhere, |found| Place::In(found.id))
            }
        };
        Ok(Self { email_hmac, place, client, too_often })
    }

    /// The accounts, a number of them at most.
    ///
    /// # Errors
    /// 429 when the address was asked for too often.
    pub(super) fn accounts(&self, app: &App) -> Outcome<Vec<Agent>> {
        let mut accounts = app.pool.read(|connection| match self.place {
            Place::Anywhere => read::agents_by_email(connection, &self.email_hmac, ACCOUNTS_MAX),
            Place::In(tenant) => Ok(read::agent_by_email(connection, tenant, &self.email_hmac)?.into_iter().collect()),
            Place::Nowhere => Ok(Vec::new()),
        })?;
        if let Some(refusal) = self.too_often {
            accounts.retain(|account| self.is_known(app, account) && self.has_turn(app, account));
            if accounts.is_empty() {
                return Err(refusal.into());
            }
        }
        Ok(accounts)
    }

    /// Whether an account was signed in to from here before.
    pub(super) fn is_known(&self, app: &App, account: &Agent) -> bool {
        let Some(here) = self.client.0.map(network) else { return false };
        account.recent_ips.iter().any(|sealed| match app.keys.open(sealed) {
            Ok(Text::Readable(address)) => address.parse::<IpAddr>().is_ok_and(|address| network(address) == here),
            // What can't be read is no reason to be let in.
            Ok(Text::Unreadable(_)) | Err(_) => false,
        })
    }

    /// A bucket of its own, so that others can't empty it.
    fn has_turn(&self, app: &App, account: &Agent) -> bool {
        let Some(here) = self.client.0.map(network) else { return false };
        let key = BucketKey::text(&format!("{} {here}", account.id));
        app.limiter.take(Limit::LoginAccount, key).is_ok()
    }

    /// The accounts that are mailed. Once one has proven that the address is theirs, no others are: the code of an account
    /// that somebody else has made would sign its reader in there.
    ///
    /// # Errors
    /// As [`accounts`](Self::accounts).
    pub(super) fn to_mail(&self, app: &App) -> Outcome<Vec<Agent>> {
        let mut accounts = self.accounts(app)?;
        if let Place::Anywhere = self.place {
            if accounts.iter().any(|account| account.address_proven) {
                accounts.retain(|account| account.address_proven);
                accounts.truncate(MAILED_PROVEN_MAX);
            } else {
                // Whoever signed in from here is likelier the one who asks than those who came earlier.
                accounts.sort_by_cached_key(|account| !self.is_known(app, account));
                accounts.truncate(MAILED_UNPROVEN_MAX);
            }
        }
        Ok(accounts)
    }

    /// The accounts that have this password; two at most, as more is no other answer. It takes as long for an address that
    /// nobody has as for one that somebody has.
    ///
    /// # Errors
    /// As [`accounts`](Self::accounts).
    pub(super) async fn with_password(&self, app: &App, password: String) -> Outcome<Vec<Agent>> {
        if matches!(self.place, Place::In(_) | Place::Nowhere) || self.too_often.is_some() {
            return having(password, self.accounts(app)?).await;
        }
        let salt = Salt::of_address(&app.key_file, &self.email_hmac);
        let (prefix, hmac) = (salt.phc_prefix(), &self.email_hmac);
        let (shared, others) = app.pool.read(|connection| {
            let shared = read::any_password_starts(connection, hmac, &prefix)?;
            Ok((shared, read::agents_by_other_passwords(connection, hmac, &prefix, OTHER_HASHES_MAX)?))
        })?;
        let mut found = Vec::new();
        if shared || others.is_empty() {
            let phc = passwords::hash(password.clone(), salt).await?;
            found = app.pool.read(|connection| read::agents_by_password(connection, hmac, &phc))?;
        }
        if !others.is_empty() {
            found.append(&mut having(password, others).await?);
        }
        found.truncate(2);
        Ok(found)
    }
}

/// Those of a few accounts that have this password, by a hash each, and at least one.
async fn having(password: String, mut accounts: Vec<Agent>) -> Outcome<Vec<Agent>> {
    accounts.truncate(OTHER_HASHES_MAX);
    if accounts.is_empty() {
        passwords::verify(password, None).await?;
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for account in accounts {
        if passwords::verify(password.clone(), account.password_hash.clone()).await? {
            found.push(account);
        }
    }
    Ok(found)
}
