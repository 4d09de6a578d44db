//! The catalogs that drivers and tools ask: `pg_catalog` and `information_schema` of one caller's tables, made for one
//! statement and never shared. Those without rows are only known by name: `empty` takes
//! them out of statements before they are planned. Start at [`SystemSchema`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int16Array, Int32Array, Int64Array, StringArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result as DfResult};

use super::types::{KNOWN, PgType, SHOWN_AS};
use crate::catalog::{SCHEMA, TableDef};
use crate::reads::Readable;

pub(crate) const PG_CATALOG: &str = "pg_catalog";
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";
/// What asyncpg asks about a type it doesn't know.
pub(super) const TYPE_TREE: &str = "parlance_type_tree";
/// The owner of everything.
const OWNER: i64 = 10;
const NAMESPACE_CATALOG: i64 = 11;
const NAMESPACE_PUBLIC: i64 = 2_200;
const NAMESPACE_INFORMATION: i64 = 13_000;
const HEAP: i64 = 2;
const TABLESPACE: i64 = 1_663;

macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$(Value::from($value)),*] };
}

/// What a statement may see of its session.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The tenant.
    pub(super) user: String,
    pub(super) database: String,
    pub(super) pid: i32,
    /// Names and values.
    pub(super) settings: Vec<(&'static str, String)>,
    pub(super) readable: Readable,
}

/// A table's number; the same in every session.
pub(super) fn table_oid(name: &str) -> i64 {
    // FNV-1a, above what Postgres gives to its own.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i64::from(0x4000_0000 | (hash & 0x3fff_ffff))
}

/// A table's name.
pub(super) fn name_of(table: &TableDef) -> &str {
    &table.name
}

/// One schema of the catalogs, for one caller.
pub(crate) struct SystemSchema {
    tables: HashMap<&'static str, Made>,
}

type Made = Arc<dyn TableProvider>;

impl std::fmt::Debug for SystemSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.tables.keys()).finish()
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.tables.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}

/// Names of the tables of both schemas that have rows.
pub(super) const FULL: &[&str] = &[
    "pg_am",
    "pg_attribute",
    "pg_class",
    "pg_database",
    "pg_namespace",
    "pg_roles",
    "pg_settings",
    "pg_tables",
    "pg_tablespace",
    "pg_type",
    "pg_user",
    TYPE_TREE,
    "columns",
    "schemata",
    "tables",
];

