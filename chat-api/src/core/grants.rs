//! What it takes to give something away: nobody gives, invites, mints, publishes or signs more than they hold. Start at
//! [`Grant`].
//!
//! Commands go through [`require`], routes that show a secret through [`Grant::check`]. What a grant takes is an exhaustive
//! match over permissions and types of scopes, so a new one doesn't compile until it stands here. An agent's own access token
//! does at `/v0` what its permissions take there ([`ScopeKind::takes`]), so a minted token can't do more than its maker.

use super::command::Command;
use super::decide::{Rejection, permissions_of};
use super::state::State;
use super::visibility::{Visible, visible};
use ingest::id::GroupId;
use ingest::payload::{Permission, PermissionSet, PublisherReads, Scope};

macro_rules! scope_kinds {
    ($($kind:ident = $text:literal;)*) => {
        /// What a scope of a `/v0` token is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the words of the wire")]
        pub enum ScopeKind {
            $($kind,)*
        }

        impl ScopeKind {
            /// Every type of a scope.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];
            /// As they are written.
            pub const TEXTS: &'static [&'static str] = &[$($text),*];

            /// Types are written as they are written here.
            #[must_use]
            pub fn of(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$kind),)*
                    _ => None,
                }
            }

            /// As it's written.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$kind => $text,)* }
            }
        }
    };
}

scope_kinds! {
    PipesRead = "PIPES:READ";
    DatasourcesRead = "DATASOURCES:READ";
    DatasourcesAppend = "DATASOURCES:APPEND";
    DatasourcesCreate = "DATASOURCES:CREATE";
    DatasourcesDrop = "DATASOURCES:DROP";
    PipesCreate = "PIPES:CREATE";
    PipesDrop = "PIPES:DROP";
}

impl ScopeKind {
    /// What an agent must hold to do this at `/v0` themselves, and so to give it to a token.
    #[must_use]
    pub fn takes(self) -> PermissionSet {
        use Permission::{ReportsRead, TokensWrite};
        match self {
            Self::PipesRead | Self::DatasourcesRead => [ReportsRead].into_iter().collect(),
            Self::DatasourcesAppend
            | Self::DatasourcesCreate
            | Self::DatasourcesDrop
            | Self::PipesCreate
            | Self::PipesDrop => [ReportsRead, TokensWrite].into_iter().collect(),
        }
    }
}

/// Something that lets whoever gets it do what they couldn't do before.
#[derive(Debug, Clone, Copy)]
pub enum Grant<'a> {
    /// Permissions: of a role, an invitation, an agent; also to touch who holds them.
    Permissions(PermissionSet),
    /// A `/v0` token with these scopes; none read everything.
    Token(&'a [Scope]),
    /// The key under which the tenant signs tokens of its own, with any scopes.
    SigningKey,
    /// One type of scope: what a call of `/v0` does.
    Scope(ScopeKind),
    /// A version of an endpoint: whoever may call it reads what its publisher could.
    Endpoint(&'a PublisherReads),
    /// The secret with which a page is told who a visitor is: whoever has it opens the conversations of anyone, as that one.
    IdentitySecret,
    /// Being in a group: its conversations, those before too.
    Membership(GroupId),
}

/// What somebody holds who gives something.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Their permissions.
    pub permissions: PermissionSet,
    /// The conversations that they see.
    pub visible: &'a Visible,
}

