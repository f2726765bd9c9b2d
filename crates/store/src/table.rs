//! A table of the store, as DataFusion asks for it.
//!
//! `scan` is a union of the Parquet files that may hold a wanted row and of the tape's tail. The file list
//! is explicit and of the statement's own snapshot, because a listing table caches its list for ever and
//! because two scans of one statement must see the same rows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;

use crate::snapshot::{File, Snapshot, Source};

/// The snapshot that a statement holds on to, as an extension of its session.
#[derive(Debug)]
pub struct Pinned(pub Arc<Snapshot>);

/// One table of a source.
#[derive(Debug)]
pub struct StoreTable {
    name: &'static str,
    schema: SchemaRef,
    source: Arc<dyn Source>,
}

impl StoreTable {
    #[must_use]
    pub fn new(name: &'static str, schema: SchemaRef, source: Arc<dyn Source>) -> Self {
        StoreTable { name, schema, source }
    }

    /// The files that may hold a row for which all filters are true.
    fn pruned<'a>(&self, files: &'a [File], filters: &[Expr], state: &dyn Session) -> Result<Vec<&'a File>> {
        let all = || Ok(files.iter().collect());
        let Some(filter) = conjunction(filters.iter().cloned()) else { return all() };
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        // What cannot be turned into a question about least and greatest values prunes nothing.
        let Ok(filter) = state.create_physical_expr(filter, &schema) else { return all() };
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema));
        let Ok(predicate) = builder.try_build(filter) else { return all() };
        if predicate.always_true() && predicate.literal_guarantees().is_empty() {
            return all();
        }
        let keep = predicate.prune(&Known { files, schema: &self.schema })?;
        Ok(files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file).collect())
    }

    fn files_exec(
        &self,
        files: &[&File],
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
        state: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut parts = Vec::with_capacity(files.len());
        for file in files {
            let path = object_store_path(file)?;
            let mut part = PartitionedFile::new("", file.len_bytes);
            part.object_meta.location = path;
            parts.push(part.with_statistics(Arc::clone(&file.statistics)));
        }
        let rows = files.iter().map(|file| file.statistics.num_rows).reduce(|sum, rows| sum.add(&rows));
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = rows.unwrap_or(Precision::Exact(0));
        let groups = FileGroup::new(parts).split_files(state.config().target_partitions());
        let source = ParquetSource::new(Arc::clone(&self.schema))
            .with_table_parquet_options(state.config_options().execution.parquet.clone().into_table());
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_limit(limit)
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// What is known of files without opening them.
struct Known<'a> {
    files: &'a [File],
    schema: &'a SchemaRef,
}

impl Known<'_> {
    fn bound(&self, column: &Column, of: impl Fn(&ColumnStatistics) -> &Precision<ScalarValue>) -> Option<ArrayRef> {
        let at = self.schema.index_of(column.name()).ok()?;
        let none = ScalarValue::try_from(self.schema.field(at).data_type()).ok()?;
        // A bound that is not reached is still a bound.
        let value = |file: &File| {
            let bound = file.statistics.column_statistics.get(at).and_then(|stats| of(stats).get_value());
            bound.and_then(|bound| bound.cast_to(&none.data_type()).ok()).unwrap_or_else(|| none.clone())
        };
        let values: Vec<ScalarValue> = self.files.iter().map(value).collect();
        if values.iter().all(ScalarValue::is_null) {
            return None;
        }
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for Known<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |stats| &stats.min_value)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |stats| &stats.max_value)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.files.iter().map(|file| file.statistics.num_rows.get_value().map(|rows| *rows as u64));
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if column.name() != "symbol" {
            return None;
        }
        let wanted: Option<Vec<&str>> = values.iter().map(|value| value.try_as_str().flatten()).collect();
        let wanted = wanted?;
        let answer = |file: &File| {
            let symbols = file.symbols.as_ref()?;
            let found = wanted.iter().filter(|wanted| symbols.contains(**wanted)).count();
            // Either no row has a wanted symbol, or all rows have, or it cannot be told.
            match found {
                0 => Some(false),
                _ if symbols.len() == found => Some(true),
                _ => None,
            }
        };
        Some(self.files.iter().map(answer).collect())
    }
}

/// DataFusion's options of a session, as a Parquet scan takes them.
trait IntoTable {
    fn into_table(self) -> datafusion::config::TableParquetOptions;
}

impl IntoTable for datafusion::config::ParquetOptions {
    fn into_table(self) -> datafusion::config::TableParquetOptions {
        datafusion::config::TableParquetOptions { global: self, ..Default::default() }
    }
}

fn object_store_path(file: &File) -> Result<object_store::path::Path> {
    object_store::path::Path::from_absolute_path(&file.path).map_err(|error| DataFusionError::External(Box::new(error)))
}

#[async_trait]
impl TableProvider for StoreTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let pinned = state.config().get_extension::<Pinned>();
        let snapshot = pinned.map_or_else(|| self.source.snapshot(), |pinned| Arc::clone(&pinned.0));
        let table = snapshot.table(self.name);
        let files = self.pruned(&table.files, filters, state)?;
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(2);
        if !files.is_empty() {
            inputs.push(self.files_exec(&files, projection, limit, state)?);
        }
        if table.tail.iter().any(|batch| batch.num_rows() > 0) {
            let tail = table.tail.as_ref().clone();
            let tail = MemorySourceConfig::try_new_exec(&[tail], self.schema(), projection.cloned())?;
            inputs.push(tail);
        }
        match inputs.len() {
            0 => {
                let schema = match projection {
                    Some(columns) => Arc::new(self.schema.project(columns)?),
                    None => self.schema(),
                };
                Ok(Arc::new(EmptyExec::new(schema)))
            }
            1 => Ok(inputs.remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }
}
