//! The newest rows, in memory: a few loose rows and sealed record batches a table.
//!
//! A query gets record batches, so loose rows are converted at most once between two changes, and never more than
//! [`CHUNK_ROWS`] of them: a snapshot costs the same however long the tail is.

use super::facts::{
    ConversationRow, FactRow, MessageRow, RatingRow, ResolutionRow, Table, UsageRow, conversations_batch,
    messages_batch, ratings_batch, resolutions_batch, usage_batch,
};
use super::life::{
    ActivityRow, AssignmentRow, EventRow, NotificationRow, PresenceRow, ThreadRow, activity_batch, assignments_batch,
    events_batch, notifications_batch, presence_batch, threads_batch,
};
use super::merge::merge;
use arrow::array::RecordBatch;
use ingest::id::{ConversationId, ThreadId};
use ingest::time::Timestamp;
use std::collections::HashMap;
use std::hash::Hash;

/// Loose rows before they are sealed as a batch; converting them takes under a millisecond.
const CHUNK_ROWS: usize = 1_024;

/// Sealed rows of a table whose rows supersede each other or add up, before the first clean-up.
const TIDY_ROWS: usize = 4 * CHUNK_ROWS;

/// A row of a table, as the tail sees it.
pub(crate) trait Row: Sized {
    const TABLE: Table;
    /// What two rows share when they are one: nothing for append-only tables.
    type Key: Eq + Hash;
    fn key(&self) -> Option<Self::Key>;
    /// Takes in a later row of the same key.
    fn absorb(&mut self, later: Self);
    fn batch(rows: &[Self]) -> RecordBatch;
}

macro_rules! append_only {
    ($row:ty, $table:expr, $batch:ident) => {
        impl Row for $row {
            const TABLE: Table = $table;
            type Key = ();
            fn key(&self) -> Option<()> {
                None
            }
            fn absorb(&mut self, later: Self) {
                *self = later;
            }
            fn batch(rows: &[Self]) -> RecordBatch {
                $batch(rows)
            }
        }
    };
}

append_only!(MessageRow, Table::Messages, messages_batch);
append_only!(ResolutionRow, Table::Resolutions, resolutions_batch);
append_only!(RatingRow, Table::Ratings, ratings_batch);
append_only!(EventRow, Table::Events, events_batch);
append_only!(AssignmentRow, Table::Assignments, assignments_batch);
append_only!(ActivityRow, Table::Activity, activity_batch);
append_only!(NotificationRow, Table::Notifications, notifications_batch);
append_only!(PresenceRow, Table::Presence, presence_batch);

macro_rules! newest_wins {
    ($row:ty, $table:expr, $batch:ident, $id:ident: $key:ty) => {
        impl Row for $row {
            const TABLE: Table = $table;
            type Key = $key;
            fn key(&self) -> Option<$key> {
                Some(self.$id)
            }
            fn absorb(&mut self, later: Self) {
                *self = later;
            }
            fn batch(rows: &[Self]) -> RecordBatch {
                $batch(rows)
            }
        }
    };
}

newest_wins!(ConversationRow, Table::Conversations, conversations_batch, conversation_id: ConversationId);
newest_wins!(ThreadRow, Table::Threads, threads_batch, thread_id: ThreadId);

impl Row for UsageRow {
    const TABLE: Table = Table::UsageMinute;
    type Key = (Timestamp, String);
    fn key(&self) -> Option<(Timestamp, String)> {
        Some((self.minute, self.metric.clone()))
    }
    fn absorb(&mut self, later: Self) {
        self.value = self.value.saturating_add(later.value);
    }
    fn batch(rows: &[Self]) -> RecordBatch {
        usage_batch(rows)
    }
}

/// The newest rows of one tenant's table.
pub(crate) struct Tail<R: Row> {
    sealed: Vec<RecordBatch>,
    sealed_rows: usize,
    /// Sealed rows at which they are merged next; doubling keeps the work per row constant.
    tidy_at: usize,
    loose: Vec<R>,
    loose_by_key: HashMap<R::Key, usize>,
    /// The loose rows as a batch, until they change.
    converted: Option<RecordBatch>,
}

impl<R: Row> Default for Tail<R> {
    fn default() -> Self {
        Self {
            sealed: Vec::new(),
            sealed_rows: 0,
            tidy_at: TIDY_ROWS,
            loose: Vec::new(),
            loose_by_key: HashMap::new(),
            converted: None,
        }
    }
}

