//! The bytes of one simulated file: what its readers see, what is on the disk,
//! and every step between the two since the last sync.
//!
//! Invariants:
//! - [`Contents`] holds exactly the pages its length needs, and the bytes of the last page after
//!   the length are zero.
//! - A page is shared until it is changed, so copies are cheap.
//! - Without a failed sync, `disk` with all `pending` applied equals `cached`.

use std::sync::Arc;

use super::random::Random;
use super::{Kernel, PAGE_LEN, SECTOR_LEN};

/// A page; `None` is all zeros and takes no memory.
type Page = Option<Arc<[u8; PAGE_LEN]>>;

static ZEROS: [u8; PAGE_LEN] = [0; PAGE_LEN];

fn bytes_of(page: &Page) -> &[u8; PAGE_LEN] {
    page.as_deref().unwrap_or(&ZEROS)
}

fn bytes_of_mut(page: &mut Page) -> &mut [u8; PAGE_LEN] {
    Arc::make_mut(page.get_or_insert_with(|| Arc::new([0; PAGE_LEN])))
}

/// The number of pages that `len` bytes take.
fn pages_for(len: usize) -> usize {
    len.div_ceil(PAGE_LEN)
}

/// A length and the pages below it.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    len: usize,
    pages: Vec<Page>,
}

impl Contents {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut contents = Self::default();
        contents.write(bytes, 0);
        contents
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Differs if length or bytes differ. One multiplication per 8 bytes: a cryptographic hash of
    /// every page would cost more than opening the buffer.
    pub(super) fn fingerprint(&self) -> u64 {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut sum = self.len as u64;
        for page in &self.pages {
            for word in bytes_of(page).as_chunks::<8>().0 {
                sum = (sum.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
            }
        }
        sum
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(&mut bytes, 0);
        bytes
    }

    /// Copies the bytes from `offset` on, as many as there are. Returns their number.
    pub(super) fn read(&self, buf: &mut [u8], offset: usize) -> usize {
        let count = buf.len().min(self.len.saturating_sub(offset));
        let mut done = 0;
        while done < count {
            let (page, start) = ((offset + done) / PAGE_LEN, (offset + done) % PAGE_LEN);
            let step = (PAGE_LEN - start).min(count - done);
            buf[done..done + step]
                .copy_from_slice(&bytes_of(&self.pages[page])[start..start + step]);
            done += step;
        }
        count
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.len {
            self.set_len(end);
        }
        let mut done = 0;
        while done < bytes.len() {
            let (page, start) = ((offset + done) / PAGE_LEN, (offset + done) % PAGE_LEN);
            let step = (PAGE_LEN - start).min(bytes.len() - done);
            bytes_of_mut(&mut self.pages[page])[start..start + step]
                .copy_from_slice(&bytes[done..done + step]);
            done += step;
        }
    }

    /// Cuts, or extends with zeros.
    fn set_len(&mut self, len: usize) {
        self.pages.resize(pages_for(len), None);
        self.len = len;
        let used = len % PAGE_LEN;
        if used > 0
            && let Some(last) = self.pages.last_mut()
            && bytes_of(last)[used..] != ZEROS[used..]
        {
            bytes_of_mut(last)[used..].fill(0);
        }
    }

    /// Sets a page, extending the page list if needed, but not the length.
    fn set_page(&mut self, index: usize, page: Page) {
        if index >= self.pages.len() {
            self.pages.resize(index + 1, None);
        }
        self.pages[index] = page;
    }
}

/// One step since the last sync: a write, a cut, or stores into the map.
#[derive(Debug, Clone)]
struct Change {
    /// The file's length after it.
    len: usize,
    /// The pages it touched, as they were after it.
    pages: Vec<(usize, Page)>,
    /// The first page that it gave back to the file system.
    freed_from: usize,
}

/// One file.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    cached: Contents,
    disk: Contents,
    pending: Vec<Change>,
    /// Whether it was ever mapped: stores into it are then single words.
    pub(super) mapped: bool,
    /// The simulated time of the last change.
    pub(super) modified: u64,
    /// Pages could not be written in the background; the next sync reports that, once.
    pub(super) write_back_failed: bool,
}

