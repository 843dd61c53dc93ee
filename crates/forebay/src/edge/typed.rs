//! The typed layer: values over payload bytes.
//!
//! Invariant: a payload that cannot be decoded is delivered as an undecodable record and counted.
//! It never stops the reader and is never dropped.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::edge::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::read::delivery::{Batch, Delivery, Item};
use crate::read::{Reader, TryRecv};
use crate::state::lost::Lost;
use crate::state::meters::Meters;
use crate::write::receipt::{Appended, BatchError, Receipt};
use crate::write::writer::Writer;

impl Config {
    /// Opens a buffer of values: [`open`](Self::open) with the codec's event counter, if it has
    /// one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use forebay::{Config, Text, TypedItem};
    /// let (writer, mut reader) = Config::new(dir.path()).open_typed(Text)?;
    /// writer.append(&"hello".to_owned())?;
    /// if let Some(TypedItem::Record { value, delivery }) = reader.recv()? {
    ///     assert_eq!(value, "hello");
    ///     delivery.ack();
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_typed<C: Codec>(self, codec: C) -> Result<(TypedWriter<C>, TypedReader<C>)> {
        let codec = Arc::new(codec);
        let (writer, reader) = self.counting_as(&*codec).open()?;
        let reader = TypedReader::new(reader, Arc::clone(&codec));
        Ok((TypedWriter::new(writer, codec), reader))
    }

    /// Sets the codec's event counter, if it has one.
    pub(crate) fn counting_as(self, codec: &impl Codec) -> Self {
        match codec.event_counter() {
            Some(counter) => self.event_counter(counter),
            None => self,
        }
    }
}

/// The payload of a value.
///
/// # Errors
/// [`ErrorKind::InvalidRecord`]: the value cannot be encoded.
pub(crate) fn encode<C: Codec>(codec: &C, value: &C::Value) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    codec.encode(value, &mut payload).map_err(|e| {
        let message = format!("the value cannot be encoded: {e}; nothing was accepted");
        Error::new(ErrorKind::InvalidRecord, message)
    })?;
    Ok(payload)
}

/// The payloads of all values.
///
/// # Errors
/// [`ErrorKind::InvalidRecord`]: one of the values cannot be encoded.
pub(crate) fn encode_all<C: Codec>(codec: &C, values: &[C::Value]) -> Result<Vec<(u32, Vec<u8>)>> {
    let metadata = codec.metadata();
    values
        .iter()
        .map(|value| Ok((metadata, encode(codec, value)?)))
        .collect()
}

pub(crate) fn decode<C: Codec>(codec: &C, meters: &Meters, item: Item) -> TypedItem<C::Value> {
    let delivery = match item {
        Item::Lost(lost) => return TypedItem::Lost(lost),
        Item::Record(delivery) => delivery,
    };
    let metadata = delivery.metadata();
    let decoded = if codec.can_decode(metadata) {
        codec
            .decode(metadata, delivery.payload().clone())
            .map_err(|e| e.to_string())
    } else {
        Err(format!(
            "metadata {metadata} is not supported (expected {})",
            codec.metadata()
        ))
    };
    match decoded {
        Ok(value) => TypedItem::Record { value, delivery },
        Err(reason) => {
            meters.note_undecodable(delivery.id());
            tracing::warn!(id = delivery.id(), reason, "a record cannot be decoded");
            TypedItem::Undecodable { delivery, reason }
        }
    }
}

/// The items of a batch, decoded.
pub(crate) fn decode_all<C: Codec>(
    codec: &C,
    meters: &Meters,
    batch: Batch,
) -> Vec<TypedItem<C::Value>> {
    batch
        .into_iter()
        .map(|item| decode(codec, meters, item))
        .collect()
}

/// A [`Writer`] of values.
pub struct TypedWriter<C> {
    writer: Writer,
    codec: Arc<C>,
}

impl<C: Codec> TypedWriter<C> {
    /// Writes values through `writer`. Its buffer must have been opened with the codec's event
    /// counter.
    pub fn new(writer: Writer, codec: impl Into<Arc<C>>) -> Self {
        let codec = codec.into();
        Self { writer, codec }
    }

    /// Appends a value.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`] if it cannot be encoded; otherwise as
    /// [`Writer::append`].
    pub fn append(&self, value: &C::Value) -> Result<Receipt<'_>> {
        let payload = encode(&*self.codec, value)?;
        self.writer.append_with(self.codec.metadata(), &payload)
    }

    /// [`append`](Self::append) that does not wait for room; see [`Writer::try_append`].
    ///
    /// # Errors
    /// As [`Writer::try_append`] and [`append`](Self::append).
    pub fn try_append(&self, value: &C::Value) -> Result<Receipt<'_>> {
        let payload = encode(&*self.codec, value)?;
        self.writer.try_append_with(self.codec.metadata(), &payload)
    }

    /// [`append`](Self::append) that waits for room for at most `timeout`; see
    /// [`Writer::append_timeout`].
    ///
    /// # Errors
    /// As [`Writer::append_timeout`] and [`append`](Self::append).
    pub fn append_timeout(&self, value: &C::Value, timeout: Duration) -> Result<Receipt<'_>> {
        let payload = encode(&*self.codec, value)?;
        let metadata = self.codec.metadata();
        self.writer.append_timeout_with(metadata, &payload, timeout)
    }

    /// Appends values, in order; see [`Writer::append_batch`].
    ///
    /// # Errors
    /// As [`Writer::append_batch`]. Every value is encoded before any is accepted.
    pub fn append_batch(&self, values: &[C::Value]) -> Result<Appended<'_>, BatchError> {
        match encode_all(&*self.codec, values) {
            Ok(records) => self.writer.append_batch_with(&records),
            Err(error) => Err(self.writer.refused_batch(error)),
        }
    }

    /// As [`Writer::flush`].
    ///
    /// # Errors
    /// As [`Writer::flush`].
    pub fn flush(&self) -> Result<()> {
        self.writer.flush()
    }

    /// As [`Writer::flush_timeout`].
    ///
    /// # Errors
    /// As [`Writer::flush_timeout`].
    pub fn flush_timeout(&self, timeout: Duration) -> Result<()> {
        self.writer.flush_timeout(timeout)
    }

    /// As [`Writer::close`].
    ///
    /// # Errors
    /// As [`Writer::close`].
    pub fn close(self) -> Result<()> {
        self.writer.close()
    }

    /// As [`Writer::close_timeout`].
    ///
    /// # Errors
    /// As [`Writer::close_timeout`].
    pub fn close_timeout(self, timeout: Duration) -> Result<()> {
        self.writer.close_timeout(timeout)
    }

    /// The underlying writer.
    pub fn get_ref(&self) -> &Writer {
        &self.writer
    }

    /// The underlying writer.
    pub fn into_inner(self) -> Writer {
        self.writer
    }
}

