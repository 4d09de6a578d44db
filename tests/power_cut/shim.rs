//! What a process does to the files below a directory, written down in the order in which it's done: a library that is loaded
//! before the C library and takes its place. The test compiles it with rustc; no crate knows it.
//!
//! A record is one write to the end of the trace, so that the order holds over all threads, and over the test, which notes
//! there what was acknowledged. [`trace.rs`](trace.rs) reads it. A file is known by its inode. Syncs are only written down:
//! what would be on the disk is for the test to say.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;
const AT_FDCWD: c_int = -100;
const AT_REMOVEDIR: c_int = 0x200;
const O_WRONLY: c_int = 1;
const O_CREAT: c_int = 0o100;
const O_TRUNC: c_int = 0o1000;
const O_APPEND: c_int = 0o2000;
const O_CLOEXEC: c_int = 0o2_000_000;
const SEEK_CUR: c_int = 1;
/// How long a sync takes: others go on meanwhile.
const SYNC: Duration = Duration::from_micros(400);

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn lseek64(fd: c_int, offset: i64, whence: c_int) -> i64;
}

/// The C library's own function of that name.
macro_rules! real {
    ($name:literal, fn($($argument:ty),*) -> $result:ty) => {{
        static FOUND: AtomicUsize = AtomicUsize::new(0);
        let mut found = FOUND.load(Ordering::Relaxed);
        if found == 0 {
            found = unsafe { dlsym(RTLD_NEXT, concat!($name, "\0").as_ptr().cast()) } as usize;
            FOUND.store(found, Ordering::Relaxed);
        }
        unsafe { std::mem::transmute::<usize, unsafe extern "C" fn($($argument),*) -> $result>(found) }
    }};
}

/// The kinds of records.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Open = 1,
    Mkdir = 2,
    Write = 3,
    Truncate = 4,
    Rename = 5,
    Unlink = 6,
    Rmdir = 7,
    SyncBegins = 8,
    SyncEnds = 9,
    DirSyncBegins = 10,
    DirSyncEnds = 11,
}

struct Shim {
    root: PathBuf,
    trace: c_int,
    /// Held from an operation to its record.
    order: Mutex<HashMap<u64, PathBuf>>,
    syncs: AtomicU64,
}

fn shim() -> Option<&'static Shim> {
    static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
    SHIM.get_or_init(|| {
        let root = PathBuf::from(std::env::var_os("POWER_CUT_ROOT")?);
        let mut trace = std::env::var_os("POWER_CUT_TRACE")?.as_bytes().to_vec();
        trace.push(0);
        let open = real!("open", fn(*const c_char, c_int, c_uint) -> c_int);
        let trace = unsafe { open(trace.as_ptr().cast(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600) };
        (trace >= 0).then(|| Shim { root, trace, order: Mutex::default(), syncs: AtomicU64::new(0) })
    })
    .as_ref()
}

impl Shim {
    fn record(&self, kind: Kind, numbers: (u64, u64), path: &[u8], rest: &[u8]) {
        let mut bytes = Vec::with_capacity(25 + path.len() + rest.len());
        bytes.extend_from_slice(&u32::try_from(21 + path.len() + rest.len()).expect("small").to_le_bytes());
        bytes.push(kind as u8);
        bytes.extend_from_slice(&numbers.0.to_le_bytes());
        bytes.extend_from_slice(&numbers.1.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(path.len()).expect("small").to_le_bytes());
        bytes.extend_from_slice(path);
        bytes.extend_from_slice(rest);
        let write = real!("write", fn(c_int, *const c_void, usize) -> isize);
        let written = unsafe { write(self.trace, bytes.as_ptr().cast(), bytes.len()) };
        assert!(usize::try_from(written) == Ok(bytes.len()), "the trace can't be written");
    }

