//! What the write side and the reader share: positions, the data files as
//! spans of the stream, and the batches written most recently.
//!
//! Invariants:
//! - `synced <= written`; both only grow.
//! - The spans are contiguous: each begins where the one before it ends. Writes go to the last one.
//! - Only the write side changes positions and spans (under the log's lock). The reader sets
//!   `reader_at`, looks things up and copies them out.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::error::Error;
use crate::state::stream::{Frames, Position};

/// A data file as a stretch of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub file_id: u16,
    pub base: u64,
    pub len: u64,
    /// When its last byte was written, where that is known.
    pub modified: Option<SystemTime>,
}

impl Span {
    pub(crate) fn end(&self) -> u64 {
        self.base + self.len
    }
}

/// What [`Log::at`] finds at an offset.
#[derive(Debug)]
pub(crate) enum Place {
    /// Frames this process wrote, still in memory.
    Memory(Bytes),
    /// In a data file, of which the first `visible_len` bytes are visible.
    File { span: Span, visible_len: u64 },
}

#[derive(Debug)]
pub(crate) struct Log {
    pub spans: VecDeque<Span>,
    pub written: Position,
    pub synced: Position,
    /// Bytes of preallocated zeros after the last span.
    pub zeros_ahead: u64,
    /// Nothing will be written any more.
    pub ended: bool,
    /// The offset after which nothing can be made durable for now, because space, or another
    /// resource that may come back, is missing.
    pub stuck_from: Option<u64>,
    /// Why nothing can be written any more.
    pub failed: Option<Error>,
    /// The number of the last answered request for a sync of the ledger.
    pub ledger_ticket: u64,
    /// Where the reader stood when it last looked, if it ever did; set by the reader.
    pub reader_at: Option<u64>,
    recent: Recent,
    times: Times,
}

impl Log {
    pub(crate) fn new(spans: VecDeque<Span>, end: Position, recent_bytes_max: usize) -> Self {
        Self {
            spans,
            written: end,
            synced: end,
            zeros_ahead: 0,
            ended: false,
            stuck_from: None,
            failed: None,
            ledger_ticket: 0,
            reader_at: None,
            recent: Recent {
                batches: VecDeque::new(),
                memory: 0,
                memory_max: recent_bytes_max,
            },
            times: Times::default(),
        }
    }

    /// The offset of the oldest byte on disk.
    pub(crate) fn oldest_offset(&self) -> u64 {
        self.spans
            .front()
            .map_or(self.written.offset, |span| span.base)
    }

    /// Notes frames that were written after `written`, into the last span.
    pub(crate) fn append(&mut self, frames: Frames) {
        let end = frames.end;
        let now = SystemTime::now();
        self.zeros_ahead = self.zeros_ahead.saturating_sub(frames.len() as u64);
        if let Some(span) = self.spans.back_mut() {
            span.len += frames.len() as u64;
            span.modified = Some(now);
        }
        let base = self.written.offset;
        self.times.note(base, now);
        // A batch far ahead of the reader is not kept: its buffer is better reused at once, while
        // it is in a core's cache. Frames with a copy of their own hold no buffer that could be
        // reused.
        let near = self.recent.memory_max as u64;
        let is_near = self
            .reader_at
            .is_some_and(|at| base.saturating_sub(at) <= near);
        if is_near || frames.memory == frames.len() {
            self.recent.push(frames);
        } else {
            self.recent.clear();
        }
        self.written = end;
        debug_assert_eq!(self.spans.back().map(Span::end), Some(end.offset));
    }

    /// Whether what lies before `end` cannot be made durable for now.
    pub(crate) fn is_stuck(&self, end: u64) -> bool {
        self.stuck_from.is_some_and(|from| from < end)
    }

    /// The place of the frame at `offset`, which must be below `visible`; `None` if it was
    /// deleted.
    pub(crate) fn at(&self, offset: u64, visible: u64) -> Option<Place> {
        if let Some(frames) = self.recent.from(offset) {
            let len = (frames.len() as u64).min(visible - offset) as usize;
            return Some(Place::Memory(frames.slice(..len)));
        }
        let index = self.spans.partition_point(|span| span.end() <= offset);
        // What was before the first span is deleted.
        let span = *self.spans.get(index).filter(|span| span.base <= offset)?;
        let visible_len = span.end().min(visible) - span.base;
        Some(Place::File { span, visible_len })
    }

    /// The frames between two offsets, which lie in one data file, that are still
    /// in memory, oldest first; the first element is where they begin.
    pub(crate) fn in_memory(&self, from: u64, to: u64) -> (u64, Vec<Bytes>) {
        self.recent.all_between(from, to)
    }

    /// How long the byte at `offset` has been there.
    pub(crate) fn age(&self, offset: u64, now: SystemTime) -> Option<Duration> {
        let written = self.times.at(offset).or_else(|| {
            let index = self.spans.partition_point(|span| span.end() <= offset);
            self.spans.get(index).and_then(|span| span.modified)
        })?;
        Some(now.duration_since(written).unwrap_or_default())
    }
}

/// Consecutive batches up to the one written last, bounded by the memory they keep: a batch that
/// was written before it was full still keeps its whole buffer.
#[derive(Debug)]
struct Recent {
    batches: VecDeque<Frames>,
    memory: usize,
    memory_max: usize,
}

