//! Tokens: signed ones (JWT, HS256) for agents and visitors, random ones for refreshing and for `/v0`.
//!
//! Agents' and visitors' tokens have different audiences and are signed under different keys, both derived from the
//! installation's: one can never pass for the other. Random tokens are stored as SHA-256 only.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ingest::id::{AgentId, ChatbotId, ConversationId, SessionId, TenantId, VisitorId};
use ingest::payload::{Scope, TokenLimits};
use ingest::seal::KeyFile;
use ingest::time::Timestamp;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, signature};
use lru::LruCache;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::sync::{Mutex, Once, PoisonError};
use uuid::Uuid;

/// Life of an access token; short, because a stolen one can't be seen.
pub const ACCESS_TOKEN_LIFE_S: i64 = 15 * 60;
/// Life of a family of refresh tokens.
pub const REFRESH_LIFE_S: i64 = 30 * 24 * 60 * 60;
/// How a visitor's session token starts.
pub const VISITOR_PREFIX: &str = "wst_";
/// How a refresh token starts.
const REFRESH_PREFIX: &str = "rft_";
/// How a `/v0` token starts.
const API_TOKEN_PREFIX: &str = "p.";
/// No token of ours is longer; a longer one isn't looked at.
const TOKEN_BYTES_MAX: usize = 2_048;

/// Random bytes of a refresh token.
const REFRESH_NONCE_BYTES: usize = 16;
/// What the key of refresh tokens is derived from.
const REFRESH_CONTEXT: &str = "parlance:refresh";
const AGENT_AUDIENCE: &str = "parlance:agent";
const VISITOR_AUDIENCE: &str = "parlance:visitor";
/// Followed by the tenant's id, what a tenant's key is derived from.
const REPORT_KEY_CONTEXT: &[u8] = b"parlance:reports:";

/// What an agent's access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "claims by their names")]
pub struct AgentClaims {
    aud: String,
    pub sub: AgentId,
    pub tenant: TenantId,
    pub session: SessionId,
    pub iat: i64,
    pub exp: i64,
}

/// What a visitor's session token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "claims by their names")]
pub struct VisitorClaims {
    aud: String,
    pub sub: VisitorId,
    /// Who they were in this browser until they were identified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<VisitorId>,
    pub tenant: TenantId,
    pub conversation: ConversationId,
    pub chatbot: ChatbotId,
    pub iat: i64,
    pub exp: i64,
}

/// What a visitor's session token is for.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the claims of `VisitorClaims`")]
pub struct VisitorSession {
    pub tenant: TenantId,
    pub visitor: VisitorId,
    pub before: Option<VisitorId>,
    pub conversation: ConversationId,
    pub chatbot: ChatbotId,
}

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The system gave no random bytes. Retry.
    #[error("failed to draw random bytes from the system")]
    Random,
    /// Signing failed; a fault of ours.
    #[error("failed to sign a token: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// What a JWT says that a tenant signed for readers of its reports: Tinybird's claims. Others are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "claims by their names")]
pub struct ReportClaims {
    pub workspace_id: TenantId,
    pub exp: i64,
    pub scopes: Vec<Scope>,
    #[serde(default)]
    pub limits: Option<TokenLimits>,
}

struct Hs256(hmac::Key);

impl signature::Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl signature::Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], tag: &Vec<u8>) -> Result<(), signature::Error> {
        // ring compares in constant time.
        hmac::verify(&self.0, message, tag).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

fn hs256(algorithm: Algorithm, key: &[u8]) -> Result<Box<Hs256>, jsonwebtoken::errors::Error> {
    if algorithm == Algorithm::HS256 {
        Ok(Box::new(Hs256(hmac::Key::new(hmac::HMAC_SHA256, key))))
    } else {
        Err(ErrorKind::InvalidAlgorithm.into())
    }
}

/// HMAC-SHA256 from ring, and no other algorithm at all.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(hs256(*algorithm, key.as_bytes())?),
    verifier_factory: |algorithm, key| Ok(hs256(*algorithm, key.try_get_as_bytes()?)?),
    key_utils: KeyUtils::new_unimplemented(),
};

fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Whoever came first stays; this process has no other user of the crate.
        let _installed_before = PROVIDER.install_default();
    });
}

/// The key of one audience.
fn key_of(key_file: &KeyFile, audience: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key_file.signing_key()), audience.as_bytes())
}

fn sign(key_file: &KeyFile, audience: &str, claims: &impl Serialize) -> Result<String, TokenError> {
    install_provider();
    let key = EncodingKey::from_secret(key_of(key_file, audience).as_ref());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)?)
}

fn open<C: DeserializeOwned>(key_file: &KeyFile, audience: &str, token: &str) -> Option<C> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    install_provider();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    validation.leeway = 0;
    let key = DecodingKey::from_secret(key_of(key_file, audience).as_ref());
    jsonwebtoken::decode::<C>(token, &key, &validation).ok().map(|data| data.claims)
}

/// Signs an agent's access token.
///
/// # Errors
/// See [`TokenError`].
pub fn sign_agent(
    key_file: &KeyFile,
    tenant: TenantId,
    agent: AgentId,
    session: SessionId,
    now: Timestamp,
) -> Result<String, TokenError> {
    let iat = now.0 / 1_000;
    let aud = AGENT_AUDIENCE.to_owned();
    sign(
        key_file,
        AGENT_AUDIENCE,
        &AgentClaims { aud, sub: agent, tenant, session, iat, exp: iat + ACCESS_TOKEN_LIFE_S },
    )
}

/// The claims of an agent's access token that is ours and not expired.
#[must_use]
pub fn open_agent(key_file: &KeyFile, token: &str) -> Option<AgentClaims> {
    open(key_file, AGENT_AUDIENCE, token)
}

/// Signs a session token of a visitor who was nobody else before, for so many hours; answers it with the instant it ends.
///
/// # Errors
/// See [`TokenError`].
pub fn sign_visitor(
    key_file: &KeyFile,
    tenant: TenantId,
    visitor: VisitorId,
    conversation: ConversationId,
    chatbot: ChatbotId,
    now: Timestamp,
    hours: u32,
) -> Result<(String, Timestamp), TokenError> {
    sign_session(key_file, VisitorSession { tenant, visitor, before: None, conversation, chatbot }, now, hours)
}

/// Signs a visitor's session token for so many hours; answers it with the instant it ends.
///
/// # Errors
/// See [`TokenError`].
pub fn sign_session(
    key_file: &KeyFile,
    session: VisitorSession,
    now: Timestamp,
    hours: u32,
) -> Result<(String, Timestamp), TokenError> {
    let VisitorSession { tenant, visitor, before, conversation, chatbot } = session;
    let iat = now.0 / 1_000;
    let exp = iat + i64::from(hours) * 60 * 60;
    let aud = VISITOR_AUDIENCE.to_owned();
    let claims = VisitorClaims { aud, sub: visitor, before, tenant, conversation, chatbot, iat, exp };
    let token = sign(key_file, VISITOR_AUDIENCE, &claims)?;
    Ok((format!("{VISITOR_PREFIX}{token}"), Timestamp(exp * 1_000)))
}

/// The claims of a visitor's session token that is ours and not expired.
#[must_use]
pub fn open_visitor(key_file: &KeyFile, token: &str) -> Option<VisitorClaims> {
    open(key_file, VISITOR_AUDIENCE, token.strip_prefix(VISITOR_PREFIX)?)
}

/// Visitors' tokens that were found good, lately: a visitor shows the same one with every message, and checking its
/// signature costs more than the message. What it says holds until it ends; who its visitor is now is read each time.
pub struct VisitorTokens(Mutex<LruCache<String, VisitorClaims>>);

