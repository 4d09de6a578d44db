//! Who a visitor is, in the tenant's word: a hash that the tenant's server made with the chatbot's identity secret.
//!
//! The secret isn't stored: it's derived from the installation's key, the chatbot and a version that rotating it raises.

use ingest::id::{ChatbotId, TenantId};
use ingest::seal::KeyFile;
use ingest::time::Timestamp;
use ring::hmac;

/// A hash that doesn't vouch for anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It's not the HMAC of this user and time under this chatbot's secret.
    #[error("'userHash' is not hex(HMAC-SHA256(identitySecret, userId + \".\" + userHashExp))")]
    Wrong,
    /// It was good until `userHashExp`.
    #[error("'userHashExp' has passed; make a new hash")]
    Expired,
}

/// The chatbot's identity secret, as the tenant's server has it: 64 hex digits.
#[must_use]
pub fn secret(key_file: &KeyFile, chatbot: ChatbotId, version: u32) -> String {
    let mut value = chatbot.bytes().to_vec();
    value.extend_from_slice(&version.to_be_bytes());
    key_file.lookup("identity", &value)
}

/// Checks `user_hash`, hex(HMAC-SHA256(secret, user id + "." + expiry)), in constant time; `expires_s` is in seconds
/// since 1970.
///
/// # Errors
/// See [`IdentityError`]; a wrong hash is never told that it has expired.
pub fn verify(
    secret: &str,
    user_id: &str,
    expires_s: i64,
    user_hash: &str,
    now: Timestamp,
) -> Result<(), IdentityError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hex::decode(user_hash).map_err(|_| IdentityError::Wrong)?;
    let signed = format!("{user_id}.{expires_s}");
    // ring compares in constant time.
    hmac::verify(&key, signed.as_bytes(), &tag).map_err(|_| IdentityError::Wrong)?;
    if now.0.div_euclid(1_000) < expires_s { Ok(()) } else { Err(IdentityError::Expired) }
}

/// What stands for the tenant's own id of a visitor: the HMAC of it under the installation's key.
#[must_use]
pub fn user_hmac(key_file: &KeyFile, tenant: TenantId, user_id: &str) -> String {
    let mut value = tenant.bytes().to_vec();
    value.extend_from_slice(user_id.as_bytes());
    key_file.lookup("user", &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(secret: &str, text: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hex::encode(hmac::sign(&key, text.as_bytes()))
    }

    #[test]
    fn a_hash_vouches_for_one_user_until_its_time() {
        let now = Timestamp(1_700_000_000_000);
        let until = 1_700_000_060;
        let good = hash("s", "user-1.1700000060");
        assert_eq!(verify("s", "user-1", until, &good, now), Ok(()));
        assert_eq!(verify("s", "user-1", until, &good.to_uppercase(), now), Ok(()));
        assert_eq!(verify("s", "user-1", until, &good, Timestamp(until * 1_000)), Err(IdentityError::Expired));
        for (secret, user, exp, hash) in [
            ("t", "user-1", until, good.as_str()),
            ("s", "user-2", until, &good),
            ("s", "user-1", until + 1, &good),
            ("s", "user-1", until, &good[..62]),
            ("s", "user-1", until, ""),
            ("s", "user-1", until, "zz"),
        ] {
            assert_eq!(verify(secret, user, exp, hash, now), Err(IdentityError::Wrong), "{secret} {user} {exp}");
        }
    }

    #[test]
    fn secrets_differ_by_chatbot_and_version() {
        let dir = tempfile::tempdir().expect("temp dir");
        let keys = KeyFile::open(&dir.path().join("keys"), true).expect("key file");
        let (one, two) = (ChatbotId::fresh(), ChatbotId::fresh());
        assert_eq!(secret(&keys, one, 1), secret(&keys, one, 1));
        assert_ne!(secret(&keys, one, 1), secret(&keys, one, 2));
        assert_ne!(secret(&keys, one, 1), secret(&keys, two, 1));
        assert_eq!(secret(&keys, one, 1).len(), 64);
    }
}
