//! One file of the model: what programs read (the page cache), what the platter holds, and the log between them.
//!
//! ```text
//! write ──► cache ──(the touched sectors, whole, as they are now)──► pending ──fsync──► disk
//!                                                                       └──crash──► some of it
//! ```
//!
//! A pending entry is a copy of whole sectors because that is what a kernel writes back: a later version of a sector
//! carries what earlier writes left in it. Keeping any subset of the entries in order, sector by sector, therefore
//! leaves each sector at one of its versions, and never at a mixture that no disk can hold.

use std::ops::Range;
use std::sync::Arc;

use super::rng::Rng;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;
/// What is copied when a shared file is changed, and the unit of space.
pub(super) const PAGE_BYTES: u64 = 4096;

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    cache: Pages,
    disk: Pages,
    pending: Vec<Pending>,
    /// The cache holds bytes that a failed fsync dropped: a crash shows the difference.
    lossy: bool,
    /// Where reading fails: a surface that went bad.
    unreadable: Vec<Range<u64>>,
}

#[derive(Clone, Debug)]
enum Pending {
    Sectors { at: u64, bytes: Bytes },
    Len(u64),
}

#[derive(Clone, Debug)]
enum Bytes {
    Zero(u64),
    Data(Arc<[u8]>),
}

impl Bytes {
    fn len(&self) -> u64 {
        match self {
            Bytes::Zero(len) => *len,
            Bytes::Data(data) => data.len() as u64,
        }
    }
}

/// Which pending entries a crash leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    Nothing,
    All,
    /// The first so many in a thousand: writes reached the disk in order.
    Prefix(u64),
    /// Each on its own with this chance in a thousand: writes were reordered.
    Each(u64),
}

impl Keep {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 => Keep::Nothing,
            1 => Keep::All,
            2 | 3 => Keep::Prefix(rng.below(1001)),
            4 => Keep::Each(50),
            5 => Keep::Each(950),
            _ => Keep::Each(500),
        }
    }

    /// Whether entry `index` of `count` is kept.
    pub(super) fn takes(self, rng: &mut Rng, index: usize, count: usize) -> bool {
        match self {
            Keep::Nothing => false,
            Keep::All => true,
            Keep::Prefix(thousandths) => (index as u64) * 1000 < thousandths * count as u64,
            Keep::Each(thousandths) => rng.below(1000) < thousandths,
        }
    }
}

impl Inode {
    /// A file whose bytes are on the disk already.
    pub(super) fn with(bytes: &[u8]) -> Self {
        let mut disk = Pages::default();
        disk.store(bytes, 0);
        disk.len = bytes.len() as u64;
        Self { cache: disk.clone(), disk, ..Self::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.cache.len
    }

    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> usize {
        self.cache.load(buf, at)
    }

    /// Whether a read of the range meets a bad place.
    pub(super) fn refuses(&self, at: u64, len: u64) -> bool {
        self.unreadable.iter().any(|bad| at < bad.end && bad.start < at.saturating_add(len))
    }

    pub(super) fn make_unreadable(&mut self, range: Range<u64>) {
        self.unreadable.push(range);
    }

    /// Space in use, in bytes.
    pub(super) fn allocated(&self) -> u64 {
        self.cache.allocated * PAGE_BYTES
    }

    /// How much space writing this range would take on top of what is in use, in bytes.
    pub(super) fn growth(&self, at: u64, len: u64) -> u64 {
        let pages = at / PAGE_BYTES..(at + len).div_ceil(PAGE_BYTES);
        pages.filter(|page| self.cache.is_hole(*page)).count() as u64 * PAGE_BYTES
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: u64) {
        let end = at + bytes.len() as u64;
        self.cache.store(bytes, at);
        if end > self.cache.len {
            self.cache.len = end;
            self.pending.push(Pending::Len(end));
        }
        let first = at - at % SECTOR_BYTES;
        let span = end.next_multiple_of(SECTOR_BYTES) - first;
        if span == bytes.len() as u64 && is_zero(bytes) {
            self.pending.push(Pending::Sectors { at, bytes: Bytes::Zero(span) });
            return;
        }
        let mut sectors = vec![0; span as usize];
        self.cache.load(&mut sectors, first);
        let bytes = if is_zero(&sectors) { Bytes::Zero(span) } else { Bytes::Data(sectors.into()) };
        self.pending.push(Pending::Sectors { at: first, bytes });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.cache.set_len(len);
        self.pending.push(Pending::Len(len));
    }

    /// fsync that works: all that is pending reaches the disk.
    pub(super) fn sync(&mut self) {
        for entry in std::mem::take(&mut self.pending) {
            match entry {
                Pending::Len(len) => self.disk.set_len(len),
                Pending::Sectors { at, bytes } => self.disk.store_sectors(&bytes, at, 0..bytes.len()),
            }
        }
    }

    /// fsync that fails, as Linux does it: the pages are clean from now on, whether they reached the disk or not.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        let keep = if rng.one_in(2) { Keep::Nothing } else { Keep::Each(500) };
        let pending = std::mem::take(&mut self.pending);
        let count = pending.len();
        for (index, entry) in pending.into_iter().enumerate() {
            match entry {
                Pending::Len(_) => self.pending.push(entry),
                Pending::Sectors { at, bytes } => {
                    for sector in (0..bytes.len()).step_by(SECTOR_BYTES as usize) {
                        if keep.takes(rng, index, count) {
                            self.disk.store_sectors(&bytes, at, sector..sector + SECTOR_BYTES);
                        }
                    }
                }
            }
        }
        self.lossy = true;
    }