impl Default for VisitorTokens {
    fn default() -> Self {
        /// Of half a kilobyte each.
        const KEPT: NonZeroUsize = NonZeroUsize::new(4_096).expect("it isn't zero");
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl VisitorTokens {
    /// As [`open_visitor`].
    #[must_use]
    pub fn open(&self, key_file: &KeyFile, token: &str) -> Option<VisitorClaims> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept().get(token).cloned();
        if let Some(claims) = known {
            return (claims.exp > Timestamp::now().0 / 1_000).then_some(claims);
        }
        let claims = open_visitor(key_file, token)?;
        kept().put(token.to_owned(), claims.clone());
        Some(claims)
    }
}

/// The key under which a tenant signs JWTs for readers of its reports: derived from the installation's, so it is
/// stored nowhere. 64 hex digits, to be used as they are.
#[must_use]
pub fn report_key(key_file: &KeyFile, tenant: TenantId) -> String {
    let mut context = REPORT_KEY_CONTEXT.to_vec();
    context.extend_from_slice(tenant.bytes());
    hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key_file.signing_key()), &context))
}

/// The claims of a JWT that a tenant signed and that is not expired. Whose key it is checked with, its `workspace_id`
/// says; so only that tenant can have signed it.
#[must_use]
pub fn open_report(key_file: &KeyFile, token: &str) -> Option<ReportClaims> {
    /// Scopes, filters and fixed parameters take their place.
    const BYTES_MAX: usize = 16 * 1_024;
    #[derive(Deserialize)]
    struct Signer {
        workspace_id: TenantId,
    }
    if token.len() > BYTES_MAX {
        return None;
    }
    let payload = BASE64.decode(token.split('.').nth(1)?).ok()?;
    let signer: Signer = serde_json::from_slice(&payload).ok()?;
    install_provider();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_aud = false;
    validation.set_required_spec_claims(&["exp"]);
    validation.leeway = 0;
    validation.validate_nbf = true;
    let key = DecodingKey::from_secret(report_key(key_file, signer.workspace_id).as_bytes());
    jsonwebtoken::decode::<ReportClaims>(token, &key, &validation).ok().map(|data| data.claims)
}

/// Random bytes from the system.
///
/// # Errors
/// [`TokenError::Random`].
pub fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0_u8; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| TokenError::Random)?;
    Ok(bytes)
}

/// Hex SHA-256: how a random token is stored.
#[must_use]
pub fn sha256_hex(token: &str) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()))
}

/// A new refresh token: it names its session, so that a replaced one still finds the family to close, and it's signed, so
/// that one that was replaced is told from one that was made up. The session's id is no secret: it stands in every access
/// token.
///
/// # Errors
/// [`TokenError::Random`].
pub fn new_refresh_token(key_file: &KeyFile, session: SessionId) -> Result<String, TokenError> {
    let mut bytes = session.bytes().to_vec();
    bytes.extend_from_slice(&random::<REFRESH_NONCE_BYTES>()?);
    let tag = hmac::sign(&refresh_key(key_file), &bytes);
    bytes.extend_from_slice(tag.as_ref());
    Ok(format!("{REFRESH_PREFIX}{}", BASE64.encode(bytes)))
}

fn refresh_key(key_file: &KeyFile) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key_of(key_file, REFRESH_CONTEXT).as_ref())
}

/// What is in a refresh token, and what it's signed with; earlier ones have no signature.
fn refresh_parts(refresh_token: &str) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    const SIGNED_BYTES: usize = 16 + REFRESH_NONCE_BYTES;
    const UNSIGNED_BYTES: usize = 16 + 32;
    let text = refresh_token.strip_prefix(REFRESH_PREFIX).filter(|text| text.len() <= TOKEN_BYTES_MAX)?;
    let mut bytes = BASE64.decode(text).ok()?;
    match bytes.len() {
        UNSIGNED_BYTES => Some((bytes, None)),
        length if length == SIGNED_BYTES + 32 => {
            let tag = bytes.split_off(SIGNED_BYTES);
            Some((bytes, Some(tag)))
        }
        _ => None,
    }
}

/// The session that a refresh token names; whether it's the good one, its hash must tell.
#[must_use]
pub fn session_of(refresh_token: &str) -> Option<SessionId> {
    let (bytes, _) = refresh_parts(refresh_token)?;
    Some(SessionId(Uuid::from_slice(bytes.get(..16)?).ok()?))
}

