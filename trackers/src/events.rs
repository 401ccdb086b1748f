//! TensorBoard's event files: records of TFRecord, each a protocol buffer `Event`.
//!
//! A record is its length (8 bytes, little endian), the masked CRC-32C of the length, the message, and the masked CRC-32C of
//! the message. Of `Event` (tensorflow/core/util/event.proto) this uses `wall_time` = 1 (double), `step` = 2 (varint),
//! `file_version` = 3 (string), `summary` = 5 and `session_log` = 7 (messages).

use std::io::{self, Write};

/// The first event of a file states its version.
const VERSION: &str = "brain.Event:2";
/// Wire types of protocol buffers.
const VARINT: u8 = 0;
const EIGHT_BYTES: u8 = 1;
const BYTES: u8 = 2;
const FOUR_BYTES: u8 = 5;

/// Writes an event file.
#[derive(Debug)]
pub struct EventWriter<W> {
    out: W,
}

/// A name by which TensorBoard finds a file and orders it among those of its folder.
pub fn event_file_name(seconds: u64, host: &str, process: u32) -> String {
    let host: String =
        host.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    format!("events.out.tfevents.{seconds:010}.{host}.{process}.0")
}

impl<W: Write> EventWriter<W> {
    /// Begins a file at a time, in seconds since 1970.
    pub fn new(out: W, time: f64) -> io::Result<Self> {
        let mut writer = Self { out };
        let mut event = event(time, 0);
        bytes(&mut event, 3, VERSION.as_bytes());
        writer.record(&event)?;
        Ok(writer)
    }

    /// Declares what other files of the folder have from `step` on as replaced, as when a run resumes.
    pub fn restart(&mut self, time: f64, step: u64) -> io::Result<()> {
        let mut event = event(time, step);
        // `SessionLog { status: START }`
        bytes(&mut event, 7, &[key(1, VARINT), 1]);
        self.record(&event)
    }

    /// Adds figures. TensorBoard has single precision.
    pub fn scalars(&mut self, time: f64, step: u64, values: &[(String, f64)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            // `Summary.Value { tag = 1, simple_value = 2 }`
            let mut message = Vec::with_capacity(tag.len() + 8);
            bytes(&mut message, 1, tag.as_bytes());
            message.push(key(2, FOUR_BYTES));
            message.extend((*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &message);
        }
        let mut event = event(time, step);
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Passes what is buffered on.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// A record is written at once, so that a killed run leaves at most one that is torn.
    fn record(&mut self, message: &[u8]) -> io::Result<()> {
        let length = (message.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(message.len() + 16);
        record.extend(length);
        record.extend(masked_checksum(&length).to_le_bytes());
        record.extend(message);
        record.extend(masked_checksum(message).to_le_bytes());
        self.out.write_all(&record)
    }
}

/// The CRC-32C as TFRecord stores it: rotated, and moved by a constant, because the checksum of data with its own checksum
/// says little.
fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn event(time: f64, step: u64) -> Vec<u8> {
    let mut event = vec![key(1, EIGHT_BYTES)];
    event.extend(time.to_le_bytes());
    event.push(key(2, VARINT));
    varint(&mut event, step);
    event
}

/// All fields here have numbers below 16, so that a key is one byte.
const fn key(field: u8, wire: u8) -> u8 {
    field << 3 | wire
}

fn bytes(message: &mut Vec<u8>, field: u8, value: &[u8]) {
    message.push(key(field, BYTES));
    varint(message, value.len() as u64);
    message.extend(value);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn checksums_are_those_of_the_format() {
        // CRC-32C of "123456789" is e3069283.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_checksum(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn a_file_begins_with_its_version() {
        let mut file = Vec::new();
        EventWriter::new(&mut file, 0.0).unwrap();
        let message = &file[12..file.len() - 4];
        assert_eq!(file[..8], (message.len() as u64).to_le_bytes());
        assert_eq!(message, [&[9, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 26, 13][..], b"brain.Event:2"].concat());
    }

    #[test]
    fn files_are_named_for_their_order() {
        assert_eq!(event_file_name(17, "a b/c", 5), "events.out.tfevents.0000000017.a-b-c.5.0");
    }

    proptest! {
        #[test]
        fn a_varint_has_seven_bits_a_byte(value in any::<u64>()) {
            let mut message = Vec::new();
            varint(&mut message, value);
            let read = message.iter().rev().fold(0_u128, |sum, byte| sum << 7 | u128::from(byte & 0x7f));
            prop_assert_eq!(read, u128::from(value));
            prop_assert!(message[..message.len() - 1].iter().all(|byte| byte & 0x80 != 0));
        }
    }
}