impl<C> Clone for TypedWriter<C> {
    fn clone(&self) -> Self {
        Self {
            writer: self.writer.clone(),
            codec: Arc::clone(&self.codec),
        }
    }
}

impl<C> fmt::Debug for TypedWriter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedWriter").field(&self.writer).finish()
    }
}

/// An item of a typed reader. There will be no others: match all three, so that no loss is
/// overlooked.
#[derive(Debug)]
pub enum TypedItem<V> {
    /// A value, and the delivery to acknowledge.
    Record {
        /// The value.
        value: V,
        /// Its record.
        delivery: Delivery,
    },
    /// A record that the codec cannot decode. It is intact, and stays in the buffer until it is
    /// acknowledged.
    ///
    /// To move it aside, append it with its metadata to a separate buffer, flush that, and only
    /// then acknowledge it here:
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path();
    /// use forebay::{Config, Text, TypedItem};
    /// # let (writer, reader) = Config::new(path.join("orders")).open()?;
    /// # writer.append(b"\xff")?;
    /// # (writer.close()?, reader.close()?);
    /// let (_writer, mut reader) = Config::new(path.join("orders")).open_typed(Text)?;
    /// let (aside, _) = Config::new(path.join("orders-undecodable")).open()?;
    /// match reader.recv()? {
    ///     Some(TypedItem::Undecodable { delivery, reason }) => {
    ///         eprintln!("record {}: {reason}", delivery.id());
    ///         aside.append_with(delivery.metadata(), delivery.payload())?;
    ///         aside.flush()?; // durable there, so it can be acknowledged here
    ///         delivery.ack();
    ///     }
    ///     other => println!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Undecodable {
        /// The record.
        delivery: Delivery,
        /// Why it could not be decoded.
        reason: String,
    },
    /// Events that were accepted and are not there any more.
    Lost(Lost),
}

/// A [`Reader`] of values; also an iterator over them.
pub struct TypedReader<C> {
    reader: Reader,
    codec: Arc<C>,
}

impl<C: Codec> TypedReader<C> {
    /// Reads values through `reader`.
    pub fn new(reader: Reader, codec: impl Into<Arc<C>>) -> Self {
        let codec = codec.into();
        Self { reader, codec }
    }

    /// The next item; waits until there is one. `None` as for [`Reader::recv`].
    ///
    /// # Errors
    /// As [`Reader::recv`]. A record that cannot be decoded is no error.
    pub fn recv(&mut self) -> Result<Option<TypedItem<C::Value>>> {
        Ok(self.reader.recv()?.map(|item| self.decode(item)))
    }

    /// As [`Reader::recv_timeout`].
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<TryRecv<TypedItem<C::Value>>> {
        let found = self.reader.recv_timeout(timeout)?;
        Ok(found.map(|item| self.decode(item)))
    }

    /// As [`Reader::try_recv`].
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<TryRecv<TypedItem<C::Value>>> {
        let found = self.reader.try_recv()?;
        Ok(found.map(|item| self.decode(item)))
    }

    /// The items of a batch; see [`Reader::recv_batch`].
    ///
    /// # Errors
    /// As [`Reader::recv_batch`].
    pub fn recv_batch(
        &mut self,
        max_records: usize,
        max_bytes: u64,
    ) -> Result<Option<Vec<TypedItem<C::Value>>>> {
        let batch = self.reader.recv_batch(max_records, max_bytes)?;
        Ok(batch.map(|batch| decode_all(&*self.codec, self.reader.meters(), batch)))
    }

    /// As [`Reader::close`].
    ///
    /// # Errors
    /// As [`Reader::close`].
    pub fn close(self) -> Result<()> {
        self.reader.close()
    }

    /// As [`Reader::close_timeout`].
    ///
    /// # Errors
    /// As [`Reader::close_timeout`].
    pub fn close_timeout(self, timeout: Duration) -> Result<()> {
        self.reader.close_timeout(timeout)
    }

    fn decode(&self, item: Item) -> TypedItem<C::Value> {
        decode(&*self.codec, self.reader.meters(), item)
    }
}

impl<C> TypedReader<C> {
    /// The underlying reader.
    pub fn get_ref(&self) -> &Reader {
        &self.reader
    }

    /// The underlying reader.
    pub fn get_mut(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// The underlying reader.
    pub fn into_inner(self) -> Reader {
        self.reader
    }
}

impl<C: Codec> Iterator for TypedReader<C> {
    type Item = Result<TypedItem<C::Value>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().transpose()
    }
}

impl<C> fmt::Debug for TypedReader<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReader").field(&self.reader).finish()
    }
}
