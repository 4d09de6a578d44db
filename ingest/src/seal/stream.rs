//! Bytes of a person's file, sealed in chunks, so that neither writing nor reading holds all of them.
//!
//! A file has a key of its own, derived from the person's key and the file's id; its chunks are ChaCha20-Poly1305 with
//! their number and "is the last" as nonce, so none can be left out, moved or cut off unnoticed. A file is sealed once.

use super::{PersonKey, SealError, cipher};
use crate::id::FileId;
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use ring::hmac;

/// Plain bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// What sealing adds to a chunk.
pub const TAG_BYTES: usize = 16;

/// Seals or opens one file, chunk by chunk, in order.
pub struct FileCipher {
    key: LessSafeKey,
    next: u32,
}

impl PersonKey {
    /// Starts sealing or opening a file of this person. A file's id is fresh: two files must not share one.
    #[must_use]
    pub fn file(&self, id: FileId) -> FileCipher {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.bytes));
        context.update(b"file\0");
        context.update(id.bytes());
        let mut key = [0_u8; 32];
        key.copy_from_slice(context.sign().as_ref());
        let file = FileCipher { key: cipher(&key), next: 0 };
        zeroize::Zeroize::zeroize(&mut key);
        file
    }
}

impl FileCipher {
    /// Seals the next chunk in place; the tag is appended.
    ///
    /// # Errors
    /// [`SealError::Damaged`] after 2^32 chunks.
    pub fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), SealError> {
        let nonce = self.nonce(last)?;
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), chunk).map_err(|_| SealError::Damaged)
    }

    /// Opens the next chunk in place; the tag is taken off.
    ///
    /// # Errors
    /// [`SealError::Damaged`] when it was changed, isn't the next one, or isn't the last as it should be.
    pub fn open(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), SealError> {
        let nonce = self.nonce(last)?;
        let length = self.key.open_in_place(nonce, Aad::empty(), chunk).map_err(|_| SealError::Damaged)?.len();
        chunk.truncate(length);
        Ok(())
    }

    fn nonce(&mut self, last: bool) -> Result<Nonce, SealError> {
        let mut bytes = [0_u8; NONCE_LEN];
        bytes[..4].copy_from_slice(&self.next.to_be_bytes());
        bytes[NONCE_LEN - 1] = u8::from(last);
        self.next = self.next.checked_add(1).ok_or(SealError::Damaged)?;
        Ok(Nonce::assume_unique_for_key(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PersonId;

    fn sealed(key: &PersonKey, id: FileId, chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut cipher = key.file(id);
        let seal = |(number, chunk): (usize, &&[u8])| {
            let mut bytes = chunk.to_vec();
            cipher.seal(&mut bytes, number + 1 == chunks.len()).expect("seals");
            bytes
        };
        chunks.iter().enumerate().map(seal).collect()
    }

    fn opened(key: &PersonKey, id: FileId, chunks: &[Vec<u8>]) -> Result<Vec<u8>, SealError> {
        let mut cipher = key.file(id);
        let mut plain = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            let mut bytes = chunk.clone();
            cipher.open(&mut bytes, number + 1 == chunks.len())?;
            plain.extend(bytes);
        }
        Ok(plain)
    }

    #[test]
    fn a_file_opens_whole_and_in_order_with_its_persons_key_only() {
        assert_eq!(ring::aead::CHACHA20_POLY1305.tag_len(), TAG_BYTES);
        let (key, id) = (PersonKey::generate(PersonId::fresh()).expect("random"), FileId::fresh());
        let chunks = sealed(&key, id, &[b"one ", b"two ", b"three"]);
        assert_eq!(opened(&key, id, &chunks).expect("opens"), b"one two three");
        let other = PersonKey::generate(PersonId::fresh()).expect("random");
        assert!(opened(&other, id, &chunks).is_err());
        assert!(opened(&key, FileId::fresh(), &chunks).is_err(), "the id is part of the key");
        assert!(opened(&key, id, &chunks[..2]).is_err(), "cut off");
        assert!(opened(&key, id, &chunks[1..]).is_err(), "its beginning is missing");
        let moved = [chunks[1].clone(), chunks[0].clone(), chunks[2].clone()];
        assert!(opened(&key, id, &moved).is_err(), "moved");
        let mut changed = chunks;
        changed[0][0] ^= 1;
        assert!(opened(&key, id, &changed).is_err(), "changed");
    }
}
