//! Losses before the next record, and the damage that caused them.
//!
//! Invariant: damage is noted when it is met. Which events it took is known from the ids of the
//! next record. The loss is acknowledged when it is handed out.

use std::sync::Arc;

use super::ahead::FoundLoss;
use super::{LostReason, Reader};
use crate::config::OnCorruption;
use crate::directory::findings::is_tail;
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id;
use crate::scan::Damage;
use crate::state::acks::Stretch;
use crate::state::lost::Lost;
use crate::state::stream::Position;
use crate::storage::File;
use crate::sync::wake::lock;

/// Damage seen since the last record. Which events it took is known at the next one.
pub(super) struct PendingDamage {
    pub(super) reason: LostReason,
    pub(super) file: String,
    pub(super) offset: u64,
    /// The damaged spans, to be kept in quarantine once it is known how many events they cost.
    pub(super) spans: Vec<(Arc<dyn File>, String, Damage)>,
}

/// At this many spans without a record between them, they are kept in quarantine without a report
/// of what they cost.
const PENDING_SPANS_MAX: usize = 256;

impl Reader {
    /// The ids between the tail and `to` are not there. Returns this loss, unless it was handed
    /// out before a rewind.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the configuration refuses the damage that took them.
    pub(super) fn lose(&mut self, to: Position, reason: LostReason) -> Result<Option<FoundLoss>> {
        if self.shared.limits.on_corruption == OnCorruption::Refuse
            && let Some(damage) = &self.damage
            && let Some((_, name, tail)) = damage.spans.first()
        {
            let error = self.refusal(name, tail);
            self.refused = Some(error.clone());
            return Err(error);
        }
        let stretch = Stretch {
            from: self.tail,
            to,
        };
        let first_id = self.tail.next_id;
        self.tail = to;
        let damage = self.damage.take();
        let reason = damage.as_ref().map_or(reason, |d| d.reason);
        let events = lock(&self.shared.acks).missing(first_id, to.next_id);
        let is_kept = damage
            .as_ref()
            .is_none_or(|damage| self.keep(&damage.spans, events));
        if events == 0 {
            return Ok(None);
        }
        let (file, offset) = match &damage {
            Some(damage) => (Some(damage.file.clone()), damage.offset),
            None => match self.source.as_ref().and_then(|s| s.file.as_ref()) {
                Some((span, _)) => (
                    Some(file_id::file_name(span.file_id)),
                    to.offset - span.base,
                ),
                None => (None, 0),
            },
        };
        let lost = Lost {
            first_id,
            last_id: to.next_id - 1,
            events,
            bytes: to.offset - stretch.from.offset,
            reason,
            file,
            offset,
            not_kept: !is_kept,
        };
        if lost.last_id > self.logged_until {
            // The loss is found again if it is not handed out. This is set first, because otherwise
            // a subscriber that always panics would keep the reader here for ever.
            self.logged_until = lost.last_id;
            tracing::warn!(%lost, "events are lost");
        }
        Ok(Some(FoundLoss::new(lost, stretch)))
    }

    fn refusal(&self, name: &str, damage: &Damage) -> Error {
        let path = self.shared.dir.join(name);
        let message = format!(
            "{} is damaged: {} bytes at offset {} ({}); verify the buffer, or open it with \
             another on_corruption",
            path.display(),
            damage.len,
            damage.offset,
            damage.kind.as_str(),
        );
        Error::with_path(ErrorKind::Corrupt, &path, message).at(damage.offset)
    }

    pub(super) fn note_damage(&mut self, damage: &Damage) -> Result<()> {
        let Some(source) = &self.source else {
            return Ok(());
        };
        self.at = source.base + damage.offset + damage.len;
        let Some((span, file)) = &source.file else {
            return Ok(());
        };
        let name = file_id::file_name(span.file_id);
        // A crash leaves a torn or a zero tail, so a tail is refused only if it costs events.
        if self.shared.limits.on_corruption == OnCorruption::Refuse && !is_tail(damage.kind) {
            let error = self.refusal(&name, damage);
            self.refused = Some(error.clone());
            return Err(error);
        }
        let pending = self.damage.get_or_insert_with(|| PendingDamage {
            reason: LostReason::Damaged,
            file: name.clone(),
            offset: damage.offset,
            spans: Vec::new(),
        });
        pending.spans.push((Arc::clone(file), name, *damage));
        if pending.spans.len() >= PENDING_SPANS_MAX {
            let spans = std::mem::take(&mut pending.spans);
            self.keep(&spans, 0);
        }
        Ok(())
    }

    /// Keeps damaged spans in quarantine; the report of the first one says what they cost. False if
    /// that failed.
    pub(super) fn keep(
        &self,
        spans: &[(Arc<dyn File>, String, Damage)],
        mut events_lost: u64,
    ) -> bool {
        let mut is_kept = true;
        for (file, name, damage) in spans {
            let Damage {
                offset, len, kind, ..
            } = *damage;
            let quarantine = &self.shared.quarantine;
            is_kept &= quarantine.keep_span(&**file, name, offset, len, kind.as_str(), events_lost);
            events_lost = 0;
        }
        is_kept
    }

    /// Keeps damage that cost no event, except for tails that a crash leaves, which are not worth
    /// it.
    pub(super) fn forgive(&mut self) {
        if let Some(mut damage) = self.damage.take() {
            damage.spans.retain(|(_, _, damage)| !is_tail(damage.kind));
            self.keep(&damage.spans, 0);
        }
    }
}
