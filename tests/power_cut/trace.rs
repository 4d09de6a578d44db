//! What was done to the files of a run, and what was acknowledged meanwhile, in order. [`shim.rs`](shim.rs) writes it.

use serde_json::Value;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// One thing that was done, or noted. Paths are those below the root.
pub enum Step {
    /// A file was opened; it's made if there was none of that name.
    Open {
        inode: u64,
        path: String,
        truncates: bool,
    },
    Mkdir(String),
    Write {
        inode: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        inode: u64,
        length: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink(String),
    Rmdir(String),
    /// What was done before this is synced when it ends.
    SyncBegins {
        number: u64,
    },
    SyncEnds {
        number: u64,
        inode: u64,
        path: String,
    },
    DirSyncEnds {
        number: u64,
        path: String,
    },
    /// The server had answered.
    Acknowledged(Value),
}

/// What stands before the kinds of the shim.
const ACKNOWLEDGED: u8 = 100;

/// Reads a trace.
pub fn read(path: &Path) -> Vec<Step> {
    let bytes = std::fs::read(path).expect("a trace");
    let mut rest = bytes.as_slice();
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("4 bytes")) as usize;
        steps.push(step(&after[..length]));
        rest = &after[length..];
    }
    steps
}

fn step(record: &[u8]) -> Step {
    let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("8 bytes"));
    let (first, second) = (number(1), number(9));
    let path_bytes = u32::from_le_bytes(record[17..21].try_into().expect("4 bytes")) as usize;
    let (path, rest) = record[21..].split_at(path_bytes);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let path = text(path);
    match record[0] {
        1 => Step::Open { inode: first, path, truncates: second == 1 },
        2 => Step::Mkdir(path),
        3 => Step::Write { inode: first, offset: second, bytes: rest.to_vec() },
        4 => Step::Truncate { inode: first, length: second },
        5 => Step::Rename { from: path, to: text(rest) },
        6 => Step::Unlink(path),
        7 => Step::Rmdir(path),
        8 | 10 => Step::SyncBegins { number: second },
        9 => Step::SyncEnds { number: second, inode: first, path },
        11 => Step::DirSyncEnds { number: second, path },
        ACKNOWLEDGED => Step::Acknowledged(serde_json::from_slice(rest).expect("JSON")),
        kind => panic!("a record of kind {kind}"),
    }
}

/// Where acknowledgements are noted, among what the server does.
pub struct Notes(File);

impl Notes {
    pub fn open(path: &Path) -> Self {
        Self(File::options().append(true).create(true).open(path).expect("a trace"))
    }

    /// Call it when the answer is there.
    pub fn acknowledged(&self, what: &Value) {
        let what = what.to_string();
        let mut record = Vec::new();
        record.extend_from_slice(&u32::try_from(21 + what.len()).expect("small").to_le_bytes());
        record.push(ACKNOWLEDGED);
        record.extend_from_slice(&[0; 20]);
        record.extend_from_slice(what.as_bytes());
        // One write at the file's end: no record of the server's comes in between.
        (&self.0).write_all(&record).expect("written");
    }
}