impl Inode {
    /// A file whose contents are durable.
    pub(super) fn durable(bytes: &[u8], modified: u64) -> Self {
        let contents = Contents::new(bytes);
        Self {
            cached: contents.clone(),
            disk: contents,
            pending: Vec::new(),
            mapped: false,
            modified,
            write_back_failed: false,
        }
    }

    /// What readers see.
    pub(super) fn contents(&self) -> &Contents {
        &self.cached
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        self.cached.write(bytes, offset);
        let touched = offset / PAGE_LEN..pages_for(offset + bytes.len());
        self.pending.push(Change {
            len: self.cached.len,
            pages: touched
                .map(|index| (index, self.cached.pages[index].clone()))
                .collect(),
            freed_from: usize::MAX,
        });
    }

    /// Cuts the file; `len` is not above its length.
    pub(super) fn truncate(&mut self, len: usize) {
        debug_assert!(len <= self.cached.len, "truncating never extends");
        self.cached.set_len(len);
        // Cutting inside a page also changes what is in that page.
        let cut_page = (!len.is_multiple_of(PAGE_LEN)).then_some(len / PAGE_LEN);
        self.pending.push(Change {
            len,
            pages: cut_page
                .map(|index| (index, self.cached.pages[index].clone()))
                .into_iter()
                .collect(),
            freed_from: pages_for(len),
        });
    }

    /// Takes over the bytes stored into the map since the last look.
    pub(super) fn store(&mut self, bytes: &[u8]) {
        // A ledger that is never synced must not take memory without bound: with more unsynced
        // values than this, every other one is forgotten.
        const VALUES_MAX: usize = 128;
        self.write(bytes, 0);
        if self.pending.len() > VALUES_MAX {
            let mut index = 0;
            let last = self.pending.len() - 1;
            self.pending.retain(|_| {
                index += 1;
                index % 2 == 0 || index > last
            });
        }
    }