    /// The file after a power cut.
    pub(super) fn crashed(self: &Arc<Self>, rng: &mut Rng) -> Arc<Self> {
        if self.pending.is_empty() && !self.lossy {
            return Arc::clone(self);
        }
        let keep = Keep::draw(rng);
        let noisy = rng.one_in(4);
        let old_end = self.disk.len.next_multiple_of(SECTOR_BYTES);
        let mut disk = self.disk.clone();
        let mut len = disk.len;
        for (index, entry) in self.pending.iter().enumerate() {
            match entry {
                Pending::Len(new) => {
                    if keep.takes(rng, index, self.pending.len()) {
                        disk.set_len(*new);
                        len = *new;
                    }
                }
                Pending::Sectors { at, bytes } => {
                    for sector in (0..bytes.len()).step_by(SECTOR_BYTES as usize) {
                        if keep.takes(rng, index, self.pending.len()) {
                            disk.store_sectors(bytes, *at, sector..sector + SECTOR_BYTES);
                        } else if noisy && at + sector >= old_end && rng.one_in(2) {
                            // The length reached the disk, the bytes did not: the sector shows what lay there before.
                            let mut noise = [0; SECTOR_BYTES as usize];
                            rng.fill(&mut noise);
                            disk.store(&noise, at + sector);
                        }
                    }
                }
            }
        }
        disk.set_len(len);
        let unreadable = self.unreadable.clone();
        Arc::new(Self { cache: disk.clone(), disk, pending: Vec::new(), lossy: false, unreadable })
    }

    /// Changes one bit where it lies, as a failing disk does.
    pub(super) fn flip(&mut self, at: u64, bit: u8) {
        for pages in [&mut self.cache, &mut self.disk] {
            let mut byte = [0];
            if pages.load(&mut byte, at) == 1 {
                pages.store(&[byte[0] ^ (1 << (bit % 8))], at);
            }
        }
    }
}

/// Bytes in pages that copies share until one of them changes.
#[derive(Clone, Debug, Default)]
struct Pages {
    len: u64,
    pages: Vec<Page>,
    /// Pages that are not holes.
    allocated: u64,
}

#[derive(Clone, Debug)]
enum Page {
    /// Never written: takes no space.
    Hole,
    /// Written, with zeros.
    Zero,
    Data(Arc<[u8; PAGE_BYTES as usize]>),
}

impl Pages {
    fn is_hole(&self, page: u64) -> bool {
        matches!(self.pages.get(page as usize), None | Some(Page::Hole))
    }

    fn load(&self, buf: &mut [u8], at: u64) -> usize {
        let count = self.len.saturating_sub(at).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let position = at + done as u64;
            let offset = (position % PAGE_BYTES) as usize;
            let step = (PAGE_BYTES as usize - offset).min(count - done);
            let target = &mut buf[done..done + step];
            match self.pages.get((position / PAGE_BYTES) as usize) {
                Some(Page::Data(data)) => target.copy_from_slice(&data[offset..offset + step]),
                _ => target.fill(0),
            }
            done += step;
        }
        count
    }

    /// Puts bytes in place without touching the length.
    fn store(&mut self, bytes: &[u8], at: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let position = at + done as u64;
            let offset = (position % PAGE_BYTES) as usize;
            let step = (PAGE_BYTES as usize - offset).min(bytes.len() - done);
            let source = &bytes[done..done + step];
            match self.page(position / PAGE_BYTES) {
                Page::Data(data) => Arc::make_mut(data)[offset..offset + step].copy_from_slice(source),
                page if !is_zero(source) => {
                    let mut data = [0; PAGE_BYTES as usize];
                    data[offset..offset + step].copy_from_slice(source);
                    *page = Page::Data(Arc::new(data));
                }
                _ => {}
            }
            done += step;
        }
    }

    /// Puts a part of a pending entry that begins at `at` in place.
    fn store_sectors(&mut self, bytes: &Bytes, at: u64, part: Range<u64>) {
        match bytes {
            Bytes::Data(data) => self.store(&data[part.start as usize..part.end as usize], at + part.start),
            Bytes::Zero(_) => self.clear(at + part.start..at + part.end),
        }
    }

    fn clear(&mut self, range: Range<u64>) {
        let mut position = range.start;
        while position < range.end {
            let offset = (position % PAGE_BYTES) as usize;
            let step = (PAGE_BYTES - offset as u64).min(range.end - position);
            match self.page(position / PAGE_BYTES) {
                page if step == PAGE_BYTES => *page = Page::Zero,
                Page::Data(data) => Arc::make_mut(data)[offset..offset + step as usize].fill(0),
                _ => {}
            }
            position += step;
        }
    }

    /// The page of that number, allocated.
    fn page(&mut self, number: u64) -> &mut Page {
        let index = number as usize;
        if self.pages.len() <= index {
            self.pages.resize(index + 1, Page::Hole);
        }
        let page = &mut self.pages[index];
        if matches!(page, Page::Hole) {
            *page = Page::Zero;
            self.allocated += 1;
        }
        page
    }

    /// Cuts or extends; what comes back by extending is zero.
    fn set_len(&mut self, len: u64) {
        let whole = len.div_ceil(PAGE_BYTES) as usize;
        for page in self.pages.drain(whole.min(self.pages.len())..) {
            self.allocated -= u64::from(!matches!(page, Page::Hole));
        }
        let offset = (len % PAGE_BYTES) as usize;
        if offset != 0
            && let Some(Page::Data(data)) = self.pages.get_mut(whole - 1)
        {
            Arc::make_mut(data)[offset..].fill(0);
        }
        self.len = len;
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // A page at a time, so that bytes which are not zero are found out soon and zeros are looked at in wide steps.
    bytes.chunks(PAGE_BYTES as usize).all(|page| page.iter().fold(0, |seen, byte| seen | byte) == 0)
}
