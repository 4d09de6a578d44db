//! Erasing a person: what has to go beside the log.
//!
//! The event `visitor_erased` and the end of the person's keys are one transaction, in [`store::persons`](crate::store::persons); with the keys
//! every sealed text is gone, in the log, the state and wherever it was copied. [`sweep`] takes away the rest: keys and
//! names in memory, mails in the spool, files, and the write-ahead log, whose pages still hold the keys. It may be repeated.

use crate::app::App;
use crate::store::read;
use ingest::id::{FileId, MailId, PersonId, TenantId, VisitorId};
use ingest::writer::WriteError;

/// Something couldn't be taken away now. Erase again.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The state couldn't be read.
    #[error("failed to look up what an erased person left: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A mail in the spool, or a file.
    #[error("failed to delete a mail or a file of an erased person: {0}")]
    Io(#[from] std::io::Error),
    /// The write-ahead log.
    #[error("failed to empty the write-ahead log after an erasure: {0}")]
    Wal(#[from] WriteError),
}

/// Takes away what an erased visitor, and those who were merged into them, left beside the log.
///
/// # Errors
/// See [`ErasureError`].
pub async fn sweep(app: &App, tenant: TenantId, visitor: VisitorId) -> Result<(), ErasureError> {
    let (persons, mails, files): (Vec<PersonId>, Vec<MailId>, Vec<FileId>) = app.pool.read(|connection| {
        let mut persons = vec![PersonId::from(visitor)];
        persons.extend(read::merged_into(connection, visitor)?.into_iter().map(PersonId::from));
        let (mut mails, mut files) = (Vec::new(), Vec::new());
        for person in &persons {
            mails.extend(read::mails_to(connection, tenant, *person)?);
            files.extend(read::files_of(connection, tenant, VisitorId(person.0))?);
        }
        Ok((persons, mails, files))
    })?;
    app.keys.forget(&persons);
    app.views.forget_names(&persons);
    mails.into_iter().try_for_each(|mail| (app.remove_mail)(mail))?;
    files.into_iter().try_for_each(|file| app.files.remove(file))?;
    app.writer.truncate_wal().await?;
    Ok(())
}