    /// A sync that succeeds: every page written since the last one reaches the
    /// disk. A page that an earlier, failed sync lost does not, unless it was
    /// written again.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            self.disk.pages.truncate(change.freed_from);
            for (index, page) in change.pages {
                self.disk.set_page(index, page);
            }
        }
        self.disk.set_len(self.cached.len);
    }

    /// A sync that fails: each page written since the last one has reached the
    /// disk or not (with no `random`, none has), and counts as clean from now on.
    pub(super) fn fail_sync(&mut self, random: Option<&mut Random>) {
        if let Some(random) = random {
            self.disk = self.survivor(Kernel::Careless, random);
        }
        self.pending.clear();
        self.write_back_failed = false;
    }

    /// Drops the cached pages that count as clean, so that readers see the disk.
    pub(super) fn evict(&mut self) {
        let dirty = |index| {
            let touches =
                |change: &Change| change.pages.iter().any(|&(touched, _)| touched == index);
            self.pending.iter().any(touches)
        };
        let mut fresh = self.disk.clone();
        for index in 0..self.cached.pages.len() {
            if dirty(index) {
                fresh.set_page(index, self.cached.pages[index].clone());
            }
        }
        fresh.set_len(self.cached.len);
        self.cached = fresh;
    }

    /// Whether a crash can have only one outcome, the contents that readers see.
    fn is_settled(&self) -> bool {
        let is_quiet = self.pending.is_empty() && !self.write_back_failed;
        is_quiet && self.cached.len == self.disk.len && {
            let mut pairs = self.cached.pages.iter().zip(&self.disk.pages);
            pairs.all(|(cached, disk)| match (cached, disk) {
                (Some(cached), Some(disk)) => Arc::ptr_eq(cached, disk),
                (cached, disk) => bytes_of(cached) == bytes_of(disk),
            })
        }
    }

    /// The file after a power cut; `random` is `None` when nothing that is
    /// pending survives.
    pub(super) fn after_crash(
        this: &Arc<Self>,
        choice: Option<(Kernel, &mut Random)>,
    ) -> Arc<Self> {
        if this.is_settled() {
            return Arc::clone(this);
        }
        let disk = match choice {
            Some((kernel, random)) => this.survivor(kernel, random),
            None => this.disk.clone(),
        };
        Arc::new(Self {
            cached: disk.clone(),
            disk,
            pending: Vec::new(),
            mapped: false,
            modified: this.modified,
            write_back_failed: false,
        })
    }

    /// What the disk holds when the power is cut now.
    ///
    /// The length is the one after some prefix of the changes. A page that no
    /// change of that prefix gave back holds what the last sync left or any
    /// later version of it up to the change that gives it back; a page that was
    /// given back and written again holds zeros or a version from then on.
    fn survivor(&self, kernel: Kernel, random: &mut Random) -> Contents {
        let mut disk = self.disk.clone();
        if self.pending.is_empty() {
            return disk;
        }
        let prefix = Survival::draw(random).count(self.pending.len(), random);
        for change in &self.pending[..prefix] {
            disk.pages.truncate(change.freed_from);
        }
        let len = match prefix {
            0 => disk.len,
            _ => self.pending[prefix - 1].len,
        };
        let survival = Survival::draw(random);
        for (index, versions) in self.versions(prefix) {
            if index < pages_for(len) {
                let base = disk.pages.get(index).cloned().flatten();
                let page = self.pick_page(&base, &versions, kernel, &survival, random);
                disk.set_page(index, page);
            }
        }
        disk.set_len(len);
        disk
    }

    /// For each page touched since the last sync: the versions that the disk may hold in its place
    /// once `prefix` changes of length are done.
    fn versions(&self, prefix: usize) -> Vec<(usize, Vec<&Page>)> {
        let mut touched: Vec<(usize, usize, &Page)> = Vec::new();
        for (step, change) in self.pending.iter().enumerate() {
            touched.extend(
                change
                    .pages
                    .iter()
                    .map(|(index, page)| (*index, step, page)),
            );
        }
        touched.sort_by_key(|&(index, step, _)| (index, step));
        let frees = |index| {
            let all = self.pending.iter().enumerate();
            all.filter(move |(_, change)| change.freed_from <= index)
                .map(|(step, _)| step)
        };
        touched
            .chunk_by(|a, b| a.0 == b.0)
            .map(|chunk| {
                let index = chunk[0].0;
                let from = frees(index).take_while(|&step| step < prefix).last();
                let until = frees(index).find(|&step| step >= prefix);
                let versions = chunk
                    .iter()
                    .filter(|&&(_, step, _)| {
                        from.is_none_or(|from| step > from)
                            && until.is_none_or(|until| step < until)
                    })
                    .map(|&(_, _, page)| page);
                (index, versions.collect())
            })
            .collect()
    }

    fn pick_page(
        &self,
        base: &Page,
        versions: &[&Page],
        kernel: Kernel,
        survival: &Survival,
        random: &mut Random,
    ) -> Page {
        // Version 0 is the base.
        let version = |number: usize| match number {
            0 => base.clone(),
            _ => versions[number - 1].clone(),
        };
        let newer = survival.count(versions.len(), random);
        if newer == 0 || !random.one_in(3) {
            return version(newer);
        }
        let words = self.mapped && kernel == Kernel::WordByWord;
        // Stores into the map happen while the page is being written, so neighbouring versions mix.
        // All other versions that mix were written whole before.
        let older = if words {
            newer - 1
        } else {
            random.below(newer)
        };
        let (older, newer) = (version(older), version(newer));
        let grain = if words { 8 } else { SECTOR_LEN };
        let mut mixed = older.clone();
        for start in (0..PAGE_LEN).step_by(grain) {
            let range = start..start + grain;
            let fresh = &bytes_of(&newer)[range.clone()];
            if fresh != &bytes_of(&older)[range.clone()] && random.one_in(2) {
                bytes_of_mut(&mut mixed)[range].copy_from_slice(fresh);
            }
        }
        mixed
    }
}

/// How much of what is pending survives one crash. Drawn anew for each file, so that all of one
/// file's changes may survive and none of another's.
#[derive(Debug)]
pub(super) enum Survival {
    Nothing,
    Everything,
    Something,
}

impl Survival {
    pub(super) fn draw(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Something,
        }
    }

    /// How many of `total` steps are done.
    pub(super) fn count(&self, total: usize, random: &mut Random) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Everything => total,
            Self::Something => random.below(total + 1),
        }
    }
}
