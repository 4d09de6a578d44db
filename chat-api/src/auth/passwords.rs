//! Passwords: argon2id with OWASP's parameters, on blocking threads, a few at a time.
//!
//! The salt follows from the address and the installation's key. It's as unlike any other as a random one is, and not to be
//! known before the database is; but all accounts of one address share it, so one hash answers for all of them: whoever
//! signs up again and again with somebody's address makes their sign-in no slower.
//!
//! A hash takes 19 MiB and tens of milliseconds: never on an async thread, and never more than [`TURNS`] at once, so
//! that a burst of sign-ins can't take the machine's memory.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use ingest::seal::KeyFile;
use std::sync::OnceLock;
use tokio::sync::Semaphore;

/// Hashes at once.
const TURNS: usize = 2;
/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

static POOL: Semaphore = Semaphore::const_new(TURNS);

/// A password could not be hashed or compared. Retry later.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The blocking pool is gone.
    #[error("failed to hash a password: the server is shutting down")]
    Stopped,
    /// argon2 refused.
    #[error("failed to hash a password: {0}")]
    Argon2(String),
}

/// What a password is hashed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 16]);

impl Salt {
    /// That of the accounts of an address, by the HMAC that it's looked up by.
    #[must_use]
    pub fn of_address(key_file: &KeyFile, email_hmac: &str) -> Self {
        let digest = key_file.lookup("password-salt", email_hmac.as_bytes());
        let mut salt = [0; 16];
        hex::decode_to_slice(&digest[..32], &mut salt).expect("a digest is 64 hex digits");
        Self(salt)
    }

    /// How the PHC form of every hash with this salt starts.
    #[must_use]
    pub fn phc_prefix(self) -> String {
        format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}$", BASE64.encode(self.0))
    }
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|e| PasswordError::Argon2(e.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
) -> Result<T, PasswordError> {
    let turn = POOL.acquire().await.map_err(|_| PasswordError::Stopped)?;
    tokio::task::spawn_blocking(move || {
        // Held until the work has really ended, also when nobody waits any more.
        let _turn = turn;
        work()
    })
    .await
    .map_err(|_| PasswordError::Stopped)?
}

fn hash_now(password: &str, salt: Salt) -> Result<String, PasswordError> {
    let hash = argon2()?.hash_password_with_salt(password.as_bytes(), &salt.0);
    Ok(hash.map_err(|e| PasswordError::Argon2(e.to_string()))?.to_string())
}

/// The PHC form of a password's hash.
///
/// # Errors
/// See [`PasswordError`].
pub async fn hash(password: String, salt: Salt) -> Result<String, PasswordError> {
    on_pool(move || hash_now(&password, salt)).await
}

/// Whether the password has this hash. Without a hash it takes as long and says no: an unknown address must not be
/// told from a wrong password by its time.
///
/// # Errors
/// See [`PasswordError`].
pub async fn verify(password: String, phc: Option<String>) -> Result<bool, PasswordError> {
    static NOBODY: OnceLock<String> = OnceLock::new();
    on_pool(move || {
        let known = phc.is_some();
        let phc = match phc {
            Some(phc) => phc,
            None => match NOBODY.get() {
                Some(phc) => phc.clone(),
                None => {
                    let made = hash_now("nobody has this password", Salt([0; 16]))?;
                    NOBODY.get_or_init(|| made).clone()
                }
            },
        };
        let parsed = PasswordHash::new(&phc).map_err(|e| PasswordError::Argon2(e.to_string()))?;
        let same = argon2()?.verify_password(password.as_bytes(), &parsed).is_ok();
        Ok(same && known)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let salt = Salt([7; 16]);
        let phc = hash("correct horse".to_owned(), salt).await.expect("hashes");
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(phc.starts_with(&salt.phc_prefix()) && !phc.starts_with(&Salt([8; 16]).phc_prefix()), "{phc}");
        assert_eq!(
            hash("correct horse".to_owned(), salt).await.expect("hashes"),
            phc,
            "what was hashed is found again"
        );
        assert!(verify("correct horse".to_owned(), Some(phc.clone())).await.expect("compares"));
        assert!(!verify("wrong horse".to_owned(), Some(phc)).await.expect("compares"));
        assert!(!verify("nobody has this password".to_owned(), None).await.expect("compares"));
    }
}