/// Whether a refresh token was given out by this installation, whenever that was.
#[must_use]
pub fn is_genuine(key_file: &KeyFile, refresh_token: &str) -> bool {
    // ring compares in constant time.
    refresh_parts(refresh_token)
        .is_some_and(|(bytes, tag)| tag.is_some_and(|tag| hmac::verify(&refresh_key(key_file), &bytes, &tag).is_ok()))
}

/// A new `/v0` token: `p.` and 32 random bytes.
///
/// # Errors
/// [`TokenError::Random`].
pub fn new_api_token() -> Result<String, TokenError> {
    Ok(format!("{API_TOKEN_PREFIX}{}", BASE64.encode(random::<32>()?)))
}

/// A chatbot's public key: it stands in web pages, so it only has to be unique and hard to mistake.
///
/// # Errors
/// [`TokenError::Random`].
pub fn new_chatbot_key() -> Result<String, TokenError> {
    Ok(format!("pk_{}", BASE64.encode(random::<18>()?)))
}

/// The token of `Authorization: Bearer …`.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether two secrets are the same, in time that doesn't tell where they differ.
#[must_use]
pub fn same_secret(key_file: &KeyFile, left: &str, right: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key_file.signing_key());
    hmac::verify(&key, left.as_bytes(), hmac::sign(&key, right.as_bytes()).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_file() -> (tempfile::TempDir, KeyFile) {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = KeyFile::open(&dir.path().join("keys"), true).expect("key file");
        (dir, file)
    }

    /// A token opens for its own audience, under its own installation's key, until it ends.
    #[test]
    fn a_token_opens_for_its_audience_only() {
        let (_dir, keys) = key_file();
        let (_other_dir, other) = key_file();
        let now = Timestamp::now();
        let (tenant, agent, session) = (TenantId::fresh(), AgentId::fresh(), SessionId::fresh());
        let token = sign_agent(&keys, tenant, agent, session, now).expect("signs");
        assert_eq!(open_agent(&keys, &token).map(|claims| (claims.tenant, claims.sub)), Some((tenant, agent)));
        assert_eq!(open_agent(&other, &token), None);
        assert_eq!(open_visitor(&keys, &format!("{VISITOR_PREFIX}{token}")), None);
        let then = now.plus_ms(-(ACCESS_TOKEN_LIFE_S + 2) * 1_000);
        let old = sign_agent(&keys, tenant, agent, session, then).expect("signs");
        assert_eq!(open_agent(&keys, &old), None, "it has ended");

        let (conversation, chatbot) = (ConversationId::fresh(), ChatbotId::fresh());
        let visitor = VisitorId::fresh();
        let (token, ends) = sign_visitor(&keys, tenant, visitor, conversation, chatbot, now, 24).expect("signs");
        assert_eq!(open_visitor(&keys, &token).map(|claims| claims.sub), Some(visitor));
        assert!(ends > now);
        assert_eq!(open_agent(&keys, token.trim_start_matches(VISITOR_PREFIX)), None);
        assert_eq!(open_visitor(&keys, token.trim_start_matches(VISITOR_PREFIX)), None, "the prefix is part of it");
    }

    /// Only who was given a token has one that is genuine; its session's id alone makes none.
    #[test]
    fn a_made_up_refresh_token_is_not_genuine() {
        let (_dir, keys) = key_file();
        let (_other_dir, other) = key_file();
        let (mine, theirs) = (SessionId::fresh(), SessionId::fresh());
        let token = new_refresh_token(&keys, mine).expect("random");
        assert!(is_genuine(&keys, &token) && session_of(&token) == Some(mine));
        assert!(!is_genuine(&other, &token), "of another installation");
        let bytes = BASE64.decode(&token[REFRESH_PREFIX.len()..]).expect("base64");
        for at in [0, 15, 16, 31, 32, 63] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(!is_genuine(&keys, &format!("{REFRESH_PREFIX}{}", BASE64.encode(changed))), "byte {at}");
        }
        let unsigned = format!("{REFRESH_PREFIX}{}", BASE64.encode([theirs.bytes().as_slice(), &[7; 32]].concat()));
        assert!(!is_genuine(&keys, &unsigned) && session_of(&unsigned) == Some(theirs), "as earlier ones were");
        for nonsense in ["", "rft_", "rft_x", &token[..token.len() - 1], &format!("{token}AAAA")] {
            assert!(!is_genuine(&keys, nonsense) && session_of(nonsense).is_none(), "{nonsense}");
        }
    }

    /// One that was kept ends when it says, and only what was found good is kept.
    #[test]
    fn a_kept_token_ends_in_time() {
        let (_dir, keys) = key_file();
        let (tenant, visitor) = (TenantId::fresh(), VisitorId::fresh());
        let (conversation, chatbot) = (ConversationId::fresh(), ChatbotId::fresh());
        let kept = VisitorTokens::default();
        let almost_over = Timestamp::now().plus_ms(-60 * 60 * 1_000 + 2_000);
        let (token, _) = sign_visitor(&keys, tenant, visitor, conversation, chatbot, almost_over, 1).expect("signs");
        assert_eq!(kept.open(&keys, &token).map(|claims| claims.sub), Some(visitor));
        assert_eq!(kept.open(&keys, &token).map(|claims| claims.sub), Some(visitor), "from those kept");
        std::thread::sleep(std::time::Duration::from_millis(2_100));
        assert_eq!(kept.open(&keys, &token), None, "it has ended");
        let forged = format!("{token}x");
        assert_eq!((kept.open(&keys, &forged), kept.open(&keys, &forged)), (None, None));
    }

    /// The header can't choose another algorithm, and none is no algorithm.
    #[test]
    fn another_algorithm_is_refused() {
        let (_dir, keys) = key_file();
        let token = sign_agent(&keys, TenantId::fresh(), AgentId::fresh(), SessionId::fresh(), Timestamp::now());
        let token = token.expect("signs");
        let rest = token.split_once('.').expect("a JWT").1;
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"RS256"}"#] {
            assert_eq!(open_agent(&keys, &format!("{}.{rest}", BASE64.encode(header))), None, "{header}");
        }
    }

    /// Signed by whom it names, and by nobody else.
    #[test]
    fn a_tenants_jwt_opens_under_its_own_key_only() {
        let (_dir, keys) = key_file();
        let (tenant, other) = (TenantId::fresh(), TenantId::fresh());
        install_provider();
        let signed = |key: &str, claims: serde_json::Value| {
            let key = EncodingKey::from_secret(key.as_bytes());
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("signs")
        };
        let claims = |exp: i64| {
            serde_json::json!({ "workspace_id": tenant, "name": "front", "iat": 1, "exp": exp,
                "scopes": [{ "type": "PIPES:READ", "resource": "usage", "fixed_params": { "by": "day" } }],
                "limits": { "rps": 10 } })
        };
        let (now, own) = (Timestamp::now().0 / 1_000, report_key(&keys, tenant));
        let opened = open_report(&keys, &signed(&own, claims(now + 60))).expect("ours");
        assert_eq!((opened.workspace_id, opened.limits), (tenant, Some(TokenLimits { rps: 10 })));
        assert_eq!(opened.scopes[0].resource, "usage");
        assert_eq!(open_report(&keys, &signed(&report_key(&keys, other), claims(now + 60))), None, "another's key");
        assert_eq!(open_report(&keys, &signed("", claims(now + 60))), None, "no key");
        assert_eq!(open_report(&keys, &signed(&own, claims(now - 1))), None, "expired");
        let mut endless = claims(0);
        endless.as_object_mut().expect("an object").remove("exp");
        assert_eq!(open_report(&keys, &signed(&own, endless)), None, "without an end");
        let body = BASE64.encode(claims(now + 60).to_string());
        let unsigned = format!("{}.{body}.", BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#));
        assert_eq!(open_report(&keys, &unsigned), None, "unsigned");
    }

    #[test]
    fn a_refresh_token_names_its_session() {
        let (_dir, keys) = key_file();
        let session = SessionId::fresh();
        let token = new_refresh_token(&keys, session).expect("random");
        assert_eq!(session_of(&token), Some(session));
        assert_eq!(session_of("rft_short"), None);
    }
}