    /// The part of a path below the root.
    fn below(&self, dir: c_int, path: *const c_char) -> Option<PathBuf> {
        let path = Path::new(std::ffi::OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
        let whole = if path.is_absolute() {
            path.to_owned()
        } else if dir == AT_FDCWD {
            std::env::current_dir().ok()?.join(path)
        } else {
            std::fs::read_link(format!("/proc/self/fd/{dir}")).ok()?.join(path)
        };
        whole.strip_prefix(&self.root).ok().map(Path::to_owned)
    }
}

/// The inode of an open file, and whether it's a directory.
fn inode(fd: c_int) -> Option<(u64, bool)> {
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    let about = file.metadata().ok()?;
    Some((about.ino(), about.is_dir()))
}

fn locked(shim: &Shim) -> std::sync::MutexGuard<'_, HashMap<u64, PathBuf>> {
    shim.order.lock().expect("nobody panics meanwhile")
}

fn opened(dir: c_int, path: *const c_char, flags: c_int, open: impl FnOnce() -> c_int) -> c_int {
    let Some(shim) = shim() else { return open() };
    let Some(below) = shim.below(dir, path) else { return open() };
    let mut known = locked(shim);
    let fd = open();
    if fd >= 0
        && let Some((inode, is_dir)) = inode(fd)
    {
        known.insert(inode, below.clone());
        if !is_dir {
            let truncates = u64::from(flags & O_TRUNC != 0);
            shim.record(Kind::Open, (inode, truncates), below.as_os_str().as_bytes(), &[]);
        }
    }
    fd
}

