//! Which commands a tenant may still send when it has written as much as it may.

use super::command::CommandKind as K;

impl K {
    /// Whether it's refused then. What takes something away, lets somebody in or out, or follows from what is there goes on:
    /// a tenant that wrote too much can be tidied up and its persons erased.
    #[must_use]
    pub fn is_growth(&self) -> bool {
        match self {
            K::UpdateTenant(_)
            | K::CreateAgent(_)
            | K::UpdateAgent { .. }
            | K::RestoreAgent { .. }
            | K::TransferOwnership { .. }
            | K::CreateRole(_)
            | K::UpdateRole(_)
            | K::RestoreRole { .. }
            | K::Invite(_)
            | K::CreateChatbot(_)
            | K::UpdateChatbot(_)
            | K::CreateGroup(_)
            | K::UpdateGroup(_)
            | K::CreateTag(_)
            | K::UpdateTag(_)
            | K::CreateCannedResponse(_)
            | K::UpdateCannedResponse(_)
            | K::Restore(_)
            | K::CreateToken { .. }
            | K::StartSession { .. }
            | K::IdentifyVisitor { .. }
            | K::UpdateVisitor { .. }
            | K::TrackVisitor { .. }
            | K::UnblockVisitor { .. }
            | K::PostMessage { .. }
            | K::PostNote { .. }
            | K::Assign { .. }
            | K::Take { .. }
            | K::Unassign { .. }
            | K::Resolve { .. }
            | K::Reopen { .. }
            | K::Close { .. }
            | K::Transfer { .. }
            | K::UpdateConversation { .. }
            | K::MarkStale { .. }
            | K::Snooze { .. }
            | K::Read { .. }
            | K::Rate { .. }
            | K::Tag { .. }
            | K::Import(_)
            | K::ImportHistory(_)
            | K::CreateDataSource(_)
            | K::PublishPipe { .. } => true,
            K::ChangeMembers(change) => !change.add.is_empty(),
            // None: in the place of those that there are.
            K::AppendRows { chunks, .. } => !chunks.is_empty(),
            K::CreateTenant { .. }
            | K::DeleteAgent { .. }
            | K::DeleteRole { .. }
            | K::SetAgentStatus { .. }
            | K::OpenSession { .. }
            | K::ChangePassword { .. }
            | K::IssueChallenge { .. }
            | K::TryChallenge { .. }
            | K::AcceptInvitation { .. }
            | K::RefreshSession { .. }
            | K::CloseSession { .. }
            | K::RotateChatbot { .. }
            | K::Delete(_)
            | K::RevokeToken { .. }
            | K::BlockVisitor { .. }
            | K::EraseVisitor { .. }
            | K::ExpireStandby { .. }
            | K::TimerDue { .. }
            | K::AssignQueue { .. }
            | K::RequestWelcome { .. }
            | K::RequestAgentMails { .. }
            | K::RecordMail { .. }
            | K::DeleteDataSource { .. }
            | K::DeletePipe { .. } => false,
        }
    }
}