impl<R: Row> Tail<R> {
    pub(crate) fn push(&mut self, row: R) {
        self.converted = None;
        if let Some(key) = row.key() {
            if let Some(&at) = self.loose_by_key.get(&key) {
                return self.loose[at].absorb(row);
            }
            self.loose_by_key.insert(key, self.loose.len());
        }
        self.loose.push(row);
        if self.loose.len() >= CHUNK_ROWS {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if self.loose.is_empty() {
            return;
        }
        let batch = self.converted.take().unwrap_or_else(|| R::batch(&self.loose));
        self.sealed_rows += batch.num_rows();
        self.sealed.push(batch);
        let keyed = !self.loose_by_key.is_empty();
        self.loose.clear();
        self.loose_by_key.clear();
        if keyed && self.sealed_rows >= self.tidy_at {
            self.tidy();
        }
    }

    /// Drops superseded versions and adds partials up. If it fails, the rows stay as they are: readers merge anyway.
    fn tidy(&mut self) {
        let merged = merge(R::TABLE, self.sealed.clone());
        if let Ok(batches) = merged.pieces(CHUNK_ROWS).collect::<Result<Vec<_>, _>>() {
            self.sealed_rows = merged.rows();
            self.sealed = batches;
        }
        self.tidy_at = TIDY_ROWS.max(2 * self.sealed_rows);
    }
}

/// A [`Tail`] of whatever table.
pub(crate) trait AnyTail {
    /// Every row, as batches of the table's schema.
    fn batches(&mut self) -> Vec<RecordBatch>;
    /// Rows held, superseded ones included.
    fn rows(&self) -> usize;
    /// Takes every row out.
    fn take(&mut self) -> Vec<RecordBatch>;
    /// Puts rows back that [`take`](Self::take) gave, before those that came meanwhile.
    fn put_back(&mut self, batches: Vec<RecordBatch>);
}

impl<R: Row> AnyTail for Tail<R> {
    fn batches(&mut self) -> Vec<RecordBatch> {
        if self.converted.is_none() && !self.loose.is_empty() {
            self.converted = Some(R::batch(&self.loose));
        }
        self.sealed.iter().chain(&self.converted).cloned().collect()
    }

    fn rows(&self) -> usize {
        self.sealed_rows + self.loose.len()
    }

    fn take(&mut self) -> Vec<RecordBatch> {
        self.seal();
        let taken = std::mem::take(self);
        taken.sealed
    }

    fn put_back(&mut self, mut batches: Vec<RecordBatch>) {
        self.sealed_rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        batches.append(&mut self.sealed);
        self.sealed = batches;
    }
}

/// The newest rows of one tenant.
#[derive(Default)]
pub(crate) struct TenantTail {
    messages: Tail<MessageRow>,
    conversations: Tail<ConversationRow>,
    resolutions: Tail<ResolutionRow>,
    ratings: Tail<RatingRow>,
    usage: Tail<UsageRow>,
    events: Tail<EventRow>,
    threads: Tail<ThreadRow>,
    assignments: Tail<AssignmentRow>,
    activity: Tail<ActivityRow>,
    notifications: Tail<NotificationRow>,
    presence: Tail<PresenceRow>,
}

impl TenantTail {
    pub(crate) fn table(&mut self, table: Table) -> &mut dyn AnyTail {
        match table {
            Table::Messages => &mut self.messages,
            Table::Conversations => &mut self.conversations,
            Table::Resolutions => &mut self.resolutions,
            Table::Ratings => &mut self.ratings,
            Table::UsageMinute => &mut self.usage,
            Table::Events => &mut self.events,
            Table::Threads => &mut self.threads,
            Table::Assignments => &mut self.assignments,
            Table::Activity => &mut self.activity,
            Table::Notifications => &mut self.notifications,
            Table::Presence => &mut self.presence,
        }
    }

    pub(crate) fn rows(&mut self) -> usize {
        Table::ALL.map(|table| self.table(table).rows()).into_iter().sum()
    }

    pub(crate) fn push(&mut self, row: FactRow) {
        match row {
            FactRow::Message(row) => self.messages.push(row),
            FactRow::Resolution(row) => self.resolutions.push(row),
            FactRow::Rating(row) => self.ratings.push(row),
            FactRow::Event(row) => self.events.push(row),
            FactRow::Thread(row) => self.threads.push(row),
            FactRow::Assignment(row) => self.assignments.push(row),
            FactRow::Activity(row) => self.activity.push(row),
            FactRow::Notification(row) => self.notifications.push(row),
            FactRow::Presence(row) => self.presence.push(row),
        }
    }

    pub(crate) fn push_conversation(&mut self, row: ConversationRow) {
        self.conversations.push(row);
    }

    pub(crate) fn push_usage(&mut self, row: UsageRow) {
        self.usage.push(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(minute: i64) -> UsageRow {
        UsageRow { minute: Timestamp(minute * 60_000), metric: "messages".into(), value: 1 }
    }

    /// A million partials of ten minutes stay a handful of rows.
    #[test]
    fn partials_of_the_same_minute_add_up_in_memory() {
        let mut tail = Tail::default();
        (0..10_000).for_each(|i| tail.push(usage(i % 10)));
        assert_eq!(tail.rows(), 10);
    }

    /// Minutes that come back after their chunk was sealed are added up when the sealed rows have doubled.
    #[test]
    fn sealed_partials_are_tidied_as_they_double() {
        let mut tail = Tail::default();
        (0..50_000).for_each(|i| tail.push(usage(i % 2_000)));
        assert!(tail.rows() < TIDY_ROWS + CHUNK_ROWS, "{} rows", tail.rows());
        let merged = merge(Table::UsageMinute, tail.batches());
        assert_eq!(merged.rows(), 2_000);
    }

    #[test]
    fn batches_are_converted_once_between_changes() {
        let mut tail = Tail::default();
        tail.push(usage(1));
        let column = |tail: &mut Tail<UsageRow>| std::sync::Arc::as_ptr(tail.batches()[0].column(0)).cast::<()>();
        let first = column(&mut tail);
        assert_eq!(column(&mut tail), first);
        tail.push(usage(2));
        assert_eq!(tail.batches()[0].num_rows(), 2);
    }

    #[test]
    fn rows_put_back_come_before_newer_ones() {
        let mut tail = Tail::default();
        tail.push(usage(1));
        let taken = tail.take();
        tail.push(usage(2));
        tail.put_back(taken);
        assert_eq!(tail.rows(), 2);
        assert_eq!(tail.batches().iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [1, 1]);
    }
}