/// Both schemas over a caller's tables.
/// # Errors  Only by a fault of ours.
pub(crate) fn schemas(tables: &[TableDef], view: &View) -> DfResult<[(&'static str, Arc<SystemSchema>); 2]> {
    let may = |table: &&TableDef| view.readable.has(name_of(table));
    let tables: Vec<&TableDef> = tables.iter().filter(may).collect();
    let mut catalog = HashMap::new();
    catalog.insert(
        "pg_am",
        made("oid:oid amname:name amhandler:text amtype:char", vec![row![HEAP, "heap", "heap_tableam_handler", "t"]])?,
    );
    catalog.insert("pg_class", made(CLASS, tables.iter().map(|table| class(table)).collect())?);
    catalog.insert("pg_attribute", made(ATTRIBUTE, tables.iter().flat_map(|table| attributes(table)).collect())?);
    catalog.insert("pg_database", made(DATABASE, vec![database(view)])?);
    let namespaces =
        [(NAMESPACE_CATALOG, PG_CATALOG), (NAMESPACE_PUBLIC, SCHEMA), (NAMESPACE_INFORMATION, INFORMATION_SCHEMA)];
    let namespaces = namespaces.map(|(oid, name)| row![oid, name, OWNER, NULL]);
    catalog.insert("pg_namespace", made("oid:oid nspname:name nspowner:oid nspacl:text[]", namespaces.into())?);
    let user = view.user.as_str();
    let role = row![OWNER, user, false, true, false, false, true, false, -1, NULL, NULL, false, NULL];
    catalog.insert("pg_roles", made(ROLE, vec![role])?);
    catalog.insert("pg_user", made(USER, vec![row![user, OWNER, false, false, false, false, NULL, NULL, NULL]])?);
    catalog.insert("pg_settings", made(SETTING, view.settings.iter().map(setting).collect())?);
    let listed = tables.iter().map(|table| row![SCHEMA, name_of(table), user, NULL, false, false, false, false]);
    catalog.insert("pg_tables", made(TABLES, listed.collect())?);
    let spaces = vec![row![TABLESPACE, "pg_default", OWNER, NULL, NULL]];
    catalog.insert("pg_tablespace", made("oid:oid spcname:name spcowner:oid spcacl:text[] spcoptions:text[]", spaces)?);
    catalog.insert("pg_type", made(TYPE, types())?);
    catalog.insert(TYPE_TREE, made(TREE, type_tree())?);
    let mut information = HashMap::new();
    let named = tables.iter().map(|table| {
        row![
            view.database.as_str(),
            SCHEMA,
            name_of(table),
            "BASE TABLE",
            NULL,
            NULL,
            NULL,
            NULL,
            NULL,
            "NO",
            "NO",
            NULL
        ]
    });
    information.insert("tables", made(INFORMATION_TABLES, named.collect())?);
    let columns = tables.iter().flat_map(|table| columns(table, view));
    information.insert("columns", made(INFORMATION_COLUMNS, columns.collect())?);
    let schemata = [PG_CATALOG, SCHEMA, INFORMATION_SCHEMA];
    let schemata = schemata.map(|name| row![view.database.as_str(), name, user, NULL, NULL, NULL, NULL]);
    information.insert("schemata", made(INFORMATION_SCHEMATA, schemata.into())?);
    Ok([(PG_CATALOG, catalog), (INFORMATION_SCHEMA, information)]
        .map(|(name, tables)| (name, Arc::new(SystemSchema { tables }))))
}

const CLASS: &str = "oid:oid relname:name relnamespace:oid reltype:oid reloftype:oid relowner:oid relam:oid \
    relfilenode:oid reltablespace:oid relpages:int4 reltuples:float4 relallvisible:int4 reltoastrelid:oid \
    relhasindex:bool relisshared:bool relpersistence:char relkind:char relnatts:int2 relchecks:int2 relhasrules:bool \
    relhastriggers:bool relhassubclass:bool relrowsecurity:bool relforcerowsecurity:bool relispopulated:bool \
    relreplident:char relispartition:bool relrewrite:oid relfrozenxid:int8 relminmxid:int8 relacl:text[] \
    reloptions:text[] relpartbound:text";
const ATTRIBUTE: &str = "attrelid:oid attname:name atttypid:oid attstattarget:int4 attlen:int2 attnum:int2 attndims:int4 \
    attcacheoff:int4 atttypmod:int4 attbyval:bool attalign:char attstorage:char attcompression:char attnotnull:bool \
    atthasdef:bool atthasmissing:bool attidentity:char attgenerated:char attisdropped:bool attislocal:bool \
    attinhcount:int4 attcollation:oid attacl:text[] attoptions:text[] attfdwoptions:text[] attmissingval:text";
const DATABASE: &str = "oid:oid datname:name datdba:oid encoding:int4 datlocprovider:char datistemplate:bool \
    datallowconn:bool datconnlimit:int4 datfrozenxid:int8 datminmxid:int8 dattablespace:oid datcollate:text \
    datctype:text daticulocale:text datcollversion:text datacl:text[]";
const ROLE: &str = "oid:oid rolname:name rolsuper:bool rolinherit:bool rolcreaterole:bool rolcreatedb:bool \
    rolcanlogin:bool rolreplication:bool rolconnlimit:int4 rolpassword:text rolvaliduntil:text rolbypassrls:bool \
    rolconfig:text[]";
const USER: &str = "usename:name usesysid:oid usecreatedb:bool usesuper:bool userepl:bool usebypassrls:bool passwd:text \
    valuntil:text useconfig:text[]";
const SETTING: &str = "name:text setting:text unit:text category:text short_desc:text extra_desc:text context:text \
    vartype:text source:text min_val:text max_val:text enumvals:text[] boot_val:text reset_val:text sourcefile:text \
    sourceline:int4 pending_restart:bool";
const TABLES: &str = "schemaname:name tablename:name tableowner:name tablespace:name hasindexes:bool hasrules:bool \
    hastriggers:bool rowsecurity:bool";
const TYPE: &str = "oid:oid typname:name typnamespace:oid typowner:oid typlen:int2 typbyval:bool typtype:char \
    typcategory:char typispreferred:bool typisdefined:bool typdelim:char typrelid:oid typsubscript:text typelem:oid \
    typarray:oid typinput:text typoutput:text typreceive:text typsend:text typmodin:text typmodout:text typanalyze:text \
    typalign:char typstorage:char typnotnull:bool typbasetype:oid typtypmod:int4 typndims:int4 typcollation:oid \
    typdefaultbin:text typdefault:text typacl:text[]";
const TREE: &str = "oid:oid ns:name name:name kind:char basetype:oid elemtype:oid elemdelim:char range_subtype:oid \
    attrtypoids:oid[] attrnames:text[] depth:int4 basetype_name:text elemtype_name:text range_subtype_name:text";
const INFORMATION_TABLES: &str = "table_catalog:name table_schema:name table_name:name table_type:text \
    self_referencing_column_name:name reference_generation:text user_defined_type_catalog:name \
    user_defined_type_schema:name user_defined_type_name:name is_insertable_into:text is_typed:text commit_action:text";
const INFORMATION_COLUMNS: &str = "table_catalog:name table_schema:name table_name:name column_name:name \
    ordinal_position:int4 column_default:text is_nullable:text data_type:text character_maximum_length:int4 \
    character_octet_length:int4 numeric_precision:int4 numeric_precision_radix:int4 numeric_scale:int4 \
    datetime_precision:int4 interval_type:text collation_name:name domain_name:name udt_catalog:name udt_schema:name \
    udt_name:name is_identity:text identity_generation:text is_generated:text generation_expression:text \
    is_updatable:text";
const INFORMATION_SCHEMATA: &str = "catalog_name:name schema_name:name schema_owner:name \
    default_character_set_catalog:name default_character_set_schema:name default_character_set_name:name sql_path:text";

fn class(table: &TableDef) -> Vec<Value> {
    let columns = i64::try_from(table.schema.fields().len()).unwrap_or(i64::MAX);
    row![
        table_oid(name_of(table)),
        name_of(table),
        NAMESPACE_PUBLIC,
        0,
        0,
        OWNER,
        HEAP,
        table_oid(name_of(table)),
        0,
        0,
        -1,
        0,
        0,
        false,
        false,
        "p",
        "r",
        columns,
        0,
        false,
        false,
        false,
        false,
        false,
        true,
        "d",
        false,
        0,
        0,
        0,
        NULL,
        NULL,
        NULL
    ]
}

fn numbered(table: &TableDef) -> impl Iterator<Item = (i64, &Field)> {
    (1..).zip(table.schema.fields().iter().map(AsRef::as_ref))
}

fn attributes(table: &TableDef) -> Vec<Vec<Value>> {
    let attribute = |(number, field): (i64, &Field)| {
        let kind = PgType::of_field(field);
        let bytes = i64::from(kind.bytes());
        let by_value = (1..=8).contains(&bytes);
        row![
            table_oid(name_of(table)),
            field.name().as_str(),
            i64::from(kind.oid()),
            -1,
            bytes,
            number,
            i64::from(kind.is_array),
            -1,
            -1,
            by_value,
            "i",
            if by_value { "p" } else { "x" },
            "",
            !field.is_nullable(),
            false,
            false,
            "",
            "",
            false,
            true,
            0,
            0,
            NULL,
            NULL,
            NULL,
            NULL
        ]
    };
    numbered(table).map(attribute).collect()
}

fn columns(table: &TableDef, view: &View) -> Vec<Vec<Value>> {
    let column = |(number, field): (i64, &Field)| {
        let kind = PgType::of_field(field);
        let name = kind.scalar.known().name;
        let (data_type, udt) = match kind.is_array {
            true => ("ARRAY".to_owned(), format!("_{name}")),
            false => (kind.sql_name(), name.to_owned()),
        };
        row![
            view.database.as_str(),
            SCHEMA,
            name_of(table),
            field.name().as_str(),
            number,
            NULL,
            if field.is_nullable() { "YES" } else { "NO" },
            data_type,
            NULL,
            NULL,
            NULL,
            NULL,
            NULL,
            NULL,
            NULL,
            NULL,
            NULL,
            view.database.as_str(),
            PG_CATALOG,
            udt,
            "NO",
            NULL,
            "NEVER",
            NULL,
            "NO"
        ]
    };
    numbered(table).map(column).collect()
}

fn database(view: &View) -> Vec<Value> {
    row![
        1,
        view.database.as_str(),
        OWNER,
        6,
        "c",
        false,
        true,
        -1,
        0,
        0,
        TABLESPACE,
        "C.UTF-8",
        "C.UTF-8",
        NULL,
        NULL,
        NULL
    ]
}

fn setting((name, value): &(&'static str, String)) -> Vec<Value> {
    let value = value.as_str();
    row![
        *name, value, NULL, "Session", "", NULL, "user", "string", "session", NULL, NULL, NULL, value, value, NULL,
        NULL, false
    ]
}

fn types() -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for known in &KNOWN {
        let (oid, array) = (i64::from(known.oid), i64::from(known.array_oid));
        let one = |oid: i64, name: String, bytes: i64, category: &str, item: i64, array: i64| {
            let functions = if item == 0 { known.name } else { "array_" };
            let function = |end: &str| format!("{functions}{end}");
            let by_value = (1..=8).contains(&bytes);
            row![
                oid,
                name,
                NAMESPACE_CATALOG,
                OWNER,
                bytes,
                by_value,
                if bytes == -2 { "p" } else { "b" },
                category,
                false,
                true,
                ",",
                0,
                if item == 0 { "-" } else { "array_subscript_handler" },
                item,
                array,
                function("in"),
                function("out"),
                function("recv"),
                function("send"),
                "-",
                "-",
                "-",
                "i",
                "x",
                false,
                0,
                -1,
                0,
                0,
                NULL,
                NULL,
                NULL
            ]
        };
        rows.push(one(oid, known.name.to_owned(), known.bytes.into(), known.category, 0, array));
        if array != 0 {
            rows.push(one(array, format!("_{}", known.name), -1, "A", oid, 0));
        }
    }
    rows
}

/// Arrays alone: a driver knows what they are arrays of.
fn type_tree() -> Vec<Vec<Value>> {
    let arrays = KNOWN.iter().filter(|known| known.array_oid != 0);
    let array = |known: &super::types::Known| {
        row![
            i64::from(known.array_oid),
            PG_CATALOG,
            format!("_{}", known.name),
            "b",
            NULL,
            i64::from(known.oid),
            ",",
            NULL,
            NULL,
            NULL,
            0,
            NULL,
            known.sql_name,
            NULL
        ]
    };
    arrays.map(array).collect()
}

/// A value of a row.
enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
}

