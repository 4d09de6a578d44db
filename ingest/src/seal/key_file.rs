//! The installation's keys, in a file of their own. Start at [`KeyFile::open`].
//!
//! Whoever has the file and the data can read every text, so a file that others may read isn't used. Which file belongs to
//! which database is told by [`KeyFile::check_values`], which the database keeps.

use super::{PersonKey, SealError, cipher, open_bytes, random, seal_bytes};
use crate::durable;
use crate::id::PersonId;
use ring::aead::LessSafeKey;
use ring::{hkdf, hmac};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The installation's keys: sign tokens, wrap person keys, look addresses up. A file of mode 600, made on first start.
pub struct KeyFile {
    path: PathBuf,
    signing: [u8; 32],
    lookup: hmac::Key,
    wrapping: LessSafeKey,
    check_values: [CheckValue; 3],
}

/// What a database keeps of a key to know it again: the key's name, and 32 bytes that are derived from it for nothing else.
/// Nobody learns anything of the key, or of what it seals, from them.
pub type CheckValue = (&'static str, [u8; 32]);

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
    /// Somebody else on the machine may read or change it.
    #[error(
        "failed to use key file {path}: its mode is {mode:03o}, so others than its owner may read or change it; run `chmod 600 {path}`, or mount it with mode 0400 (0440 where a group must read it)"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl KeyFile {
    /// Reads the file; with `create`, makes it (mode 600, whole or not at all, durable) when it isn't there.
    ///
    /// # Errors
    /// [`KeyFileError`] with the path. A data directory whose key file is lost must not silently get a new one, so
    /// pass `create` only for a new data directory.
    pub fn open(path: &Path, create: bool) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        if create && !path.try_exists().map_err(io)? {
            let fresh = || random::<32>().map(hex::encode).map_err(|e| io(std::io::Error::other(e)));
            let text = KeyFileText { signing: fresh()?, lookup: fresh()?, wrapping: fresh()? };
            let json = serde_json::to_string_pretty(&text).expect("three strings have a JSON form");
            durable::write(path, json.as_bytes()).map_err(io)?;
        }
        let about = fs::metadata(path).map_err(io)?;
        let mode = about.mode() & 0o777;
        if about.is_file() && !private(mode) {
            return Err(KeyFileError::Open { path: path.to_owned(), mode });
        }
        let malformed = || KeyFileError::Malformed { path: path.to_owned() };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Err(malformed()),
            read => read.map_err(io)?,
        };
        let text: KeyFileText = serde_json::from_str(&text).map_err(|_| malformed())?;
        let bytes = |digits: &str| {
            let mut key = [0_u8; 32];
            hex::decode_to_slice(digits, &mut key).map(|()| key).map_err(|_| malformed())
        };
        let (signing, lookup, wrapping) = (bytes(&text.signing)?, bytes(&text.lookup)?, bytes(&text.wrapping)?);
        Ok(Self {
            path: path.to_owned(),
            signing,
            lookup: hmac::Key::new(hmac::HMAC_SHA256, &lookup),
            wrapping: cipher(&wrapping),
            check_values: [("signing", &signing), ("lookup", &lookup), ("wrapping", &wrapping)]
                .map(|(name, key)| (name, check_value(name, key))),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One of each key.
    #[must_use]
    pub fn check_values(&self) -> &[CheckValue] {
        &self.check_values
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

/// Nobody but the owner may do anything with it. One that nobody may write to was mounted so: Kubernetes gives a secret to a
/// pod's group with mode 0440, and nobody can change that from inside.
fn private(mode: u32) -> bool {
    mode & 0o077 == 0 || mode == 0o440
}

/// By HKDF, so that it has nothing to do with what the key itself signs or seals.
fn check_value(name: &str, key: &[u8; 32]) -> [u8; 32] {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"parlance key check v1").extract(key);
    let info = [name.as_bytes()];
    let mut value = [0_u8; 32];
    extracted
        .expand(&info, hkdf::HKDF_SHA256)
        .and_then(|expanded| expanded.fill(&mut value))
        .expect("HKDF gives 32 bytes");
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_lost_key_file_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("parlance.keys");
        let error = KeyFile::open(&path, false).err().expect("missing").to_string();
        assert!(error.contains("parlance.keys"), "{error}");
        for text in [&b"{}"[..], b"", b"\xff\xfe"] {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
            assert!(matches!(KeyFile::open(&path, true), Err(KeyFileError::Malformed { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused_with_what_to_run() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("parlance.keys");
        KeyFile::open(&path, true).expect("made");
        for (mode, good) in [
            (0o600, true),
            (0o400, true),
            (0o440, true),
            (0o640, false),
            (0o644, false),
            (0o444, false),
            (0o604, false),
            (0o660, false),
            (0o620, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            match KeyFile::open(&path, false) {
                Ok(_) => assert!(good, "{mode:o}"),
                Err(error) => {
                    assert!(!good, "{mode:o}: {error}");
                    assert!(error.to_string().contains("chmod 600"), "{error}");
                }
            }
        }
    }

    /// Each key has a value of its own, the same at every start, and it isn't what the key gives elsewhere.
    #[test]
    fn check_values_tell_keys_apart_and_nothing_of_them() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = KeyFile::open(&dir.path().join("a"), true).expect("made");
        let again = KeyFile::open(&dir.path().join("a"), true).expect("read");
        let other = KeyFile::open(&dir.path().join("b"), true).expect("made");
        assert_eq!(file.check_values(), again.check_values());
        for ((name, value), (_, theirs)) in file.check_values().iter().zip(other.check_values()) {
            assert_ne!(value, theirs, "{name}");
            assert_ne!(value, file.signing_key());
            assert_ne!(hex::encode(value), file.lookup(name, b""));
        }
        assert_eq!(check_value("signing", &[7; 32]), check_value("signing", &[7; 32]));
        assert_ne!(check_value("signing", &[7; 32]), check_value("lookup", &[7; 32]), "by the key's name too");
    }
}
