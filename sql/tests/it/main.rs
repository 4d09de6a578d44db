//! The reports' engine from the outside: facts in, answers out, and what it refuses.

mod answers;
mod datafiles;
mod definitions;
mod depth;
mod doctests;
mod endpoints;
mod formats;
mod hostile;
mod hostile_pg;
mod lanes;
mod pg;
mod pg_memory;
mod plans;
mod printed;
#[path = "../../../sinks/tests/it/python.rs"]
mod python;
mod reads;
mod support;
mod tables;
mod wire;
