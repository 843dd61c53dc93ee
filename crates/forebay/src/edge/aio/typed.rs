//! The typed layer as futures.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::{AsyncReader, AsyncWriter};
use crate::config::Config;
use crate::edge::codec::Codec;
use crate::edge::typed::{TypedItem, decode, decode_all, encode, encode_all};
use crate::error::Result;
use crate::read::TryRecv;
use crate::write::receipt::{Appended, BatchError, Receipt};

impl Config {
    /// [`open_typed`](Self::open_typed) for async use, on a blocking thread.
    ///
    /// # Errors
    /// As [`open_async`](Self::open_async).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn open_typed_async<C: Codec>(
        self,
        codec: C,
    ) -> Result<(AsyncTypedWriter<C>, AsyncTypedReader<C>)> {
        let codec = Arc::new(codec);
        let (writer, reader) = self.counting_as(&*codec).open_async().await?;
        let reader = AsyncTypedReader {
            reader,
            codec: Arc::clone(&codec),
        };
        Ok((AsyncTypedWriter { writer, codec }, reader))
    }
}

/// An [`AsyncWriter`] of values. Dropping it closes it on another thread, as there.
pub struct AsyncTypedWriter<C> {
    writer: AsyncWriter,
    codec: Arc<C>,
}

impl<C: Codec> AsyncTypedWriter<C> {
    /// Appends a value.
    ///
    /// # Errors
    /// As [`TypedWriter::append`](crate::TypedWriter::append).
    pub async fn append(&self, value: &C::Value) -> Result<Receipt<'_>> {
        let payload = encode(&*self.codec, value)?;
        let metadata = self.codec.metadata();
        self.writer.append_with(metadata, &payload).await
    }

    /// [`append`](Self::append) that does not wait for room.
    ///
    /// # Errors
    /// As [`TypedWriter::try_append`](crate::TypedWriter::try_append).
    pub async fn try_append(&self, value: &C::Value) -> Result<Receipt<'_>> {
        let payload = encode(&*self.codec, value)?;
        let metadata = self.codec.metadata();
        self.writer.try_append_with(metadata, &payload).await
    }

    /// [`append`](Self::append) that waits for room for at most `timeout`.
    ///
    /// # Errors
    /// As [`TypedWriter::append_timeout`](crate::TypedWriter::append_timeout).
    pub async fn append_timeout(&self, value: &C::Value, timeout: Duration) -> Result<Receipt<'_>> {
        let payload = encode(&*self.codec, value)?;
        let metadata = self.codec.metadata();
        self.writer
            .append_timeout_with(metadata, &payload, timeout)
            .await
    }

    /// Appends values, in order.
    ///
    /// # Errors
    /// As [`TypedWriter::append_batch`](crate::TypedWriter::append_batch).
    pub async fn append_batch(&self, values: &[C::Value]) -> Result<Appended<'_>, BatchError> {
        match encode_all(&*self.codec, values) {
            Ok(records) => self.writer.append_batch_with(&records).await,
            Err(error) => Err(self.writer.refused_batch(error)),
        }
    }

    /// As [`AsyncWriter::flush`].
    ///
    /// # Errors
    /// As [`AsyncWriter::flush`].
    pub async fn flush(&self) -> Result<()> {
        self.writer.flush().await
    }

    /// As [`AsyncWriter::flush_timeout`].
    ///
    /// # Errors
    /// As [`AsyncWriter::flush_timeout`].
    pub async fn flush_timeout(&self, timeout: Duration) -> Result<()> {
        self.writer.flush_timeout(timeout).await
    }

    /// As [`AsyncWriter::close`].
    ///
    /// # Errors
    /// As [`AsyncWriter::close`].
    pub async fn close(self) -> Result<()> {
        self.writer.close().await
    }

    /// As [`AsyncWriter::close_timeout`].
    ///
    /// # Errors
    /// As [`AsyncWriter::close_timeout`].
    pub async fn close_timeout(self, timeout: Duration) -> Result<()> {
        self.writer.close_timeout(timeout).await
    }

    /// The underlying writer.
    pub fn get_ref(&self) -> &AsyncWriter {
        &self.writer
    }

    /// The underlying writer.
    pub fn into_inner(self) -> AsyncWriter {
        self.writer
    }
}

impl<C> Clone for AsyncTypedWriter<C> {
    fn clone(&self) -> Self {
        Self {
            writer: self.writer.clone(),
            codec: Arc::clone(&self.codec),
        }
    }
}

impl<C> fmt::Debug for AsyncTypedWriter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncTypedWriter")
            .field(&self.writer)
            .finish()
    }
}

/// An [`AsyncReader`] of values; also a [`Stream`](futures_core::Stream) of them. Dropping it closes
/// it on another thread, as there.
pub struct AsyncTypedReader<C> {
    reader: AsyncReader,
    codec: Arc<C>,
}

impl<C: Codec> AsyncTypedReader<C> {
    /// The next item. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`TypedReader::recv`](crate::TypedReader::recv).
    pub async fn recv(&mut self) -> Result<Option<TypedItem<C::Value>>> {
        let item = self.reader.recv().await?;
        Ok(item.map(|item| decode(&*self.codec, self.reader.meters(), item)))
    }

    /// As [`AsyncReader::recv_timeout`].
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn recv_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<TryRecv<TypedItem<C::Value>>> {
        let found = self.reader.recv_timeout(timeout).await?;
        Ok(found.map(|item| decode(&*self.codec, self.reader.meters(), item)))
    }

    /// As [`AsyncReader::try_recv`].
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn try_recv(&mut self) -> Result<TryRecv<TypedItem<C::Value>>> {
        let found = self.reader.try_recv().await?;
        Ok(found.map(|item| decode(&*self.codec, self.reader.meters(), item)))
    }

    /// The items of a batch; see [`AsyncReader::recv_batch`]. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`AsyncReader::recv_batch`].
    pub async fn recv_batch(
        &mut self,
        max_records: usize,
        max_bytes: u64,
    ) -> Result<Option<Vec<TypedItem<C::Value>>>> {
        let batch = self.reader.recv_batch(max_records, max_bytes).await?;
        Ok(batch.map(|batch| decode_all(&*self.codec, self.reader.meters(), batch)))
    }

    /// As [`AsyncReader::close`].
    ///
    /// # Errors
    /// As [`AsyncReader::close`].
    pub async fn close(self) -> Result<()> {
        self.reader.close().await
    }

    /// As [`AsyncReader::close_timeout`].
    ///
    /// # Errors
    /// As [`AsyncReader::close_timeout`].
    pub async fn close_timeout(self, timeout: Duration) -> Result<()> {
        self.reader.close_timeout(timeout).await
    }

    /// The underlying reader.
    pub fn get_ref(&self) -> &AsyncReader {
        &self.reader
    }

    /// The underlying reader.
    pub fn get_mut(&mut self) -> &mut AsyncReader {
        &mut self.reader
    }

    /// The underlying reader.
    pub fn into_inner(self) -> AsyncReader {
        self.reader
    }
}

impl<C: Codec> futures_core::Stream for AsyncTypedReader<C> {
    type Item = Result<TypedItem<C::Value>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(Pin::new(&mut self.reader).poll_next(cx));
        let decoded =
            item.map(|item| item.map(|item| decode(&*self.codec, self.reader.meters(), item)));
        Poll::Ready(decoded)
    }
}

impl<C> fmt::Debug for AsyncTypedReader<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncTypedReader")
            .field(&self.reader)
            .finish()
    }
}
