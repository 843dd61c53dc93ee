//! The typed layer: values over payload bytes.
//!
//! Invariant: it uses the public API only. A payload that cannot be decoded is
//! delivered as such and counted; it never stops the reader and is never
//! dropped.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;

use crate::buffer::open;
use crate::config::Config;
use crate::counter::EventCounter;
use crate::error::{Error, ErrorKind, Result};
use crate::read::Reader;
use crate::read::delivery::{Delivery, Item};
use crate::state::lost::Lost;
use crate::sync::atomic::Ordering;
use crate::write::writer::{Receipt, Writer};

/// A type whose values can be records.
///
/// ```
/// use bytes::Bytes;
/// use forebay::Codec;
///
/// struct Temperature(f64);
///
/// impl Codec for Temperature {
///     type EncodeError = std::convert::Infallible;
///     type DecodeError = &'static str;
///
///     fn metadata() -> u32 { 7 }
///     fn encode(&self, payload: &mut Vec<u8>) -> Result<(), Self::EncodeError> {
///         payload.extend_from_slice(&self.0.to_le_bytes());
///         Ok(())
///     }
///     fn decode(_metadata: u32, payload: Bytes) -> Result<Self, Self::DecodeError> {
///         let bytes = payload.as_ref().try_into().map_err(|_| "not eight bytes")?;
///         Ok(Temperature(f64::from_le_bytes(bytes)))
///     }
/// }
/// ```
pub trait Codec: Sized {
    /// Why a value cannot be encoded.
    type EncodeError: fmt::Display;
    /// Why a payload cannot be decoded.
    type DecodeError: fmt::Display;

    /// The number stored with every record: what the payload is, and in which
    /// version. Default 0.
    fn metadata() -> u32 {
        0
    }

    /// Whether records with this metadata can be decoded. Default: only those
    /// with [`metadata`](Self::metadata)'s own.
    fn can_decode(metadata: u32) -> bool {
        metadata == Self::metadata()
    }

    /// Appends the value's bytes to `payload`.
    ///
    /// # Errors
    /// When the value has no encoding. Nothing is appended to the buffer then.
    fn encode(&self, payload: &mut Vec<u8>) -> Result<(), Self::EncodeError>;

    /// The value of a payload whose metadata [`can_decode`](Self::can_decode).
    ///
    /// # Errors
    /// When the payload is no value of this type.
    fn decode(metadata: u32, payload: Bytes) -> Result<Self, Self::DecodeError>;

    /// How many events a record holds, from its bytes; see [`EventCounter`].
    /// Default 1.
    fn count_events(metadata: u32, payload: &[u8]) -> u64 {
        let _ = (metadata, payload);
        1
    }
}

impl Codec for Bytes {
    type EncodeError = Infallible;
    type DecodeError = Infallible;

    fn can_decode(_metadata: u32) -> bool {
        true
    }

    fn encode(&self, payload: &mut Vec<u8>) -> Result<(), Infallible> {
        payload.extend_from_slice(self);
        Ok(())
    }

    fn decode(_metadata: u32, payload: Bytes) -> Result<Self, Infallible> {
        Ok(payload)
    }
}

impl Codec for Vec<u8> {
    type EncodeError = Infallible;
    type DecodeError = Infallible;

    fn can_decode(_metadata: u32) -> bool {
        true
    }

    fn encode(&self, payload: &mut Vec<u8>) -> Result<(), Infallible> {
        payload.extend_from_slice(self);
        Ok(())
    }

    fn decode(_metadata: u32, payload: Bytes) -> Result<Self, Infallible> {
        Ok(payload.to_vec())
    }
}

impl Codec for String {
    type EncodeError = Infallible;
    type DecodeError = std::str::Utf8Error;

    fn encode(&self, payload: &mut Vec<u8>) -> Result<(), Infallible> {
        payload.extend_from_slice(self.as_bytes());
        Ok(())
    }

    fn decode(_metadata: u32, payload: Bytes) -> Result<Self, Self::DecodeError> {
        std::str::from_utf8(&payload).map(str::to_owned)
    }
}

/// Any value that `serde` can turn into JSON and back (feature `serde_json`).
#[cfg(feature = "serde_json")]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Json<T>(pub T);

#[cfg(feature = "serde_json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec for Json<T> {
    type EncodeError = serde_json::Error;
    type DecodeError = serde_json::Error;

    fn encode(&self, payload: &mut Vec<u8>) -> Result<(), Self::EncodeError> {
        serde_json::to_writer(payload, &self.0)
    }

    fn decode(_metadata: u32, payload: Bytes) -> Result<Self, Self::DecodeError> {
        serde_json::from_slice(&payload).map(Json)
    }
}

