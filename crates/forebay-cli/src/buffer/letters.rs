//! A record that was set aside, in its envelope: what a buffer of dead letters holds.
//!
//! Invariant: the envelope holds everything of the record, so that it can be sent again.

use crate::failure::Failure;
use crate::output::json;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use forebay::RecordsOptions;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::Path;

/// For programs: keys may be added, not renamed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Letter<'a> {
    /// The record's id in the buffer that it comes from.
    id: u64,
    attempts: u64,
    exit_status: Option<u8>,
    signal: Option<u8>,
    /// Why it was set aside, if no program failed on it.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    reason: Option<Cow<'a, str>>,
    time: Cow<'a, str>,
    metadata: u32,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    payload: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    payload_base64: Option<Cow<'a, str>>,
}

/// How a program ended that failed on a record.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Failed {
    pub(crate) attempts: u64,
    pub(crate) exit_status: Option<u8>,
    pub(crate) signal: Option<u8>,
}

/// The letter for a record, as text.
pub(crate) fn letter(
    (id, metadata, payload): (u64, u32, &[u8]),
    failed: Failed,
    reason: Option<&str>,
) -> String {
    let text = std::str::from_utf8(payload).ok();
    let base64 = || Cow::Owned(BASE64_STANDARD.encode(payload));
    json(&Letter {
        id,
        attempts: failed.attempts,
        exit_status: failed.exit_status,
        signal: failed.signal,
        reason: reason.map(Cow::Borrowed),
        time: format!("{:.3}", jiff::Timestamp::now()).into(),
        metadata,
        payload: text.map(Cow::Borrowed),
        payload_base64: text.is_none().then(base64),
    })
}

/// The metadata and the payload of the record in a letter.
///
/// # Errors
///
/// In words: it is no letter.
pub(crate) fn open(letter: &[u8]) -> Result<(u32, Vec<u8>), String> {
    let letter: Letter<'_> = serde_json::from_slice(letter).map_err(|_| {
        "it is no dead letter of `pipe` or `skip` (`move` takes any record)".to_owned()
    })?;
    let payload = match (letter.payload, letter.payload_base64) {
        (Some(text), None) => text.into_owned().into_bytes(),
        (None, Some(base64)) => BASE64_STANDARD
            .decode(&*base64)
            .map_err(|error| format!("its payload_base64 is damaged ({error})"))?,
        _ => return Err("it needs one of payload and payload_base64".to_owned()),
    };
    Ok((letter.metadata, payload))
}

/// Refuses a buffer of other records for letters: `redrive` would stop at them, and Vector would not
/// open its buffer again with a letter in it. What keeps the buffer from being read is left to the
/// opening, which says it better.
///
/// # Errors
///
/// Its newest record is no letter.
pub(crate) fn require_place(directory: &Path) -> Result<(), Failure> {
    let newest = RecordsOptions::new().newest(directory).ok().flatten();
    match newest {
        Some(record) if open(&record.payload).is_err() => Err(Failure::new(format!(
            "{} is no place for dead letters: its newest record, {}, is none, and `redrive` or the program \
             that reads the buffer would stop at one or the other; give another directory",
            directory.display(),
            record.id
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_in_a_letter_comes_out(
            payload: Vec<u8>,
            text: String,
            id: u64,
            metadata: u32,
            reason: Option<String>,
        ) {
            for payload in [&payload[..], text.as_bytes()] {
                let letter = letter((id, metadata, payload), Failed::default(), reason.as_deref());
                prop_assert_eq!(open(letter.as_bytes()), Ok((metadata, payload.to_vec())));
            }
        }
    }

    #[test]
    fn what_is_no_letter_is_refused() {
        for bytes in [&b""[..], b"a line", b"{}", b"{\"id\":1}", b"[1]", b"\xff"] {
            assert!(open(bytes).unwrap_err().contains("no dead letter"));
        }
        let both = r#"{"id":1,"attempts":1,"exit_status":1,"signal":null,"time":"","metadata":0}"#;
        assert!(open(both.as_bytes()).unwrap_err().contains("needs one"));
    }
}