const NULL: Value = Value::Null;

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// A table in memory; `spec` is `name:type` for each column.
fn made(spec: &str, rows: Vec<Vec<Value>>) -> DfResult<Made> {
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for (at, column) in spec.split_whitespace().enumerate() {
        let (name, kind) = column.split_once(':').unwrap_or((column, "text"));
        let array = array(kind, rows.iter().map(|row| row.get(at).unwrap_or(&Value::Null)))?;
        let shown_as = HashMap::from([(SHOWN_AS.to_owned(), kind.to_owned())]);
        fields.push(Field::new(name, array.data_type().clone(), true).with_metadata(shown_as));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

fn array<'a>(kind: &str, values: impl ExactSizeIterator<Item = &'a Value>) -> Result<ArrayRef, ArrowError> {
    let int = |value: &Value| if let Value::Int(n) = value { Some(*n) } else { None };
    Ok(match kind {
        "bool" => {
            let bools = values.map(|value| if let Value::Bool(b) = value { Some(*b) } else { None });
            Arc::new(bools.collect::<BooleanArray>())
        }
        "oid" | "int8" => Arc::new(values.map(int).collect::<Int64Array>()),
        "int4" => Arc::new(values.map(|value| int(value).and_then(|n| n.try_into().ok())).collect::<Int32Array>()),
        "int2" => Arc::new(values.map(|value| int(value).and_then(|n| n.try_into().ok())).collect::<Int16Array>()),
        "float4" => Arc::new(values.map(|value| int(value).map(|n| n as f32)).collect::<Float32Array>()),
        // None of them has a value.
        "text[]" => new_null_array(&DataType::new_list(DataType::Utf8, true), values.len()),
        "oid[]" => new_null_array(&DataType::new_list(DataType::Int64, true), values.len()),
        _ => {
            let texts = values.map(|value| if let Value::Text(text) = value { Some(text.as_str()) } else { None });
            Arc::new(texts.collect::<StringArray>())
        }
    })
}
