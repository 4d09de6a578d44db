//! Mailed codes and links. They are stored nowhere: each follows from its challenge's or invitation's id and the
//! installation's key, so that the mail can be written, and an answer checked, without a secret in the log.

use super::tokens::same_secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ingest::id::{ChallengeId, InvitationId};
use ingest::seal::KeyFile;
use uuid::Uuid;

/// How a password reset's token starts.
const RESET_PREFIX: &str = "rst_";
/// How an invitation's token starts.
const INVITATION_PREFIX: &str = "inv_";
/// Codes are below this: six digits.
const CODES: u64 = 1_000_000;

/// The code of a sign-in by mail: six digits.
#[must_use]
pub fn code(key_file: &KeyFile, id: ChallengeId) -> String {
    let digest = key_file.lookup("otp", id.bytes());
    let number = digest
        .bytes()
        .take(15)
        .fold(0_u64, |number, digit| number << 4 | u64::from(char::from(digit).to_digit(16).unwrap_or_default()));
    format!("{:06}", number % CODES)
}

/// Whether a code is the challenge's; in constant time.
#[must_use]
pub fn is_code(key_file: &KeyFile, id: ChallengeId, presented: &str) -> bool {
    same_secret(key_file, presented, &code(key_file, id))
}

/// The token in the link of a password reset.
#[must_use]
pub fn reset_token(key_file: &KeyFile, id: ChallengeId) -> String {
    token(key_file, RESET_PREFIX, id.0)
}

/// The challenge of a token that is ours; whether it's still good, the challenge must tell.
#[must_use]
pub fn open_reset_token(key_file: &KeyFile, presented: &str) -> Option<ChallengeId> {
    open(key_file, RESET_PREFIX, presented).map(ChallengeId)
}

/// The token in the link of an invitation.
#[must_use]
pub fn invitation_token(key_file: &KeyFile, id: InvitationId) -> String {
    token(key_file, INVITATION_PREFIX, id.0)
}

/// The invitation of a token that is ours; whether it's still good, the invitation must tell.
#[must_use]
pub fn open_invitation_token(key_file: &KeyFile, presented: &str) -> Option<InvitationId> {
    open(key_file, INVITATION_PREFIX, presented).map(InvitationId)
}

fn token(key_file: &KeyFile, prefix: &str, id: Uuid) -> String {
    format!("{prefix}{}_{}", BASE64.encode(id.as_bytes()), key_file.lookup(prefix, id.as_bytes()))
}

fn open(key_file: &KeyFile, prefix: &str, presented: &str) -> Option<Uuid> {
    // 16 bytes are 22 characters of base64, which may be `_` too.
    let text = presented.strip_prefix(prefix)?.get(..22)?;
    let id = Uuid::from_slice(&BASE64.decode(text).ok()?).ok()?;
    same_secret(key_file, presented, &token(key_file, prefix, id)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token opens as what it is, under the key that made it, and unchanged.
    #[test]
    fn a_token_is_good_for_its_purpose_only() {
        let dir = tempfile::tempdir().expect("temp dir");
        let keys = KeyFile::open(&dir.path().join("a"), true).expect("keys");
        let foreign = KeyFile::open(&dir.path().join("b"), true).expect("keys");
        let id = ChallengeId::fresh();
        let token = reset_token(&keys, id);
        assert_eq!(open_reset_token(&keys, &token), Some(id));
        assert_eq!(open_reset_token(&foreign, &token), None);
        assert_eq!(open_invitation_token(&keys, &token), None);
        assert_eq!(open_invitation_token(&keys, &token.replace("rst_", "inv_")), None);
        for bad in ["", "rst_", &token[..token.len() - 1], &format!("{token}0"), "rst_ééééééééééééééééééééééé"]
        {
            assert_eq!(open_reset_token(&keys, bad), None, "{bad}");
        }
        let other = reset_token(&keys, ChallengeId::fresh());
        assert_eq!(open_reset_token(&keys, &format!("{}{}", &token[..26], &other[26..])), None);
    }

    #[test]
    fn a_code_has_six_digits_and_follows_from_the_id() {
        let dir = tempfile::tempdir().expect("temp dir");
        let keys = KeyFile::open(&dir.path().join("a"), true).expect("keys");
        let codes: std::collections::BTreeSet<String> = (0..100).map(|_| code(&keys, ChallengeId::fresh())).collect();
        assert!(codes.len() > 90, "they differ");
        assert!(codes.iter().all(|code| code.len() == 6 && code.bytes().all(|digit| digit.is_ascii_digit())));
        let id = ChallengeId::fresh();
        assert!(is_code(&keys, id, &code(&keys, id)) && !is_code(&keys, ChallengeId::fresh(), "1"));
    }
}
