//! An answer on its way to its reader. What fits into one part is made at once and has a length; the rest is made part by
//! part as the reader takes it, on the engine's threads, which wait for no reader. What isn't read yet counts in the
//! tenant's account, and a reader that takes nothing, or next to nothing, is cut off: the rows and the bytes are then given
//! back. Making takes the tenant's turn, waiting for the reader doesn't. Start at [`Writer::answer`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::call::QueryResult;
use crate::error::QueryError;
use crate::format::{Encoder, Format, Part};
use crate::lanes::{Lane, Lanes};
use crate::result_memory::{Account, Hold};
use crate::tenants::Slot;

/// Bytes of a part.
const PART_BYTES: usize = 64 * 1024;
/// What is larger is sent in several parts.
const UNCUT_BYTES_MAX: usize = 2 * PART_BYTES;
/// Parts of an answer that are made and not sent.
const UNSENT_PARTS_MAX: usize = 4;
/// What a reader takes at least, once [`Limits::unread`](crate::Limits::unread) has passed; the largest answer takes half an
/// hour then, and can't be held for longer.
pub const READ_BYTES_PER_S_MIN: usize = 32 * 1024;

/// An answer's bytes.
#[derive(Debug)]
pub enum Answer {
    /// All of them.
    Whole(Bytes),
    /// As they are read.
    Parts(AnswerParts),
}

/// The parts of an answer, made as they are read. Dropping it stops the making.
#[derive(Debug)]
pub struct AnswerParts {
    parts: mpsc::Receiver<Option<Bytes>>,
    is_over: bool,
    _making: AbortOnDropHandle<()>,
}

/// An answer that ends before its end: the reader was too slow, or a value could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut off")]
pub struct CutOff;

impl Stream for AnswerParts {
    type Item = Result<Bytes, CutOff>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        self.parts.poll_recv(context).map(|part| match part {
            Some(Some(bytes)) => Some(Ok(bytes)),
            Some(None) => {
                self.is_over = true;
                None
            }
            None => {
                self.is_over = true;
                Some(Err(CutOff))
            }
        })
    }
}

/// Makes the answers of one tenant.
pub(crate) struct Writer {
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) lane: Lane,
}

impl Writer {
    /// Makes the first part, and finds out whether the rest fits: an answer whose first byte is sent can't be refused any
    /// more. A reader that takes nothing for `unread` is cut off.
    /// # Errors  As [`Encoder`].
    pub(crate) async fn answer(
        self,
        result: QueryResult,
        format: Format,
        bytes_max: usize,
        unread: Duration,
    ) -> Result<Answer, QueryError> {
        match self.run(begin(result, format, bytes_max)).await? {
            Begun::Whole(bytes) => Ok(Answer::Whole(bytes)),
            Begun::Parts(rest) => {
                let (send, parts) = mpsc::channel(UNSENT_PARTS_MAX + 1);
                let making = AbortOnDropHandle::new(tokio::spawn(rest.make(self, send, unread)));
                Ok(Answer::Parts(AnswerParts { parts, is_over: false, _making: making }))
            }
        }
    }

    /// Runs on the engine's threads, in the tenant's turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let seat = Arc::new(Arc::clone(&self.slot).writing_seat().await?);
        self.lanes.spawn(seat, self.lane, work).await
    }
}

/// An answer that is begun.
enum Begun {
    Whole(Bytes),
    Parts(Box<Rest>),
}

/// What is still to be made of an answer.
struct Rest {
    encoder: Encoder,
    first: VecDeque<Part>,
    /// What the parts that aren't sent hold.
    unsent: Option<Arc<Hold>>,
}