/// At most this many batches are kept, however small.
const RECENT_BATCHES_MAX: usize = 4096;

impl Recent {
    fn clear(&mut self) {
        self.batches.clear();
        self.memory = 0;
    }

    fn push(&mut self, frames: Frames) {
        self.memory += frames.memory;
        self.batches.push_back(frames);
        while self.memory > self.memory_max || self.batches.len() > RECENT_BATCHES_MAX {
            let Some(oldest) = self.batches.pop_front() else {
                break;
            };
            self.memory -= oldest.memory;
        }
    }

    fn from(&self, offset: u64) -> Option<Bytes> {
        let ends_before = |kept: &Frames| kept.end.offset <= offset;
        let kept = self
            .batches
            .get(self.batches.partition_point(ends_before))?;
        let skip = offset.checked_sub(kept.begin())?;
        Some(kept.bytes.slice(skip as usize..))
    }

    /// No batch that is kept lies in two data files.
    fn all_between(&self, from: u64, to: u64) -> (u64, Vec<Bytes>) {
        let mut begin = None;
        let mut all = Vec::new();
        for kept in &self.batches {
            if kept.end.offset <= from || kept.begin() >= to {
                continue;
            }
            let skip = from.saturating_sub(kept.begin());
            begin.get_or_insert(kept.begin() + skip);
            all.push(kept.bytes.slice(skip as usize..));
        }
        (begin.unwrap_or(u64::MAX), all)
    }
}

/// When stretches of the stream were written: a sparse, bounded index.
#[derive(Debug, Default)]
struct Times(VecDeque<(u64, SystemTime)>);

impl Times {
    const MAX: usize = 1024;
    const RESOLUTION: Duration = Duration::from_millis(100);

    fn note(&mut self, offset: u64, now: SystemTime) {
        if let Some((_, last)) = self.0.back()
            && now
                .duration_since(*last)
                .is_ok_and(|age| age < Self::RESOLUTION)
        {
            return;
        }
        if self.0.len() >= Self::MAX {
            // Halve the resolution of the past instead of forgetting it.
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.0.push_back((offset, now));
    }

    fn at(&self, offset: u64) -> Option<SystemTime> {
        let index = self.0.partition_point(|(begin, _)| *begin <= offset);
        self.0.get(index.checked_sub(1)?).map(|(_, time)| *time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_batches_are_bounded_by_the_memory_they_keep() {
        // Batches that were written early, with a tenth of their buffers used, were once counted by
        // that tenth: ten times the memory was kept.
        let mut recent = Recent {
            batches: VecDeque::new(),
            memory: 0,
            memory_max: 4000,
        };
        let frames = |begin: u64, buffer_len: usize| {
            let end = Position {
                next_id: 1,
                offset: begin + 100,
            };
            Frames::new(Bytes::from(vec![0; 100]), buffer_len, end)
        };
        for n in 0..50 {
            recent.push(frames(n * 100, 1000));
        }
        assert_eq!(recent.batches.len(), 4);
        assert!(recent.from(4500).is_none());
        assert_eq!(recent.from(4650).map(|b| b.len()), Some(50));
        let (begin, all) = recent.all_between(0, u64::MAX);
        assert_eq!((begin, all.len()), (4600, 4));
        // A batch that alone takes more memory than that is not kept.
        recent.memory_max = 1000;
        recent.push(frames(5000, 1100));
        assert_eq!((recent.batches.len(), recent.memory), (0, 0));
    }

    #[test]
    fn batches_are_kept_for_a_reader_that_is_near() {
        // Memory of batches that no reader came for was once reused only after it had left the
        // core's cache: 64 buffers together were half as fast as one.
        let span = Span {
            file_id: 0,
            base: 0,
            len: 0,
            modified: None,
        };
        let mut log = Log::new(VecDeque::from([span]), Position::default(), 4000);
        let write = |log: &mut Log, len: usize, memory: usize| {
            let end = Position {
                next_id: log.written.next_id + 1,
                offset: log.written.offset + len as u64,
            };
            log.append(Frames::new(Bytes::from(vec![0; len]), memory, end));
        };
        let is_kept = |log: &Log, at: u64| {
            let place = log.at(at, log.written.offset);
            matches!(place, Some(Place::Memory(_)))
        };
        write(&mut log, 900, 1000);
        assert!(!is_kept(&log, 0), "nobody has ever read");
        log.reader_at = Some(0);
        for _ in 0..4 {
            write(&mut log, 900, 1000);
        }
        assert!(is_kept(&log, 900) && is_kept(&log, 4499));
        // The reader has not moved, and is too far away by now.
        write(&mut log, 900, 1000);
        assert!(!is_kept(&log, 3600) && !is_kept(&log, 5399));
        // Frames with a copy of their own are kept until a batch after them is not: there are no
        // holes.
        write(&mut log, 100, 100);
        assert!(!is_kept(&log, 5399) && is_kept(&log, 5400));
        write(&mut log, 900, 1000);
        assert!(!is_kept(&log, 5400));
        // The reader comes near.
        log.reader_at = Some(5400);
        write(&mut log, 900, 1000);
        assert!(!is_kept(&log, 6399) && is_kept(&log, 6400));
        assert_eq!(log.in_memory(0, u64::MAX).0, 6400);
    }
}
