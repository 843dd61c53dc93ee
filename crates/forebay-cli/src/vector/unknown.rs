//! The fields of an event that this program does not know, from a newer Vector.
//!
//! Decoding skips such fields. Here they are found again, so that what is shown does not leave
//! them out in silence. Invariants: only messages that have decoded are searched, so their
//! depth is bounded; nothing inside the secrets is shown, and of bytes in the metadata that
//! may be a secret, only how many they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde_json::{Map, Value as Json, json};

/// A message of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// An array, or an event that stands alone.
    Outer,
    Log,
    Trace,
    Metric,
    Metadata,
    Value,
    /// A message whose only field is a list of [`Value`](Self::Value).
    Values,
    /// A message whose only field is a list of [`Entry`](Self::Entry).
    Entries,
    /// A map's entry: a key and a [`Value`](Self::Value).
    Entry,
    /// A map's entry: a key and a list of tag values.
    TagEntry,
    /// A message without further ones: the numbers of its fields are 1 to this one.
    Plain(u32),
    /// A message whose only field is a list of such messages, followed by plain fields.
    ListOfPlain {
        /// The largest number of a field of the listed messages.
        of: u32,
        /// The largest number of a field of the message itself.
        last: u32,
    },
}

/// What is known of a field.
enum Field {
    Known,
    Message(Schema),
    Unknown,
}

impl Schema {
    fn field(self, number: u32) -> Field {
        use Field::{Known, Message, Unknown};
        match (self, number) {
            (Self::Outer, 1..=3) => Known,
            (Self::Log, 1) | (Self::Trace, 1) => Message(Self::Entry),
            (Self::Log, 2 | 3) | (Self::Trace, 2) => Message(Self::Value),
            (Self::Log, 4) | (Self::Trace, 3) => Message(Self::Metadata),
            (Self::Metric, 1 | 4 | 11 | 18) => Known,
            (Self::Metric, 2) => Message(Self::Plain(2)),
            (Self::Metric, 3) => Message(Self::Plain(2)),
            (Self::Metric, 5..=7) => Message(Self::Plain(1)),
            (Self::Metric, 8) => Message(Self::Plain(3)),
            (Self::Metric, 9 | 10) => Message(Self::Plain(4)),
            (Self::Metric, 12) => Message(Self::ListOfPlain { of: 2, last: 2 }),
            (Self::Metric, 13 | 14 | 16 | 17) => Message(Self::ListOfPlain { of: 2, last: 3 }),
            (Self::Metric, 15) => Message(Self::ListOfPlain { of: 7, last: 1 }),
            (Self::Metric, 19) => Message(Self::Value),
            (Self::Metric, 20) => Message(Self::TagEntry),
            (Self::TagEntry, 1) => Known,
            (Self::TagEntry, 2) => Message(Self::ListOfPlain { of: 1, last: 1 }),
            (Self::Metric, 21) => Message(Self::Metadata),
            (Self::Metadata, 1) => Message(Self::Value),
            (Self::Metadata, 5) => Message(Self::Plain(2)),
            // The secrets are 6. The origin that Datadog knows, 2, is not declared.
            (Self::Metadata, 3 | 4 | 6 | 7) => Known,
            (Self::Value, 1 | 4..=6 | 9) => Known,
            (Self::Value, 2) => Message(Self::Plain(2)),
            (Self::Value, 7) => Message(Self::Entries),
            (Self::Value, 8) => Message(Self::Values),
            (Self::Values, 1) => Message(Self::Value),
            (Self::Entries, 1) => Message(Self::Entry),
            (Self::Entry, 1) => Known,
            (Self::Entry, 2) => Message(Self::Value),
            (Self::ListOfPlain { of, .. }, 1) => Message(Self::Plain(of)),
            (Self::ListOfPlain { last, .. }, number) if number <= last => Known,
            (Self::Plain(last), number) if number <= last => Known,
            _ => Unknown,
        }
    }
}

/// The unknown fields of a message, by the numbers that lead to each: `4.9` is the field 9 of
/// the message in field 4. Those in the metadata are among them only `with_metadata`.
pub(super) fn unknown_fields(
    schema: Schema,
    message: &[u8],
    with_metadata: bool,
) -> Map<String, Json> {
    let mut search = Search {
        path: Vec::new(),
        with_metadata,
        in_metadata: false,
        found: Map::new(),
    };
    // The message has decoded, so it has no errors but in fields that are not declared.
    let _ = search.message(schema, message);
    search.found
}

struct Search {
    /// The numbers that lead to the present message.
    path: Vec<u32>,
    with_metadata: bool,
    in_metadata: bool,
    found: Map<String, Json>,
}

impl Search {
    fn message(&mut self, schema: Schema, mut message: &[u8]) -> Option<()> {
        if schema == Schema::Metadata {
            if !self.with_metadata {
                return Some(());
            }
            self.in_metadata = true;
        }
        while !message.is_empty() {
            let (number, wire_type) = decode_key(&mut message).ok()?;
            let field = schema.field(number);
            if wire_type == WireType::LengthDelimited {
                let len = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                let (bytes, rest) = message.split_at_checked(len)?;
                message = rest;
                match field {
                    Field::Known => {}
                    Field::Message(schema) => {
                        self.path.push(number);
                        let was_in_metadata = self.in_metadata;
                        self.message(schema, bytes)?;
                        self.in_metadata = was_in_metadata;
                        self.path.pop();
                    }
                    Field::Unknown if self.in_metadata => {
                        self.note(number, json!({ "$length": bytes.len() }));
                    }
                    Field::Unknown => self.note(number, bytes_json(bytes)),
                }
                continue;
            }
            let before = message;
            let context = DecodeContext::default();
            skip_field(wire_type, number, &mut message, context).ok()?;
            if let Field::Unknown = field {
                let skipped = &before[..before.len() - message.len()];
                self.note(number, scalar_json(wire_type, skipped));
            }
        }
        Some(())
    }

    /// A field that occurs again becomes a list.
    fn note(&mut self, number: u32, value: Json) {
        let numbers = self.path.iter().chain([&number]);
        let path: Vec<String> = numbers.map(u32::to_string).collect();
        let path = path.join(".");
        match self.found.get_mut(&path) {
            None => {
                self.found.insert(path, value);
            }
            Some(Json::Array(values)) => values.push(value),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
}

/// A number as it is stored; of a group, which Vector does not use, only the length.
fn scalar_json(wire_type: WireType, mut bytes: &[u8]) -> Json {
    let number = match wire_type {
        WireType::Varint => decode_varint(&mut bytes).ok(),
        WireType::SixtyFourBit => bytes.first_chunk().map(|b| u64::from_le_bytes(*b)),
        WireType::ThirtyTwoBit => bytes.first_chunk().map(|b| u32::from_le_bytes(*b).into()),
        _ => None,
    };
    number.map_or_else(|| json!({ "$length": bytes.len() }), Json::from)
}

/// Text as a string; anything else as `{"$base64": …}`.
fn bytes_json(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.into(),
        _ => json!({ "$base64": STANDARD.encode(bytes) }),
    }
}