/// # Safety
/// As open(2); so are all the others as the functions they are named after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let real = real!("open", fn(*const c_char, c_int, c_uint) -> c_int);
    opened(AT_FDCWD, path, flags, || unsafe { real(path, flags, mode) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let real = real!("open64", fn(*const c_char, c_int, c_uint) -> c_int);
    opened(AT_FDCWD, path, flags, || unsafe { real(path, flags, mode) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let real = real!("openat", fn(c_int, *const c_char, c_int, c_uint) -> c_int);
    opened(dir, path, flags, || unsafe { real(dir, path, flags, mode) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let real = real!("openat64", fn(c_int, *const c_char, c_int, c_uint) -> c_int);
    opened(dir, path, flags, || unsafe { real(dir, path, flags, mode) })
}

/// Bytes that are written at `at`, or where the file is.
fn written(fd: c_int, bytes: &[u8], at: Option<i64>, write: impl FnOnce() -> isize) -> isize {
    let Some(shim) = shim() else { return write() };
    let Some((inode, false)) = inode(fd) else { return write() };
    let known = locked(shim);
    if !known.contains_key(&inode) {
        drop(known);
        return write();
    }
    let count = write();
    if let Ok(count @ 1..) = usize::try_from(count) {
        let end = || unsafe { lseek64(fd, 0, SEEK_CUR) } - i64::try_from(count).expect("small");
        let offset = u64::try_from(at.unwrap_or_else(end)).expect("not before the start");
        shim.record(Kind::Write, (inode, offset), &[], &bytes[..count]);
    }
    count
}

unsafe fn slice<'a>(bytes: *const c_void, count: usize) -> &'a [u8] {
    if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(bytes.cast(), count) } }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize {
    let real = real!("write", fn(c_int, *const c_void, usize) -> isize);
    written(fd, unsafe { slice(bytes, count) }, None, || unsafe { real(fd, bytes, count) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, count: usize, at: i64) -> isize {
    let real = real!("pwrite", fn(c_int, *const c_void, usize, i64) -> isize);
    written(fd, unsafe { slice(bytes, count) }, Some(at), || unsafe { real(fd, bytes, count, at) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: usize, at: i64) -> isize {
    let real = real!("pwrite64", fn(c_int, *const c_void, usize, i64) -> isize);
    written(fd, unsafe { slice(bytes, count) }, Some(at), || unsafe { real(fd, bytes, count, at) })
}

#[repr(C)]
pub struct Part {
    bytes: *const c_void,
    count: usize,
}

unsafe fn joined(parts: *const Part, count: c_int) -> Vec<u8> {
    let parts = unsafe { std::slice::from_raw_parts(parts, usize::try_from(count).unwrap_or(0)) };
    parts.iter().flat_map(|part| unsafe { slice(part.bytes, part.count) }.iter().copied()).collect()
}

/// Only files of ours are looked at: sockets are written to like this all the time.
fn is_known(fd: c_int) -> bool {
    shim().is_some_and(|shim| matches!(inode(fd), Some((inode, false)) if locked(shim).contains_key(&inode)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const Part, count: c_int) -> isize {
    let real = real!("writev", fn(c_int, *const Part, c_int) -> isize);
    if !is_known(fd) {
        return unsafe { real(fd, parts, count) };
    }
    let bytes = unsafe { joined(parts, count) };
    written(fd, &bytes, None, || unsafe { real(fd, parts, count) })
}

fn truncated(fd: c_int, length: i64, truncate: impl FnOnce() -> c_int) -> c_int {
    let Some(shim) = shim() else { return truncate() };
    let Some((inode, false)) = inode(fd) else { return truncate() };
    let known = locked(shim);
    let outcome = truncate();
    if outcome == 0 && known.contains_key(&inode) {
        shim.record(Kind::Truncate, (inode, u64::try_from(length).expect("not negative")), &[], &[]);
    }
    outcome
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: i64) -> c_int {
    let real = real!("ftruncate", fn(c_int, i64) -> c_int);
    truncated(fd, length, || unsafe { real(fd, length) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    let real = real!("ftruncate64", fn(c_int, i64) -> c_int);
    truncated(fd, length, || unsafe { real(fd, length) })
}

/// What changes a name, or makes or takes a directory.
fn named(kind: Kind, (dir, path): (c_int, *const c_char), change: impl FnOnce() -> c_int) -> c_int {
    let Some(shim) = shim() else { return change() };
    let Some(below) = shim.below(dir, path) else { return change() };
    let _order = locked(shim);
    let outcome = change();
    if outcome == 0 {
        shim.record(kind, (0, 0), below.as_os_str().as_bytes(), &[]);
    }
    outcome
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
    let real = real!("mkdir", fn(*const c_char, c_uint) -> c_int);
    named(Kind::Mkdir, (AT_FDCWD, path), || unsafe { real(path, mode) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    let real = real!("unlink", fn(*const c_char) -> c_int);
    named(Kind::Unlink, (AT_FDCWD, path), || unsafe { real(path) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    let real = real!("rmdir", fn(*const c_char) -> c_int);
    named(Kind::Rmdir, (AT_FDCWD, path), || unsafe { real(path) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
    let real = real!("unlinkat", fn(c_int, *const c_char, c_int) -> c_int);
    let kind = if flags & AT_REMOVEDIR == 0 { Kind::Unlink } else { Kind::Rmdir };
    named(kind, (dir, path), || unsafe { real(dir, path, flags) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let real = real!("rename", fn(*const c_char, *const c_char) -> c_int);
    let change = || unsafe { real(from, to) };
    let Some(shim) = shim() else { return change() };
    let (Some(old), Some(new)) = (shim.below(AT_FDCWD, from), shim.below(AT_FDCWD, to)) else { return change() };
    let _order = locked(shim);
    let outcome = change();
    if outcome == 0 {
        shim.record(Kind::Rename, (0, 0), old.as_os_str().as_bytes(), new.as_os_str().as_bytes());
    }
    outcome
}

fn synced(fd: c_int, sync: impl FnOnce() -> c_int) -> c_int {
    let Some(shim) = shim() else { return sync() };
    let Some((inode, is_dir)) = inode(fd) else { return sync() };
    let Some(path) = locked(shim).get(&inode).cloned() else { return sync() };
    let (begins, ends) = match is_dir {
        true => (Kind::DirSyncBegins, Kind::DirSyncEnds),
        false => (Kind::SyncBegins, Kind::SyncEnds),
    };
    let number = shim.syncs.fetch_add(1, Ordering::Relaxed) | (u64::from(std::process::id()) << 32);
    let note = |kind| {
        let _order = locked(shim);
        shim.record(kind, (inode, number), path.as_os_str().as_bytes(), &[]);
    };
    note(begins);
    std::thread::sleep(SYNC);
    note(ends);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    let real = real!("fsync", fn(c_int) -> c_int);
    synced(fd, || unsafe { real(fd) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    let real = real!("fdatasync", fn(c_int) -> c_int);
    synced(fd, || unsafe { real(fd) })
}
