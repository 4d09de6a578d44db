//! Of all versions of a row, the newest: a plan node that reads its whole input once and keeps one row a key.
//! Memory is about twice the kept rows (older versions are dropped as they pile up) and is accounted to the
//! tenant's pool. Start at [`NewestExec`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
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
            return Err(DataFusionError::Internal(format!("versions need a text key and a bigint, not {types:?}")));
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
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("NewestExec has one input".to_owned()))?;
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

struct Place {
    version: i64,
    batch: usize,
    row: usize,
}

/// The newest rows so far, with the batches that hold them.
struct Kept {
    key: usize,
    version: usize,
    width: usize,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    rows: usize,
    newest: HashMap<Box<str>, Place>,
    bytes: usize,
    reservation: MemoryReservation,
}

impl Kept {
    fn new(key: usize, version: usize, width: usize, schema: SchemaRef, reservation: MemoryReservation) -> Self {
        let (batches, newest) = (Vec::new(), HashMap::new());
        Self { key, version, width, schema, batches, rows: 0, newest, bytes: 0, reservation }
    }

    fn add(&mut self, batch: RecordBatch) -> DfResult<()> {
        let keys = batch.column(self.key).as_string::<i32>();
        let versions = batch.column(self.version).as_primitive::<Int64Type>();
        let index = self.batches.len();
        for row in 0..batch.num_rows() {
            let version = if versions.is_null(row) { i64::MIN } else { versions.value(row) };
            let place = Place { version, batch: index, row };
            match self.newest.get_mut(keys.value(row)) {
                Some(old) if old.version >= version => {}
                Some(old) => *old = place,
                None => {
                    self.bytes += keys.value(row).len() + 2 * size_of::<(Box<str>, Place)>();
                    self.newest.insert(keys.value(row).into(), place);
                }
            }
        }
        self.rows += batch.num_rows();
        self.bytes += measure::bytes(&batch);
        self.batches.push(batch);
        self.reservation.try_resize(self.bytes)?;
        if self.rows > COMPACT_ROWS_MIN && self.rows > 2 * self.newest.len() {
            self.compact()?;
        }
        Ok(())
    }

    fn compact(&mut self) -> DfResult<()> {
        let before: usize = self.batches.iter().map(measure::bytes).sum();
        let mut places: Vec<&mut Place> = self.newest.values_mut().collect();
        places.sort_by_key(|p| (p.batch, p.row));
        let indices: Vec<(usize, usize)> = places.iter().map(|p| (p.batch, p.row)).collect();
        let refs: Vec<&RecordBatch> = self.batches.iter().collect();
        let live = interleave_record_batch(&refs, &indices)?;
        for (row, place) in places.into_iter().enumerate() {
            (place.batch, place.row) = (0, row);
        }
        self.rows = live.num_rows();
        self.bytes = self.bytes - before + measure::bytes(&live);
        self.batches = vec![live];
        self.reservation.try_resize(self.bytes)
    }

    fn emit(self, rows_max: usize) -> impl futures_util::Stream<Item = DfResult<RecordBatch>> + Send {
        let mut indices: Vec<(usize, usize)> = self.newest.values().map(|p| (p.batch, p.row)).collect();
        indices.sort_unstable();
        let chunks: Vec<Vec<(usize, usize)>> = indices.chunks(rows_max.max(1)).map(<[_]>::to_vec).collect();
        let columns: Vec<usize> = (0..self.width).collect();
        let narrow: DfResult<Vec<RecordBatch>> =
            self.batches.iter().map(|b| b.project(&columns).map_err(DataFusionError::from)).collect();
        let (schema, reservation) = (self.schema, self.reservation);
        stream::iter(chunks).map(move |chunk| {
            // Held until the last chunk is out.
            let _held = &reservation;
            let narrow = narrow.as_ref().map_err(|e| DataFusionError::Internal(e.to_string()))?;
            if schema.fields().is_empty() {
                let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(chunk.len()));
                return Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), vec![], &options)?);
            }
            let refs: Vec<&RecordBatch> = narrow.iter().collect();
            Ok(interleave_record_batch(&refs, &chunk)?)
        })
    }
}
