//! Codecs: how values become payload bytes and come back.
//!
//! Invariant: a codec is pure: the same bytes always give the same result.

use std::convert::Infallible;
use std::fmt;
#[cfg(feature = "serde_json")]
use std::marker::PhantomData;

use bytes::Bytes;

use crate::counter::EventCounter;

/// How values of one type become records and come back.
///
/// A codec is a value that is passed to [`Config::open_typed`](crate::Config::open_typed), so it
/// can hold what it needs: a schema, a dictionary, a key.
///
/// ```
/// use bytes::Bytes;
/// use forebay::Codec;
///
/// /// Temperatures in tenths of a degree.
/// struct Tenths;
///
/// impl Codec for Tenths {
///     type Value = f64;
///     type EncodeError = &'static str;
///     type DecodeError = &'static str;
///
///     fn metadata(&self) -> u32 { 7 }
///     fn encode(&self, value: &f64, payload: &mut Vec<u8>) -> Result<(), Self::EncodeError> {
///         if !value.is_finite() {
///             return Err("not a temperature");
///         }
///         payload.extend_from_slice(&((value * 10.0).round() as i32).to_le_bytes());
///         Ok(())
///     }
///     fn decode(&self, _metadata: u32, payload: Bytes) -> Result<f64, Self::DecodeError> {
///         let bytes = payload.as_ref().try_into().map_err(|_| "not four bytes")?;
///         Ok(f64::from(i32::from_le_bytes(bytes)) / 10.0)
///     }
/// }
/// # let dir = tempfile::tempdir()?;
/// let (writer, mut reader) = forebay::Config::new(dir.path()).open_typed(Tenths)?;
/// writer.append(&36.6)?;
/// # drop(writer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Codec {
    /// The type of the values.
    type Value;
    /// Why a value cannot be encoded.
    type EncodeError: fmt::Display;
    /// Why a payload cannot be decoded.
    type DecodeError: fmt::Display;

    /// The number stored with every record: it says what the payload is, and in which version.
    /// Default 0.
    fn metadata(&self) -> u32 {
        0
    }

    /// Whether records with this metadata can be decoded. Default: only records with the codec's
    /// own [`metadata`](Self::metadata).
    fn can_decode(&self, metadata: u32) -> bool {
        metadata == self.metadata()
    }

    /// Appends the value's bytes to `payload`.
    ///
    /// # Errors
    /// When the value has no encoding. Nothing is appended to the buffer then.
    fn encode(&self, value: &Self::Value, payload: &mut Vec<u8>) -> Result<(), Self::EncodeError>;

    /// The value of a payload whose metadata [`can_decode`](Self::can_decode).
    ///
    /// # Errors
    /// When the payload does not encode a value.
    fn decode(&self, metadata: u32, payload: Bytes) -> Result<Self::Value, Self::DecodeError>;

    /// How many events a record holds, if the codec knows. Default `None`: what
    /// [`Config::event_counter`](crate::Config::event_counter) says. A buffer must always be
    /// opened with the counter it was written with.
    fn event_counter(&self) -> Option<EventCounter> {
        None
    }
}

/// Payloads as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Raw;

impl Codec for Raw {
    type Value = Bytes;
    type EncodeError = Infallible;
    type DecodeError = Infallible;

    fn can_decode(&self, _metadata: u32) -> bool {
        true
    }

    fn encode(&self, value: &Bytes, payload: &mut Vec<u8>) -> Result<(), Infallible> {
        payload.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, _metadata: u32, payload: Bytes) -> Result<Bytes, Infallible> {
        Ok(payload)
    }
}

/// Text in UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Text;

impl Codec for Text {
    type Value = String;
    type EncodeError = Infallible;
    type DecodeError = std::str::Utf8Error;

