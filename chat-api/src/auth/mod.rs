//! Who is calling: credentials in, callers out. The tenant of everything that follows comes from here.
//!
//! - [`caller`]: [`AgentCaller`], [`VisitorCaller`], [`TokenCaller`], the [`operator`], and how a token becomes one.
//! - [`tokens`]: access tokens, visitor sessions, refresh tokens, `/v0` tokens, and their crypto.
//! - [`challenges`]: mailed codes and links, derived and never stored.
//! - [`identity`]: the hash by which a tenant vouches for a visitor, and its secret.
//! - [`scopes`]: what a `/v0` token may read, of which rows, under which fixed parameters.
//! - [`publisher`]: what the publisher of an endpoint can read, kept with it.
//! - [`wire`]: the tokens of `/v0` on the Postgres wire.
//! - [`passwords`]: argon2id on a bounded pool.

pub mod caller;
pub mod challenges;
pub mod identity;
pub mod passwords;
pub mod publisher;
pub mod scopes;
pub mod tokens;
pub mod wire;

pub use caller::{AgentCaller, AuthError, Caller, OperatorRefusal, TokenCaller, VisitorCaller, operator};
