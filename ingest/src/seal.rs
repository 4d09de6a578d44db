//! Personal text, sealed by person, so that a person can be forgotten in an append-only log.
//!
//! A [`Sealed`] is ChaCha20-Poly1305 under a [`PersonKey`]; person keys lie in `person_keys`, wrapped by the
//! installation's [`KeyFile`]. Destroying a person's key erases every text about them, wherever it was copied.
//! Sealing draws a nonce, so it happens at the edge: commands carry sealed texts, and the pure core never sees a word.
//! [`stream`] seals files.

pub mod stream;

use crate::id::PersonId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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

/// The installation's keys: sign tokens, wrap person keys, look addresses up. A file of mode 600, made on first start.
pub struct KeyFile {
    signing: [u8; 32],
    lookup: hmac::Key,
    wrapping: LessSafeKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFileText {
    /// Hex of 32 bytes each.
    signing: String,
    lookup: String,
    wrapping: String,
}

/// The key file can't be used. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Reading or writing it failed.
    #[error("failed to use key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It isn't a key file.
    #[error(
        "failed to read key file {path}: expected signing, lookup and wrapping as 64 hex digits each; restore it from a backup, sealed texts can't be read without it"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl KeyFile {
    /// Reads the file; with `create`, makes it (mode 600, synced) when it isn't there.
    ///
    /// # Errors
    /// [`KeyFileError`] with the path. A data directory whose key file is lost must not silently get a new one, so
    /// pass `create` only for a new data directory.
    pub fn open(path: &Path, create: bool) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        if create && !path.exists() {
            let fresh = || random::<32>().map(hex::encode).map_err(|e| io(std::io::Error::other(e)));
            let text = KeyFileText { signing: fresh()?, lookup: fresh()?, wrapping: fresh()? };
            let json = serde_json::to_string_pretty(&text).expect("three strings have a JSON form");
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
            file.write_all(json.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        }
        let malformed = || KeyFileError::Malformed { path: path.to_owned() };
        let text = fs::read_to_string(path).map_err(io)?;
        let text: KeyFileText = serde_json::from_str(&text).map_err(|_| malformed())?;
        let bytes = |digits: &str| {
            let mut key = [0_u8; 32];
            hex::decode_to_slice(digits, &mut key).map(|()| key).map_err(|_| malformed())
        };
        Ok(Self {
            signing: bytes(&text.signing)?,
            lookup: hmac::Key::new(hmac::HMAC_SHA256, &bytes(&text.lookup)?),
            wrapping: cipher(&bytes(&text.wrapping)?),
        })
    }

    /// The 32 bytes under which session and access tokens are signed.
    #[must_use]
    pub fn signing_key(&self) -> &[u8; 32] {
        &self.signing
    }

    /// Hex HMAC by which an address (or a request body) is looked up without being stored.
    #[must_use]
    pub fn lookup(&self, purpose: &str, value: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.lookup);
        context.update(purpose.as_bytes());
        context.update(&[0]);
        context.update(value);
        hex::encode(context.sign())
    }

    /// The bytes of a person's key as they are stored.
    ///
    /// # Errors
    /// [`SealError::Random`] when the system has no randomness.
    pub fn wrap(&self, key: &PersonKey) -> Result<Vec<u8>, SealError> {
        seal_bytes(&self.wrapping, key.person.bytes(), &key.bytes)
    }

    /// Reads a stored person's key.
    ///
    /// # Errors
    /// [`SealError::Damaged`] when it was wrapped under another key file.
    pub fn unwrap_key(&self, person: PersonId, mut wrapped: Vec<u8>) -> Result<PersonKey, SealError> {
        let plain = open_bytes(&self.wrapping, person.bytes(), &mut wrapped)?;
        let bytes: [u8; 32] = plain.try_into().map_err(|_| SealError::Damaged)?;
        Ok(PersonKey::from_bytes(person, bytes))
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

    #[test]
    fn a_lost_key_file_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("parlance.keys");
        let error = KeyFile::open(&path, false).err().expect("missing").to_string();
        assert!(error.contains("parlance.keys"), "{error}");
        fs::write(&path, "{}").expect("written");
        assert!(matches!(KeyFile::open(&path, true), Err(KeyFileError::Malformed { .. })));
    }
}