    fn encode(&self, value: &String, payload: &mut Vec<u8>) -> Result<(), Infallible> {
        payload.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn decode(&self, _metadata: u32, payload: Bytes) -> Result<String, Self::DecodeError> {
        std::str::from_utf8(&payload).map(str::to_owned)
    }
}

/// One value per record, as JSON (feature `serde_json`): anything that `serde` can turn into JSON
/// and back.
#[cfg(feature = "serde_json")]
pub struct Json<T>(PhantomData<fn() -> T>);

#[cfg(feature = "serde_json")]
impl<T> Json<T> {
    /// The codec.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

#[cfg(feature = "serde_json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec for Json<T> {
    type Value = T;
    type EncodeError = serde_json::Error;
    type DecodeError = serde_json::Error;

    fn encode(&self, value: &T, payload: &mut Vec<u8>) -> Result<(), Self::EncodeError> {
        serde_json::to_writer(payload, value)
    }

    fn decode(&self, _metadata: u32, payload: Bytes) -> Result<T, Self::DecodeError> {
        serde_json::from_slice(&payload)
    }
}

/// Several values per record, each one line of JSON and one event (feature `serde_json`).
///
/// Ids step by the number of lines, so a loss is counted in values. An empty list cannot be
/// encoded, nor a value that brings its own JSON with line feeds in it, as
/// `serde_json::value::RawValue` may.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use forebay::{Config, JsonLines};
/// let (writer, _reader) = Config::new(dir.path()).open_typed(JsonLines::<u32>::new())?;
/// writer.append(&vec![1, 2, 3])?;
/// assert_eq!(writer.append(&vec![4])?.id(), Some(4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "serde_json")]
pub struct JsonLines<T>(PhantomData<fn() -> T>);

#[cfg(feature = "serde_json")]
impl<T> JsonLines<T> {
    /// The codec.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

#[cfg(feature = "serde_json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec for JsonLines<T> {
    type Value = Vec<T>;
    type EncodeError = String;
    type DecodeError = serde_json::Error;

    fn encode(&self, values: &Vec<T>, payload: &mut Vec<u8>) -> Result<(), String> {
        if values.is_empty() {
            return Err("the list is empty, and a record holds at least one event".to_owned());
        }
        for (index, value) in values.iter().enumerate() {
            let begin = payload.len();
            serde_json::to_writer(&mut *payload, value).map_err(|e| e.to_string())?;
            // A value that brings its own JSON (`RawValue`) may have line feeds between its parts.
            if payload[begin..].contains(&b'\n') {
                return Err(format!(
                    "the JSON of item {index} has a line feed, and each item must be one line; \
                     write it without line feeds"
                ));
            }
            payload.push(b'\n');
        }
        Ok(())
    }

    fn decode(&self, _metadata: u32, payload: Bytes) -> Result<Vec<T>, Self::DecodeError> {
        payload
            .split_inclusive(|byte| *byte == b'\n')
            .map(serde_json::from_slice)
            .collect()
    }

    fn event_counter(&self) -> Option<EventCounter> {
        // `encode` refuses a value whose JSON has a line feed.
        let count_lines = |payload: &[u8]| payload.split_inclusive(|byte| *byte == b'\n').count();
        Some(EventCounter::new(move |_, payload| {
            count_lines(payload).max(1) as u64
        }))
    }
}

#[cfg(feature = "serde_json")]
macro_rules! impl_as_marker {
    ($($codec:ident),+) => {$(
        impl<T> Default for $codec<T> {
            fn default() -> Self {
                Self::new()
            }
        }

        impl<T> Clone for $codec<T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T> Copy for $codec<T> {}

        impl<T> fmt::Debug for $codec<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($codec))
            }
        }
    )+};
}

#[cfg(feature = "serde_json")]
impl_as_marker!(Json, JsonLines);

