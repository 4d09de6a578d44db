//! Of all versions of a row, the newest: a plan node that reads its whole input once and keeps one row a key.
//! Memory is at most about twice the kept rows (older versions are dropped as they pile up) and is accounted to the
//! tenant's pool; a batch of which all rows are kept is given on as it came. Start at [`NewestExec`].

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, BooleanBufferBuilder};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, PlanProperties,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::error::fault;
use crate::measure;

/// Below this many kept rows, older versions are not worth dropping early.
const COMPACT_ROWS_MIN: usize = 65_536;

/// Emits the first `width` columns of the newest row of each key, in the order the rows were read.
#[derive(Debug)]
pub(crate) struct NewestExec {
    input: Arc<dyn ExecutionPlan>,
    key: usize,
    version: usize,
    width: usize,
    properties: Arc<PlanProperties>,
}

impl NewestExec {
    /// `key` (Utf8) and `version` (Int64) are columns of the input, whose first `width` columns come out.
    /// # Errors  The columns have other types.
    pub(crate) fn try_new(input: Arc<dyn ExecutionPlan>, key: usize, version: usize, width: usize) -> DfResult<Self> {
        let schema = input.schema();
        let types = (schema.field(key).data_type(), schema.field(version).data_type());
        if types != (&DataType::Utf8, &DataType::Int64) {
            return Err(fault(format!("versions need a text key and a bigint, not {types:?}")));
        }
        let schema = Arc::new(Schema::new(schema.fields()[..width].to_vec()));
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Ok(Self { input, key, version, width, properties })
    }
}

impl DisplayAs for NewestExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = self.input.schema();
        write!(f, "NewestExec: key={}, version={}", schema.field(self.key).name(), schema.field(self.version).name())
    }
}

impl ExecutionPlan for NewestExec {
    fn name(&self) -> &'static str {
        "NewestExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| fault("NewestExec has one input"))?;
        Ok(Arc::new(Self::try_new(input, self.key, self.version, self.width)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let reservation = MemoryConsumer::new("NewestExec").register(context.memory_pool());
        let kept = Kept::new(self.key, self.version, self.width, self.schema(), reservation);
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let rows_max = context.session_config().batch_size();
        let output = stream::once(async move {
            let kept = input.try_fold(kept, |mut kept, batch| async move { kept.add(batch).map(|()| kept) }).await?;
            Ok::<_, DataFusionError>(kept.emit(rows_max))
        })
        .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), output)))
    }
}

/// The newest rows so far, with the batches that hold them.
struct Kept {
    key: usize,
    version: usize,
    width: usize,
    schema: SchemaRef,
    batches: Vec<Part>,
    /// Of each key its newest row, by the key's hash.
    newest: HashTable<Place>,
    hasher: DefaultHashBuilder,
    rows: usize,
    bytes: usize,
    reservation: MemoryReservation,
}

/// Where a row is.
#[derive(Clone, Copy)]
struct Place {
    batch: usize,
    row: usize,
}

/// A batch, and which of its rows are the newest of their keys.
struct Part {
    rows: RecordBatch,
    newest: BooleanBufferBuilder,
    superseded: usize,
}

impl Part {
    fn key(&self, column: usize, row: usize) -> &str {
        self.rows.column(column).as_string::<i32>().value(row)
    }

    fn version(&self, column: usize, row: usize) -> i64 {
        let versions = self.rows.column(column).as_primitive::<Int64Type>();
        if versions.is_null(row) { i64::MIN } else { versions.value(row) }
    }

    fn supersede(&mut self, row: usize) {
        self.newest.set_bit(row, false);
        self.superseded += 1;
    }

    /// The newest rows; no copy of them where all are.
    fn live(&self) -> DfResult<RecordBatch> {
        if self.superseded == 0 {
            return Ok(self.rows.clone());
        }
        Ok(filter_record_batch(&self.rows, &BooleanArray::new(self.newest.finish_cloned(), None))?)
    }
}

impl Kept {
    fn new(key: usize, version: usize, width: usize, schema: SchemaRef, reservation: MemoryReservation) -> Self {
        Self {
            key,
            version,
            width,
            schema,
            batches: Vec::new(),
            newest: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            rows: 0,
            bytes: 0,
            reservation,
        }
    }

    fn add(&mut self, batch: RecordBatch) -> DfResult<()> {
        self.push(batch)?;
        if self.rows > COMPACT_ROWS_MIN && self.rows > 2 * self.newest.len() {
            self.compact()?;
        }
        Ok(())
    }

    fn push(&mut self, batch: RecordBatch) -> DfResult<()> {
        let mut newest = BooleanBufferBuilder::new(batch.num_rows());
        newest.append_n(batch.num_rows(), true);
        let index = self.batches.len();
        self.rows += batch.num_rows();
        self.bytes += measure::bytes(&batch);
        self.batches.push(Part { rows: batch, newest, superseded: 0 });
        for row in 0..self.batches[index].rows.num_rows() {
            self.place(Place { batch: index, row });
        }
        self.reservation.try_resize(self.bytes + self.newest.allocation_size())
    }

    /// Takes a row in: it or the one that was there is superseded.
    fn place(&mut self, place: Place) {
        let (key, hasher) = (self.key, &self.hasher);
        let batches = &mut self.batches;
        // A row that is older than the column is a version of nothing.
        if batches[place.batch].rows.column(key).is_null(place.row) {
            return;
        }
        let text = batches[place.batch].key(key, place.row);
        let entry = self.newest.entry(
            hasher.hash_one(text),
            |other| batches[other.batch].key(key, other.row) == text,
            |other| hasher.hash_one(batches[other.batch].key(key, other.row)),
        );
        match entry {
            Entry::Vacant(entry) => {
                entry.insert(place);
            }
            Entry::Occupied(mut entry) => {
                let version = |place: &Place| batches[place.batch].version(self.version, place.row);
                let newer = version(&place) > version(entry.get());
                let older = if newer { std::mem::replace(entry.get_mut(), place) } else { place };
                batches[older.batch].supersede(older.row);
            }
        }
    }

    /// Drops what is superseded.
    fn compact(&mut self) -> DfResult<()> {
        let parts = std::mem::take(&mut self.batches);
        self.newest.clear();
        (self.rows, self.bytes) = (0, 0);
        for part in parts {
            let live = part.live()?;
            drop(part);
            if live.num_rows() > 0 {
                self.push(live)?;
            }
        }
        Ok(())
    }

    fn emit(self, rows_max: usize) -> impl futures_util::Stream<Item = DfResult<RecordBatch>> + Send {
        let columns: Vec<usize> = (0..self.width).collect();
        let (schema, reservation) = (self.schema, self.reservation);
        let pieces = self.batches.into_iter().flat_map(move |part| slices(part, rows_max.max(1)));
        stream::iter(pieces).map(move |live| {
            // Held until the last piece is out.
            let _held = &reservation;
            let narrow = live?.project(&columns)?;
            let options = RecordBatchOptions::new().with_row_count(Some(narrow.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), narrow.columns().to_vec(), &options)?)
        })
    }
}

fn slices(part: Part, rows_max: usize) -> Vec<DfResult<RecordBatch>> {
    match part.live() {
        Ok(live) => {
            let starts = (0..live.num_rows()).step_by(rows_max);
            starts.map(|start| Ok(live.slice(start, rows_max.min(live.num_rows() - start)))).collect()
        }
        Err(error) => vec![Err(error)],
    }
}