impl Grant<'_> {
    /// The permissions that it takes.
    #[must_use]
    pub fn takes(self) -> PermissionSet {
        let all = |kinds: &mut dyn Iterator<Item = ScopeKind>| {
            kinds.fold(PermissionSet::NONE, |set, kind| set.with(kind.takes()))
        };
        match self {
            Self::Permissions(set) => {
                set.iter().fold(PermissionSet::NONE, |set, permission| set.with(to_give(permission)))
            }
            Self::Token([]) => ScopeKind::PipesRead.takes().with(ScopeKind::DatasourcesRead.takes()),
            Self::Token(scopes) => scopes.iter().fold(PermissionSet::NONE, |set, scope| {
                // A word of a later version may come to mean anything.
                set.with(ScopeKind::of(&scope.r#type).map_or(PermissionSet::all(), ScopeKind::takes))
            }),
            Self::SigningKey => all(&mut ScopeKind::ALL.iter().copied()),
            Self::Scope(kind) => kind.takes(),
            Self::Endpoint(PublisherReads { tables: Some(tables), .. }) if tables.is_empty() => {
                ScopeKind::PipesCreate.takes()
            }
            Self::Endpoint(_) => all(&mut [ScopeKind::PipesCreate, ScopeKind::DatasourcesRead].into_iter()),
            Self::IdentitySecret => {
                [Permission::ConversationsReadAll, Permission::VisitorsRead, Permission::VisitorsWrite]
                    .into_iter()
                    .collect()
            }
            Self::Membership(_) => PermissionSet::NONE,
        }
    }

    /// Refuses to give what the holder doesn't hold.
    ///
    /// # Errors
    /// 403 `more_than_own`, with the permissions that are missing.
    pub fn check(self, holder: Holder<'_>) -> Result<(), Rejection> {
        let missing = self.takes().without(holder.permissions);
        if !missing.is_empty() {
            let words: Vec<&str> = missing.iter().map(Permission::as_str).collect();
            let detail = format!("this takes permissions that you don't hold yourself: {}", words.join(", "));
            return Err(Rejection::new(403, "more_than_own", detail));
        }
        if let Self::Membership(group) = self
            && !holder.visible.covers_group(group)
        {
            let detail = "this opens conversations of a group that you don't see yourself";
            return Err(Rejection::new(403, "more_than_own", detail));
        }
        Ok(())
    }
}

/// What it takes to give a permission: to hold it. One that should take more stands here with what that is.
fn to_give(permission: Permission) -> PermissionSet {
    use Permission as P;
    match permission {
        P::ConversationsRead
        | P::ConversationsReadAll
        | P::ConversationsReply
        | P::ConversationsSteer
        | P::VisitorsRead
        | P::VisitorsWrite
        | P::VisitorsErase
        | P::ReportsRead
        | P::TagsWrite
        | P::CannedResponsesWrite
        | P::GroupsWrite
        | P::ChatbotsWrite
        | P::AgentsWrite
        | P::RolesWrite
        | P::SettingsWrite
        | P::TokensWrite
        | P::AuditRead
        | P::Import
        | P::Export
        | P::Billing
        | P::Ownership => [permission].into_iter().collect(),
    }
}

/// Refuses to give what the one who asks doesn't hold. For [`Grant::Membership`] the tenant's roster has to be loaded.
pub(super) fn require(state: &State, command: &Command, grant: Grant<'_>) -> Result<(), Rejection> {
    let visible = visible(state, command);
    grant.check(Holder { permissions: permissions_of(state, command), visible: &visible })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::id::AgentId;
    use ingest::payload::Role;
    use std::collections::BTreeSet;

    fn set(permissions: &[Permission]) -> PermissionSet {
        permissions.iter().copied().collect()
    }

    /// Whoever holds all but one of what a grant takes is refused, by the name of what is missing; whoever holds just that
    /// is let through.
    #[test]
    fn a_grant_takes_all_that_it_gives() {
        let scope = |kind: &str| Scope {
            r#type: kind.to_owned(),
            resource: "*".to_owned(),
            fixed_params: std::collections::BTreeMap::default(),
            filter: None,
        };
        let reader = [scope("PIPES:READ")];
        let unknown = [scope("TOKENS")];
        let writers = ScopeKind::TEXTS.iter().map(|text| [scope(text)]).collect::<Vec<_>>();
        let reads = PublisherReads { tables: None, filters: std::collections::BTreeMap::default() };
        let mut grants = vec![
            Grant::Permissions(Role::Agent.permissions()),
            Grant::Token(&[]),
            Grant::Token(&reader),
            Grant::Token(&unknown),
            Grant::SigningKey,
            Grant::Endpoint(&reads),
            Grant::IdentitySecret,
        ];
        grants.extend(writers.iter().map(|scopes| Grant::Token(scopes)));
        grants.extend(ScopeKind::ALL.iter().copied().map(Grant::Scope));
        grants.extend(Permission::ALL.iter().map(|one| Grant::Permissions(set(&[*one]))));
        for grant in grants {
            let takes = grant.takes();
            assert!(!takes.is_empty(), "{grant:?} is given away");
            assert_eq!(grant.check(Holder { permissions: takes, visible: &Visible::Nothing }), Ok(()), "{grant:?}");
            for lacking in takes.iter() {
                let permissions = PermissionSet::all().without(set(&[lacking]));
                let refused = grant.check(Holder { permissions, visible: &Visible::All }).expect_err("refused");
                assert_eq!((refused.status, refused.code), (403, "more_than_own"), "{grant:?}");
                assert!(refused.detail.ends_with(lacking.as_str()), "{grant:?}: {}", refused.detail);
            }
        }
        assert_eq!(Grant::Token(&unknown).takes(), PermissionSet::all());
        assert_eq!(Grant::SigningKey.takes(), set(&[Permission::ReportsRead, Permission::TokensWrite]));
    }

    /// A group is opened by who sees its conversations, whatever else they may.
    #[test]
    fn a_membership_takes_the_groups_conversations() {
        let own = GroupId::derived(&[b"own"]);
        let other = GroupId::derived(&[b"other"]);
        let agent = AgentId::derived(&[b"a"]);
        let in_own = Visible::of(set(&[Permission::ConversationsRead]), agent, || BTreeSet::from([own]));
        for (visible, opens_own, opens_other) in
            [(Visible::Nothing, false, false), (in_own, true, false), (Visible::All, true, true)]
        {
            let holder = Holder { permissions: PermissionSet::all(), visible: &visible };
            assert_eq!(Grant::Membership(own).check(holder).is_ok(), opens_own, "{visible:?}");
            assert_eq!(Grant::Membership(other).check(holder).is_ok(), opens_other, "{visible:?}");
        }
    }
}