/// Bytes that aren't sent yet, and what they hold until they are.
struct Unsent {
    bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
    _holds: [Option<Arc<Hold>>; 2],
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn hold(account: Option<&Arc<Account>>, bytes: usize) -> Result<Option<Arc<Hold>>, QueryError> {
    account.map(|account| Hold::new(account, bytes).map(Arc::new)).transpose()
}

async fn begin(result: QueryResult, format: Format, bytes_max: usize) -> Result<Begun, QueryError> {
    let account = result.owner.as_ref().map(|owner| Arc::clone(&owner.account));
    let mut encoder = Encoder::new(result, format, bytes_max)?;
    let (mut first, mut bytes) = (VecDeque::new(), 0);
    while bytes < PART_BYTES
        && let Some((part, held)) = encoder.part(PART_BYTES)?
    {
        bytes += part.len();
        first.push_back((part, held));
    }
    if encoder.is_done() && bytes <= UNCUT_BYTES_MAX {
        let bytes = match first.len() {
            1 => first.pop_front().map(|(part, _)| part).unwrap_or_default(),
            _ => first.iter().flat_map(|(part, _)| part.as_ref()).copied().collect(),
        };
        let _holds = [hold(account.as_ref(), bytes.len())?, None];
        return Ok(Begun::Whole(Bytes::from_owner(Unsent { bytes, _place: None, _holds })));
    }
    if let Some(mut rehearsal) = encoder.rehearsal() {
        while rehearsal.part(PART_BYTES)?.is_some() {
            tokio::task::yield_now().await;
        }
    }
    // One more is being made.
    let unsent = hold(account.as_ref(), (UNSENT_PARTS_MAX + 1) * PART_BYTES)?;
    Ok(Begun::Parts(Box::new(Rest { encoder, first, unsent })))
}

impl Rest {
    async fn make(self: Box<Self>, writer: Writer, send: mpsc::Sender<Option<Bytes>>, unread: Duration) {
        match self.parts(&writer, &send, unread).await {
            // The reader may have gone away.
            Ok(()) => drop(send.send(None).await),
            Err(error) => {
                metrics::counter!("parlance_answers_cut_off_total").increment(1);
                tracing::info!(%error, "an answer was cut off");
            }
        }
    }

    async fn parts(
        mut self: Box<Self>,
        writer: &Writer,
        send: &mpsc::Sender<Option<Bytes>>,
        unread: Duration,
    ) -> Result<(), QueryError> {
        let places = Arc::new(Semaphore::new(UNSENT_PARTS_MAX));
        let mut pace = Pace::new(unread);
        loop {
            let Some((mut bytes, held)) = self.first.pop_front() else {
                if self.encoder.is_done() {
                    return Ok(());
                }
                let asked = Instant::now();
                self = writer.run(self.more()).await?;
                // Waiting for the tenant's turn isn't the reader's time.
                pace.due += asked.elapsed();
                continue;
            };
            // A slice would keep all that it's cut from.
            let is_cut = bytes.len() > UNCUT_BYTES_MAX;
            while !bytes.is_empty() {
                let part = bytes.split_to(if is_cut { bytes.len().min(PART_BYTES) } else { bytes.len() });
                let (part, held) = if is_cut { (Bytes::copy_from_slice(&part), None) } else { (part, held.clone()) };
                let length = part.len();
                let _place = Some(pace.place(&places).await?);
                let _holds = [held, self.unsent.clone()];
                if send.send(Some(Bytes::from_owner(Unsent { bytes: part, _place, _holds }))).await.is_err() {
                    return Ok(());
                }
                pace.sent(length);
            }
        }
    }

    /// Makes a part more.
    async fn more(mut self: Box<Self>) -> Result<Box<Self>, QueryError> {
        self.first.extend(self.encoder.part(PART_BYTES)?);
        Ok(self)
    }
}

/// How fast an answer is to be read.
#[derive(Debug)]
pub(crate) struct Pace {
    unread: Duration,
    /// When what was sent must have been read.
    due: Instant,
}

impl Pace {
    /// From now on.
    pub(crate) fn new(unread: Duration) -> Self {
        Self { unread, due: Instant::now() + unread }
    }

    /// Until when the reader has to take something more.
    pub(crate) fn until(&self) -> Instant {
        self.due.min(Instant::now() + self.unread)
    }

    /// Waits until the reader has taken a part.
    async fn place(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, QueryError> {
        let place = tokio::time::timeout_at(self.until(), Arc::clone(places).acquire_owned()).await;
        let too_slow = |_| QueryError::TimedOut { seconds: self.unread.as_secs() };
        place.map_err(too_slow)?.map_err(|_| QueryError::Internal)
    }

    /// So much more is to be read.
    pub(crate) fn sent(&mut self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let seconds = bytes as f64 / READ_BYTES_PER_S_MIN as f64;
        self.due += Duration::from_secs_f64(seconds);
    }
}
