//! Receipts' waits as futures.

use std::time::Duration;

use super::{synced, within, written};
use crate::error::Result;
use crate::write::receipt::{DetachedReceipt, Receipt};

impl<'w> Receipt<'w> {
    /// [`wait_written`](Self::wait_written) as a future.
    ///
    /// # Errors
    /// As [`wait_written`](Self::wait_written).
    pub fn written(self) -> impl Future<Output = Result<()>> + Send + 'w {
        written(self.shared(), self.end())
    }

    /// [`wait_synced`](Self::wait_synced) as a future.
    ///
    /// # Errors
    /// As [`wait_synced`](Self::wait_synced).
    pub fn synced(self) -> impl Future<Output = Result<()>> + Send + 'w {
        synced(self.shared(), self.end())
    }

    /// [`wait_synced_timeout`](Self::wait_synced_timeout) as a future.
    ///
    /// # Errors
    /// As [`wait_synced_timeout`](Self::wait_synced_timeout).
    pub fn synced_timeout(self, timeout: Duration) -> impl Future<Output = Result<()>> + Send + 'w {
        let shared = self.shared();
        let synced = synced(shared, self.end());
        within(shared, timeout, "synced these records", synced)
    }
}

impl DetachedReceipt {
    /// [`wait_written`](Self::wait_written) as a future, to await in any task.
    ///
    /// # Errors
    /// As [`wait_written`](Self::wait_written).
    pub fn written(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let (shared, end) = self.parts();
        async move { written(&shared, end).await }
    }

    /// [`wait_synced`](Self::wait_synced) as a future, to await in any task.
    ///
    /// # Errors
    /// As [`wait_synced`](Self::wait_synced).
    pub fn synced(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let (shared, end) = self.parts();
        async move { synced(&shared, end).await }
    }

    /// [`wait_synced_timeout`](Self::wait_synced_timeout) as a future, to await in any task.
    ///
    /// # Errors
    /// As [`wait_synced_timeout`](Self::wait_synced_timeout).
    pub fn synced_timeout(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let (shared, end) = self.parts();
        async move {
            let synced = synced(&shared, end);
            within(&shared, timeout, "synced these records", synced).await
        }
    }
}
