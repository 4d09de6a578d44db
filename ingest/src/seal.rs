//! Personal text, sealed by person, so that a person can be forgotten in an append-only log.
//!
//! A [`Sealed`] is ChaCha20-Poly1305 under a [`PersonKey`]; person keys lie in `person_keys`, wrapped by the
//! installation's [`KeyFile`]. Destroying a person's key erases every text about them, wherever it was copied.
//! Sealing draws a nonce, so it happens at the edge: commands carry sealed texts, and the pure core never sees a word.
//! [`stream`] seals files.

mod find;
mod key_file;
pub mod stream;

pub use find::sealed_texts;
pub use key_file::{KeyFile, KeyFileError};

use crate::id::PersonId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// A text about a person: `{"p": person, "c": base64(nonce ‖ ciphertext ‖ tag)}` in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Whose key opens it.
    #[serde(rename = "p")]
    pub person: PersonId,
    /// Base64 without padding.
    #[serde(rename = "c")]
    pub ciphertext: String,
}

/// A sealed text, opened. One that can't be read is not an error of whatever it stands in: nobody gets at the words
/// without saying what is shown in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Text {
    /// The words.
    Readable(String),
    /// There are none to be had.
    Unreadable(Unreadable),
}

/// Why a sealed text can't be read, now or ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Its person has no key: they were erased.
    Erased,
    /// The key or the text isn't what was stored, or the one isn't for the other.
    Damaged,
}

impl Unreadable {
    /// A stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Erased => "erased",
            Self::Damaged => "damaged",
        }
    }
}

impl Text {
    /// The words; nothing in the place of those that can't be read.
    #[must_use]
    pub fn or_none(self) -> Option<String> {
        match self {
            Self::Readable(words) => Some(words),
            Self::Unreadable(_) => None,
        }
    }
}

/// Sealing or opening went wrong. Never retry.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The bytes are not what this key sealed.
    #[error("failed to open a sealed text: it was changed, or sealed under another key")]
    Damaged,
    /// The system gave no random bytes.
    #[error("failed to draw random bytes from the system")]
    Random,
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0_u8; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::Random)?;
    Ok(bytes)
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has 32 bytes"))
}

fn seal_bytes(key: &LessSafeKey, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let nonce: [u8; NONCE_LEN] = random()?;
    let mut out = Vec::with_capacity(NONCE_LEN + plain.len() + CHACHA20_POLY1305.tag_len());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut out[NONCE_LEN..])
        .map_err(|_| SealError::Damaged)?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

fn open_bytes(key: &LessSafeKey, aad: &[u8], sealed: &mut [u8]) -> Result<Vec<u8>, SealError> {
    let (nonce, body) = sealed.split_at_mut_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
    let plain = key.open_in_place(nonce, Aad::from(aad), body).map_err(|_| SealError::Damaged)?;
    Ok(plain.to_vec())
}

/// Of a mark's HMAC that is kept: enough that no two texts of a person share it.
const MARK_BYTES: usize = 16;

/// The key of one person. Cheap to use, not to be logged.
pub struct PersonKey {
    person: PersonId,
    bytes: [u8; 32],
    cipher: LessSafeKey,
}

impl PersonKey {
    /// A new key for a person who has none.
    ///
    /// # Errors
    /// [`SealError::Random`] when the system has no randomness.
    pub fn generate(person: PersonId) -> Result<Self, SealError> {
        Ok(Self::from_bytes(person, random()?))
    }

    fn from_bytes(person: PersonId, bytes: [u8; 32]) -> Self {
        Self { person, bytes, cipher: cipher(&bytes) }
    }

    /// Whose key it is.
    #[must_use]
    pub fn person(&self) -> PersonId {
        self.person
    }

    /// Seals a text about this person.
    ///
    /// # Errors
    /// [`SealError::Random`] when the system has no randomness.
    pub fn seal(&self, text: &str) -> Result<Sealed, SealError> {
        let bytes = seal_bytes(&self.cipher, self.person.bytes(), text.as_bytes())?;
        Ok(Sealed { person: self.person, ciphertext: BASE64.encode(bytes) })
    }

    /// Opens a text that [`seal`](Self::seal) made.
    ///
    /// # Errors
    /// [`SealError::Damaged`] when it was changed or belongs to another person.
    pub fn open(&self, sealed: &Sealed) -> Result<String, SealError> {
        let mut bytes = BASE64.decode(&sealed.ciphertext).map_err(|_| SealError::Damaged)?;
        let plain = open_bytes(&self.cipher, sealed.person.bytes(), &mut bytes)?;
        String::from_utf8(plain).map_err(|_| SealError::Damaged)
    }
}

impl PersonKey {
    /// Hex HMAC of a text about this person, by which the same text is known again: 32 characters. It says nothing once the
    /// key is gone, as what was sealed.
    #[must_use]
    pub fn mark(&self, purpose: &str, text: &str) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.bytes));
        context.update(b"mark\0");
        context.update(purpose.as_bytes());
        context.update(&[0]);
        context.update(text.as_bytes());
        hex::encode(&context.sign().as_ref()[..MARK_BYTES])
    }
}

impl Drop for PersonKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.bytes);
    }
}

impl std::fmt::Debug for PersonKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PersonKey({})", self.person)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_with_its_persons_key_only() {
        let key = PersonKey::generate(PersonId::fresh()).expect("random");
        let other = PersonKey::generate(PersonId::fresh()).expect("random");
        let sealed = key.seal("Grüße 🦀").expect("seals");
        assert_eq!(key.open(&sealed).expect("opens"), "Grüße 🦀");
        assert!(other.open(&sealed).is_err());
        let renamed = Sealed { person: other.person(), ..sealed.clone() };
        assert!(key.open(&renamed).is_err(), "the person is part of what is authenticated");
        assert!(!format!("{sealed:?}").contains("Grüße"));
    }

    #[test]
    fn a_person_key_survives_wrapping_and_a_foreign_key_file_cant_read_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = KeyFile::open(&dir.path().join("a"), true).expect("created");
        let foreign = KeyFile::open(&dir.path().join("b"), true).expect("created");
        let key = PersonKey::generate(PersonId::fresh()).expect("random");
        let sealed = key.seal("hi").expect("seals");
        let wrapped = file.wrap(&key).expect("wraps");
        let again = KeyFile::open(&dir.path().join("a"), false).expect("reopened");
        assert_eq!(
            again.unwrap_key(key.person(), wrapped.clone()).expect("unwraps").open(&sealed).expect("opens"),
            "hi"
        );
        assert!(foreign.unwrap_key(key.person(), wrapped).is_err());
    }
}
