//! What a handler's types say about its route: each argument is a [`Part`], the result is what it [`Gives`].

use crate::app::App;
use crate::auth::{AgentCaller, TokenCaller, VisitorCaller};
use crate::http::extract::{Id, Params, Write};
use crate::http::problem::Problem;
use crate::http::reports::V0Error;
use crate::limits::ClientIp;
use axum::Json;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use schemars::r#gen::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Marks a property that an answer may lack.
const MAY_LACK: &str = "x-may-lack";
/// The shape of errors, of `/v1` and of `/v0`.
pub(super) const PROBLEM: &str = "Problem";
pub(super) const V0_ERROR: &str = "V0Error";

/// An operation of the document, being read off a route.
pub struct Operation<'a> {
    /// Shapes of answers; those with names are written once.
    shapes: &'a mut SchemaGenerator,
    /// By place and name.
    pub(super) parameters: Vec<Value>,
    /// The schema of the path's one id.
    pub(super) path_schema: Option<Value>,
    /// The body, by its media type.
    pub(super) body: Option<(&'static str, Value, bool)>,
    /// What success gives, by media type; the last word counts.
    pub(super) success: Option<(&'static str, Value)>,
    /// The status of success that the type says.
    pub(super) status: u16,
    /// Statuses that refuse.
    pub(super) refusals: BTreeSet<u16>,
    /// The shape of refusals.
    pub(super) refusal: &'static str,
}

impl<'a> Operation<'a> {
    pub(super) fn new(shapes: &'a mut SchemaGenerator) -> Self {
        Self {
            shapes,
            parameters: Vec::new(),
            path_schema: None,
            body: None,
            success: None,
            status: 200,
            refusals: BTreeSet::new(),
            refusal: PROBLEM,
        }
    }

    /// Success gives JSON of `T`.
    pub fn gives_json<T: JsonSchema>(&mut self) {
        let schema = answer_schema::<T>(self.shapes);
        self.success = Some(("application/json", schema));
    }

    /// Success gives something else.
    pub fn gives(&mut self, media_type: &'static str) {
        self.success = Some((media_type, json!({ "type": "string" })));
    }

    /// The body is JSON of `T`.
    pub fn takes_json<T: JsonSchema>(&mut self) {
        let schema = request_schema::<T>();
        let required = schema["required"].as_array().is_some_and(|fields| !fields.is_empty());
        self.body = Some(("application/json", schema, required));
    }

    /// The body is something else.
    pub fn takes(&mut self, media_type: &'static str) {
        self.body = Some((media_type, json!({ "type": "string" }), false));
    }

    /// The body is a form of this shape.
    pub fn takes_form(&mut self, schema: Value) {
        self.body = Some(("multipart/form-data", schema, true));
    }

    /// It may refuse with these.
    pub fn refuses(&mut self, statuses: &[u16]) {
        self.refusals.extend(statuses);
    }

    /// It reads a query parameter.
    pub fn query(&mut self, name: &str, says: &str, schema: Value) {
        self.parameters
            .push(json!({ "name": name, "in": "query", "required": false, "description": says, "schema": schema }));
    }

    /// It reads a header.
    pub fn header(&mut self, name: &str, required: bool, says: &str, schema: Value) {
        let place = "header";
        self.parameters
            .push(json!({ "name": name, "in": place, "required": required, "description": says, "schema": schema }));
    }
}

/// Shapes of requests stand where they are used: what may be left out there isn't what may be missing in an answer.
fn request_schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2019_09().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = json!(settings.into_generator().into_root_schema_for::<T>());
    if let Some(object) = schema.as_object_mut() {
        object.remove("title");
        object.remove("$schema");
    }
    schema
}

/// For shapes of answers.
pub(super) fn shapes() -> SchemaGenerator {
    SchemaSettings::draft2019_09()
        .with(|settings| settings.definitions_path = "#/components/schemas/".to_owned())
        .into_generator()
}

fn answer_schema<T: JsonSchema>(shapes: &mut SchemaGenerator) -> Value {
    let mut schema = json!(shapes.subschema_for::<T>());
    complete(&mut schema);
    schema
}

