//! What a disk may hold when the power goes at a moment of a trace.
//!
//! [`Order::Strict`] gives what was synced, and of everything after it some parts, torn at 512 bytes, in any order: names in a
//! directory are on the disk when the directory was synced, and not before. [`Order::Ext4`] is what ext4 does with
//! `data=ordered`: names and lengths are written in their order, any sync writes all of them up to it, and no length or name is
//! on the disk before the bytes that a file grew by.

use crate::trace::Step;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What a disk writes at once.
const SECTOR: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Strict,
    Ext4,
}

/// Directories, and files with their bytes, by their paths below the root.
#[derive(Default)]
pub struct Image {
    dirs: BTreeSet<String>,
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A change of a file that isn't synced yet.
enum Change<'a> {
    Write { offset: usize, bytes: &'a [u8] },
    Truncate(usize),
}

#[derive(Default)]
struct FileState<'a> {
    synced: Vec<u8>,
    pending: Vec<(usize, Change<'a>)>,
}

/// A change of a name.
enum Naming<'a> {
    Link { path: &'a str, file: usize },
    Unlink(&'a str),
    Rename { from: &'a str, to: &'a str, file: usize },
    Mkdir(&'a str),
    Rmdir(&'a str),
}

/// The disk of a run, up to a step.
pub struct Disk<'a> {
    files: Vec<FileState<'a>>,
    by_inode: HashMap<u64, usize>,
    names: HashMap<&'a str, usize>,
    /// Each with its step, and whether its directory was synced after it.
    namings: Vec<(usize, Naming<'a>, bool)>,
    begun: HashMap<u64, usize>,
    /// Ext4's journal is on the disk up to here.
    committed: usize,
    cut: usize,
}

fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl Change<'_> {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write(content, *offset, bytes),
            Self::Truncate(length) => content.resize(*length, 0),
        }
    }
}

impl<'a> Disk<'a> {
    /// The disk before step `cut`. Syncs for which `skipped` says so, by their step and path, were never
    /// asked for.
    pub fn at(steps: &'a [Step], cut: usize, skipped: &dyn Fn(usize, &str) -> bool) -> Self {
        let mut disk = Self {
            files: Vec::new(),
            by_inode: HashMap::new(),
            names: HashMap::new(),
            namings: Vec::new(),
            begun: HashMap::new(),
            committed: 0,
            cut,
        };
        steps[..cut].iter().enumerate().for_each(|(at, step)| disk.take(at, step, skipped));
        disk
    }

    fn take(&mut self, at: usize, step: &'a Step, skipped: &dyn Fn(usize, &str) -> bool) {
        match step {
            Step::Open { inode, path, truncates } => self.open(at, *inode, path, *truncates),
            Step::Mkdir(path) => self.namings.push((at, Naming::Mkdir(path), false)),
            Step::Write { inode, offset, bytes } => {
                let offset = usize::try_from(*offset).expect("small files");
                self.change(at, *inode, Change::Write { offset, bytes });
            }
            Step::Truncate { inode, length } => {
                self.change(at, *inode, Change::Truncate(usize::try_from(*length).expect("small files")));
            }
            Step::Rename { from, to } => {
                if let Some(file) = self.names.remove(from.as_str()) {
                    self.names.insert(to, file);
                    self.namings.push((at, Naming::Rename { from, to, file }, false));
                }
            }
            Step::Unlink(path) => {
                self.names.remove(path.as_str());
                self.namings.push((at, Naming::Unlink(path), false));
            }
            Step::Rmdir(path) => self.namings.push((at, Naming::Rmdir(path), false)),
            Step::SyncBegins { number } => drop(self.begun.insert(*number, at)),
            Step::SyncEnds { path, .. } | Step::DirSyncEnds { path, .. } if skipped(at, path) => {}
            Step::SyncEnds { number, inode, .. } => self.sync(*inode, self.begun[number]),
            Step::DirSyncEnds { number, path } => self.sync_dir(path, self.begun[number]),
            Step::Acknowledged(_) => {}
        }
    }

    fn open(&mut self, at: usize, inode: u64, path: &'a str, truncates: bool) {
        let known = self.names.get(path).is_some_and(|file| self.by_inode.get(&inode) == Some(file));
        if !known {
            let file = self.files.len();
            self.files.push(FileState::default());
            self.by_inode.insert(inode, file);
            self.names.insert(path, file);
            self.namings.push((at, Naming::Link { path, file }, false));
        } else if truncates {
            self.change(at, inode, Change::Truncate(0));
        }
    }

    fn change(&mut self, at: usize, inode: u64, change: Change<'a>) {
        let file = self.by_inode[&inode];
        self.files[file].pending.push((at, change));
    }

    fn sync(&mut self, inode: u64, begun: usize) {
        let FileState { synced, pending } = &mut self.files[self.by_inode[&inode]];
        let done = pending.partition_point(|(at, _)| *at < begun);
        pending.drain(..done).for_each(|(_, change)| change.apply(synced));
        self.committed = self.committed.max(begun);
    }