/// A codec that stores its version as the records' metadata and still reads older versions.
///
/// Records of a version that is not named are undecodable: they are delivered as they are.
///
/// ```
/// # #[cfg(feature = "serde_json")] {
/// # let dir = tempfile::tempdir()?;
/// use forebay::{Config, Json, TypedItem, Versioned};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct OrderV1 { cents: u64 }
/// #[derive(Serialize, Deserialize)]
/// struct Order { cents: u64, currency: String }
///
/// let v1 = Versioned::new(1, Json::<OrderV1>::new());
/// let (writer, reader) = Config::new(dir.path()).open_typed(v1)?;
/// writer.append(&OrderV1 { cents: 100 })?;
/// writer.close()?;
/// reader.close()?;
///
/// // The next version of the program.
/// let v2 = Versioned::new(2, Json::<Order>::new()).older(1, Json::<OrderV1>::new(), |old| Order {
///     cents: old.cents,
///     currency: "EUR".to_owned(),
/// });
/// let (writer, mut reader) = Config::new(dir.path()).open_typed(v2)?;
/// writer.append(&Order { cents: 5, currency: "USD".to_owned() })?;
/// writer.close()?;
/// let mut currencies = Vec::new();
/// while let Some(TypedItem::Record { value, delivery }) = reader.recv()? {
///     currencies.push(value.currency);
///     delivery.ack();
/// }
/// assert_eq!(currencies, ["EUR", "USD"]);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Versioned<C: Codec> {
    version: u32,
    codec: C,
    older: Vec<Older<C::Value>>,
}

/// How records of an older version are read.
struct Older<V> {
    version: u32,
    decode: Box<Decode<V>>,
    event_counter: Option<EventCounter>,
}

type Decode<V> = dyn Fn(u32, Bytes) -> Result<V, String> + Send + Sync;

impl<C: Codec> Versioned<C> {
    /// Writes records of this version, which is stored as their metadata.
    pub fn new(version: u32, codec: C) -> Self {
        Self {
            version,
            codec,
            older: Vec::new(),
        }
    }

    /// Reads records of an older version as well, converting their values.
    #[must_use]
    pub fn older<O>(
        mut self,
        version: u32,
        codec: O,
        convert: impl Fn(O::Value) -> C::Value + Send + Sync + 'static,
    ) -> Self
    where
        O: Codec + Send + Sync + 'static,
    {
        self.older.push(Older {
            version,
            event_counter: codec.event_counter(),
            decode: Box::new(move |metadata, payload| {
                let value = codec.decode(metadata, payload);
                value.map(&convert).map_err(|e| e.to_string())
            }),
        });
        self
    }
}

impl<C: Codec> Codec for Versioned<C> {
    type Value = C::Value;
    type EncodeError = C::EncodeError;
    type DecodeError = String;

    fn metadata(&self) -> u32 {
        self.version
    }

    fn can_decode(&self, metadata: u32) -> bool {
        metadata == self.version || self.older.iter().any(|older| older.version == metadata)
    }

    fn encode(&self, value: &C::Value, payload: &mut Vec<u8>) -> Result<(), C::EncodeError> {
        self.codec.encode(value, payload)
    }

    fn decode(&self, metadata: u32, payload: Bytes) -> Result<C::Value, String> {
        match self.older.iter().find(|older| older.version == metadata) {
            Some(older) => (older.decode)(metadata, payload),
            None => {
                let value = self.codec.decode(metadata, payload);
                value.map_err(|e| e.to_string())
            }
        }
    }

    /// Each version's own counter for its records. Records of versions without a counter, and of
    /// unknown versions, count one.
    fn event_counter(&self) -> Option<EventCounter> {
        let own = (self.version, self.codec.event_counter());
        let older = self
            .older
            .iter()
            .map(|o| (o.version, o.event_counter.clone()));
        let counters: Vec<_> = std::iter::once(own)
            .chain(older)
            .filter_map(|(version, counter)| Some((version, counter?)))
            .collect();
        if counters.is_empty() {
            return None;
        }
        Some(EventCounter::new(move |metadata, payload| {
            let counter = counters.iter().find(|(version, _)| *version == metadata);
            counter.map_or(1, |(_, counter)| counter.count(metadata, payload))
        }))
    }
}

impl<C: Codec> fmt::Debug for Versioned<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let older: Vec<_> = self.older.iter().map(|older| older.version).collect();
        f.debug_struct("Versioned")
            .field("version", &self.version)
            .field("older", &older)
            .finish_non_exhaustive()
    }
}