/// In an answer every property is there, unless it's marked: `null` says that there is nothing.
pub(super) fn complete(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let mut required = None;
            for (keyword, value) in object.iter_mut() {
                match (keyword.as_str(), value) {
                    ("properties", Value::Object(properties)) => required = Some(complete_properties(properties)),
                    ("enum" | "const" | "default" | "examples" | "required", _) => {}
                    (_, value) => complete(value),
                }
            }
            if let Some(required) = required {
                object.insert("required".to_owned(), required.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(complete),
        _ => {}
    }
}

/// Completes what is in the properties; answers which must be there.
fn complete_properties(properties: &mut Map<String, Value>) -> Vec<Value> {
    let mut required = Vec::new();
    for (name, property) in properties.iter_mut() {
        let marked = property.as_object_mut().is_some_and(|property| property.remove(MAY_LACK).is_some());
        if !marked {
            required.push(Value::from(name.clone()));
        }
        complete(property);
    }
    required
}

/// The schema of a property that an answer may lack; for `#[schemars(schema_with = …)]` beside `skip_serializing_if`.
/// Of a flattened one all properties may be missing.
pub fn may_lack<T: JsonSchema>(shapes: &mut SchemaGenerator) -> schemars::schema::Schema {
    let mut schema = T::json_schema(shapes).into_object();
    let mark = |schema: &mut schemars::schema::SchemaObject| {
        schema.extensions.insert(MAY_LACK.to_owned(), true.into());
    };
    match schema.object.as_mut().filter(|object| !object.properties.is_empty()) {
        Some(object) => {
            for property in object.properties.values_mut() {
                let mut marked = property.clone().into_object();
                mark(&mut marked);
                *property = marked.into();
            }
            object.required.clear();
        }
        None => mark(&mut schema),
    }
    schema.into()
}

/// An argument of a handler.
pub trait Part {
    /// Says what it takes from the request.
    fn describe(operation: &mut Operation<'_>);
}

macro_rules! silent_parts {
    ($($type:ty),* $(,)?) => {$(
        impl Part for $type {
            fn describe(_: &mut Operation<'_>) {}
        }
    )*};
}

silent_parts!(
    AgentCaller,
    ClientIp,
    HeaderMap,
    Option<AgentCaller>,
    RawQuery,
    Request,
    State<Arc<App>>,
    Uri,
    VisitorCaller,
    WebSocketUpgrade,
);

impl<T> Part for Extension<T> {
    fn describe(_: &mut Operation<'_>) {}
}

impl<T> Part for Option<Extension<T>> {
    fn describe(_: &mut Operation<'_>) {}
}

/// Who may call is the list's to say; this is about the shape of refusals.
impl Part for TokenCaller {
    fn describe(operation: &mut Operation<'_>) {
        operation.refusal = V0_ERROR;
        operation.refuses(&[400, 403, 429]);
    }
}

impl<T: JsonSchema> Part for Id<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.path_schema = Some(request_schema::<T>());
        operation.refuses(&[404]);
    }
}

impl<T> Part for Path<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.refuses(&[404]);
    }
}

impl<T: JsonSchema> Part for Params<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = request_schema::<T>();
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let mut property = property.clone();
            let says = property.as_object_mut().and_then(|property| property.remove("description"));
            let mut parameter = json!({
                "name": name, "in": "query", "required": required.contains(&name.as_str()), "schema": property,
            });
            if let Some(says) = says {
                parameter["description"] = says;
            }
            operation.parameters.push(parameter);
        }
        operation.refuses(&[422]);
    }
}

impl<T: JsonSchema> Part for Write<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.takes_json::<T>();
        let says = "The same key and body repeat the first outcome for 24 h.";
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 200 });
        operation.header("Idempotency-Key", false, says, schema);
        operation.refuses(&[400, 404, 409, 410, 413, 415, 422, 503]);
    }
}

impl<T: Part> Part for Result<T, Problem> {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
    }
}

/// The result of a handler.
pub trait Gives {
    /// Says what it answers.
    fn describe(operation: &mut Operation<'_>);
}

impl<T: JsonSchema> Gives for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.gives_json::<T>();
    }
}

/// A status beside the body is that of something made, unless the list says others.
impl<T: Gives> Gives for (StatusCode, T) {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
        operation.status = 201;
    }
}

impl<T: Gives> Gives for (HeaderMap, T) {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
    }
}

/// The list says what is in it.
impl Gives for Response {
    fn describe(_: &mut Operation<'_>) {}
}

impl Gives for &'static str {
    fn describe(operation: &mut Operation<'_>) {
        operation.gives("text/plain");
    }
}

impl<T: Gives> Gives for Result<T, Problem> {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
    }
}

impl<T: Gives> Gives for Result<T, V0Error> {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
        operation.refusal = V0_ERROR;
        operation.refuses(&[400, 403, 404, 413, 503]);
    }
}

/// A handler whose arguments and result say what its route is.
pub trait Endpoint<M> {
    /// Says it.
    fn describe(operation: &mut Operation<'_>);
}

macro_rules! endpoints {
    ($(($($part:ident),*);)*) => {$(
        impl<F, Fut, Out, $($part),*> Endpoint<fn($($part),*) -> Fut> for F
        where
            F: Fn($($part),*) -> Fut,
            Fut: Future<Output = Out>,
            Out: Gives,
            $($part: Part,)*
        {
            fn describe(operation: &mut Operation<'_>) {
                $($part::describe(operation);)*
                <Out as Gives>::describe(operation);
            }
        }
    )*};
}

endpoints! {
    ();
    (A);
    (A, B);
    (A, B, C);
    (A, B, C, D);
    (A, B, C, D, E);
    (A, B, C, D, E, G);
    (A, B, C, D, E, G, H);
}

/// All shapes that answers named, complete.
pub(super) fn named(mut shapes: SchemaGenerator) -> BTreeMap<String, Value> {
    let shape = |(name, schema): (String, schemars::schema::Schema)| {
        let mut schema = json!(schema);
        complete(&mut schema);
        (name, schema)
    };
    shapes.take_definitions().into_iter().map(shape).collect()
}