    fn sync_dir(&mut self, dir: &str, begun: usize) {
        for (at, naming, synced) in &mut self.namings {
            let (Naming::Link { path, .. }
            | Naming::Unlink(path)
            | Naming::Mkdir(path)
            | Naming::Rmdir(path)
            // Wherever it's looked for, it isn't lost.
            | Naming::Rename { to: path, .. }) = naming;
            *synced |= *at < begun && dir_of(path) == dir;
        }
        self.committed = self.committed.max(begun);
    }

    /// All that was written, as a process sees it that runs on.
    pub fn live(&self) -> Image {
        let content = |file: &FileState<'_>| {
            let mut content = file.synced.clone();
            file.pending.iter().for_each(|(_, change)| change.apply(&mut content));
            content
        };
        self.image(|_, _| true, content)
    }

    /// What a power cut may leave.
    pub fn cut(&self, order: Order, dice: &mut Rng) -> Image {
        let share = |dice: &mut Rng| [0.0, 0.5, 1.0][dice.usize(..3)];
        let (names, data) = (share(dice), share(dice));
        let journal = match dice.usize(..3) {
            0 => self.committed,
            1 => self.cut,
            _ => dice.usize(self.committed..=self.cut),
        };
        let mut kept = dice.fork();
        match order {
            Order::Strict => self.image(|_, synced| synced || kept.f64() < names, |file| torn(file, data, dice)),
            Order::Ext4 => self.image(|at, _| at < journal, |file| in_order(file, journal, data, dice)),
        }
    }

    fn image(
        &self,
        mut is_kept: impl FnMut(usize, bool) -> bool,
        mut content: impl FnMut(&FileState<'_>) -> Vec<u8>,
    ) -> Image {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut image = Image::default();
        for (at, naming, synced) in &self.namings {
            if !is_kept(*at, *synced) {
                continue;
            }
            match naming {
                Naming::Link { path, file } => drop(names.insert(path, *file)),
                Naming::Unlink(path) => drop(names.remove(path)),
                Naming::Rename { from, to, file } => {
                    names.remove(from);
                    names.insert(to, *file);
                }
                Naming::Mkdir(path) => drop(image.dirs.insert((*path).to_owned())),
                Naming::Rmdir(path) => drop(image.dirs.remove(*path)),
            }
        }
        for (path, file) in names {
            let is_reached =
                std::iter::successors(Some(dir_of(path)), |dir| Some(dir_of(dir)).filter(|_| !dir.is_empty()))
                    .all(|dir| dir.is_empty() || image.dirs.contains(dir));
            // The index of the WAL isn't written to the disk, and spills are nobody's after the process.
            if is_reached && !path.ends_with("-shm") && !path.contains("/tmp/") {
                image.files.insert(path.to_owned(), content(&self.files[file]));
            }
        }
        image
    }
}

/// Of what wasn't synced any sectors, in any order.
fn torn(file: &FileState<'_>, share: f64, dice: &mut Rng) -> Vec<u8> {
    let mut content = file.synced.clone();
    let mut parts = Vec::new();
    for (_, change) in &file.pending {
        match change {
            Change::Truncate(length) => parts.push(Change::Truncate(*length)),
            Change::Write { offset, bytes } => parts.extend(sectors(*offset, bytes)),
        }
    }
    dice.shuffle(&mut parts);
    for part in parts {
        if dice.f64() < share {
            part.apply(&mut content);
        }
    }
    content
}

fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = Change<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let length = rest.len().min(SECTOR - (offset + at) % SECTOR);
        let part = Change::Write { offset: offset + at, bytes: &rest[..length] };
        at += length;
        Some(part)
    })
}

/// Sectors within the file in any order; what it grew by whole and in its order, as far as the journal goes.
fn in_order(file: &FileState<'_>, journal: usize, share: f64, dice: &mut Rng) -> Vec<u8> {
    let mut content = file.synced.clone();
    let mut grows = true;
    for (at, change) in &file.pending {
        match change {
            Change::Truncate(length) => {
                grows &= *at < journal;
                if grows {
                    content.resize(*length, 0);
                }
            }
            Change::Write { offset, bytes } => {
                let within = content.len().saturating_sub(*offset).min(bytes.len());
                for part in sectors(*offset, &bytes[..within]) {
                    if dice.f64() < share {
                        part.apply(&mut content);
                    }
                }
                if within < bytes.len() {
                    grows &= *at < journal && dice.f64() < share;
                    if grows {
                        write(&mut content, *offset + within, &bytes[within..]);
                    }
                }
            }
        }
    }
    content
}

impl Image {
    /// Puts it below `root`, for nobody else to read.
    pub fn write(&self, root: &Path) {
        for dir in &self.dirs {
            let whole = root.join(dir);
            // One whose own directory was lost is lost with it.
            if whole.parent().is_some_and(Path::is_dir) {
                std::fs::DirBuilder::new().mode(0o700).create(whole).expect("made");
            }
        }
        for (path, bytes) in &self.files {
            let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(root.join(path));
            std::io::Write::write_all(&mut file.expect("made"), bytes).expect("written");
        }
    }
}