/// Opens a buffer of values: [`open`] with the codec's event counter.
///
/// # Errors
/// As [`open`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use forebay::{Config, TypedItem};
/// let (writer, mut reader) = forebay::open_typed::<String>(Config::new(dir.path()))?;
/// writer.append(&"hello".to_owned())?;
/// if let Some(TypedItem::Record { value, delivery }) = reader.next()? {
///     assert_eq!(value, "hello");
///     delivery.ack();
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_typed<T: Codec + 'static>(config: Config) -> Result<(TypedWriter<T>, TypedReader<T>)> {
    let counter = EventCounter::new(T::count_events);
    let (writer, reader) = open(config.event_counter(counter))?;
    Ok((TypedWriter::new(writer), TypedReader::new(reader)))
}

/// A [`Writer`] of values.
pub struct TypedWriter<T> {
    writer: Writer,
    of: PhantomData<fn(&T)>,
}

impl<T: Codec> TypedWriter<T> {
    /// Writes values through a writer, whose buffer was opened with the codec's
    /// event counter.
    pub fn new(writer: Writer) -> Self {
        Self {
            writer,
            of: PhantomData,
        }
    }

    /// Appends a value.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`] if it cannot be encoded; otherwise as
    /// [`Writer::append`].
    pub fn append(&self, value: &T) -> Result<Receipt<'_>> {
        let mut payload = Vec::new();
        value.encode(&mut payload).map_err(|e| {
            let message = format!("the value cannot be encoded: {e}; nothing was accepted");
            Error::new(ErrorKind::InvalidRecord, message)
        })?;
        self.writer.append_with(T::metadata(), &payload)
    }

    /// The writer below.
    pub fn get_ref(&self) -> &Writer {
        &self.writer
    }

    /// The writer below.
    pub fn into_inner(self) -> Writer {
        self.writer
    }
}

impl<T> Clone for TypedWriter<T> {
    fn clone(&self) -> Self {
        Self {
            writer: self.writer.clone(),
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for TypedWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedWriter").field(&self.writer).finish()
    }
}

/// What a [`TypedReader`] meets.
#[derive(Debug)]
pub enum TypedItem<T> {
    /// A value, and the delivery to acknowledge.
    Record {
        /// The value.
        value: T,
        /// Its record.
        delivery: Delivery,
    },
    /// A record that is no such value. It is intact, and stays in the buffer
    /// until it is acknowledged.
    Undecodable {
        /// The record.
        delivery: Delivery,
        /// Why it could not be decoded.
        reason: String,
    },
    /// Events that were accepted once and are not there any more.
    Lost(Lost),
}

/// A [`Reader`] of values.
pub struct TypedReader<T> {
    reader: Reader,
    of: PhantomData<fn() -> T>,
}

impl<T: Codec> TypedReader<T> {
    /// Reads values through a reader.
    pub fn new(reader: Reader) -> Self {
        Self {
            reader,
            of: PhantomData,
        }
    }

    /// The next item; waits until there is one. `None` once all writers are
    /// closed and everything is read.
    ///
    /// # Errors
    /// As [`Reader::next`]. A record that cannot be decoded is no error.
    #[expect(
        clippy::should_implement_trait,
        reason = "an item may be an error, and may wait"
    )]
    pub fn next(&mut self) -> Result<Option<TypedItem<T>>> {
        Ok(self.reader.next()?.map(|item| self.decode(item)))
    }

    fn decode(&self, item: Item) -> TypedItem<T> {
        let delivery = match item {
            Item::Lost(lost) => return TypedItem::Lost(lost),
            Item::Record(delivery) => delivery,
        };
        let metadata = delivery.metadata();
        let decoded = if T::can_decode(metadata) {
            T::decode(metadata, delivery.payload().clone()).map_err(|e| e.to_string())
        } else {
            Err(format!(
                "metadata {metadata} is not supported (expected {})",
                T::metadata()
            ))
        };
        match decoded {
            Ok(value) => TypedItem::Record { value, delivery },
            Err(reason) => {
                self.reader
                    .meters()
                    .undecodable
                    .fetch_add(1, Ordering::Relaxed);
                tracing::warn!(id = delivery.id(), reason, "a record cannot be decoded");
                TypedItem::Undecodable { delivery, reason }
            }
        }
    }

    /// The reader below.
    pub fn get_mut(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// The reader below.
    pub fn into_inner(self) -> Reader {
        self.reader
    }
}

impl<T> fmt::Debug for TypedReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReader").field(&self.reader).finish()
    }
}
