//! Frames between the ranks: a length of four bytes (little endian), followed by that many bytes of JSON.

use super::diagnosis::{Diagnosis, LastReport};
use serde::{Deserialize, Serialize};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Maximum size of a frame. The longest message is a verdict of a few hundred bytes.
pub(super) const MAX_FRAME: usize = 8192;

/// A message between rank 0 and another rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// Identifies the sending rank; the first frame of a connection.
    Hello { rank: usize },
    /// Rank 0 accepts the connection of that rank.
    Welcome,
    /// A heartbeat with the current activity of the sender.
    Beat(LastReport),
    /// The job ends because of this failure.
    Verdict(Box<Diagnosis>),
    /// The sender ends normally, so the closing connection does not count as its death.
    Goodbye,
    /// The sender has received a request to stop, but hangs before the point at which the ranks agree on it.
    Ask(i32),
    /// Rank 0 ends the job: each rank exits at once with this code.
    Leave(i32),
}

impl Message {
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, self)?;
        let length = bytes.len() - 4;
        if length > MAX_FRAME {
            return Err(io::Error::other(format!("a frame of {length} bytes, more than {MAX_FRAME}")));
        }
        bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
        Ok(bytes)
    }

    fn decode(json: &[u8]) -> io::Result<Self> {
        Ok(serde_json::from_slice(json)?)
    }
}

pub(super) async fn write_frame(to: &mut (impl AsyncWrite + Unpin), frame: &Message) -> io::Result<()> {
    to.write_all(&frame.encode()?).await
}

/// Reads one frame. The length is checked before memory is allocated.
pub(super) async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
    let length = from.read_u32_le().await? as usize;
    if length > MAX_FRAME {
        let text = format!("a frame of {length} bytes, expected at most {MAX_FRAME}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut json = vec![0; length];
    from.read_exact(&mut json).await?;
    Message::decode(&json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::diagnosis::RankFailure;
    use proptest::prelude::*;
    use std::time::Duration;

    fn read(bytes: &[u8]) -> io::Result<Message> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut bytes = bytes;
        runtime.block_on(read_frame(&mut bytes))
    }

    fn verdict(step: u64, text: &str, timeout: Duration) -> Diagnosis {
        let report = LastReport {
            step,
            phase: text.to_owned(),
            operation: "all_reduce".into(),
            waits_for_others: true,
            calls: step,
            idle: Duration::from_millis(step % 1000),
            timeout,
        };
        let (host, reason) = (text.to_owned(), Some(text.to_owned()));
        Diagnosis {
            rank: 3,
            host,
            pid: 4711,
            kind: RankFailure::Stuck,
            report,
            since: Duration::ZERO,
            reason,
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let mut framed = (bytes.len() as u32).to_le_bytes().to_vec();
            framed.extend(&bytes);
            let _ = read(&framed);
        }

        #[test]
        fn a_damaged_frame_is_a_frame_or_an_error(at in 0usize..200, value: u8) {
            let mut bytes = Message::Verdict(verdict(7, "n1", Duration::MAX).into()).encode().unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = read(&bytes);
        }

        #[test]
        fn frames_survive_encoding_and_decoding(rank: usize, step: u64, text in ".{0,40}", seconds: u32) {
            let verdict = verdict(step, &text, Duration::from_secs(seconds.into()));
            let beat = Message::Beat(verdict.report.clone());
            let requests = [Message::Ask(seconds as i32), Message::Leave(75)];
            for frame in [Message::Hello { rank }, Message::Welcome, beat, Message::Verdict(verdict.into()), Message::Goodbye]
                .into_iter()
                .chain(requests)
            {
                prop_assert_eq!(&read(&frame.encode().unwrap()).unwrap(), &frame);
            }
        }
    }

    #[test]
    fn an_unlimited_timeout_survives_encoding_and_decoding() {
        let frame = Message::Beat(verdict(1, "x", Duration::MAX).report);
        assert_eq!(read(&frame.encode().unwrap()).unwrap(), frame);
    }

    #[test]
    fn a_huge_frame_is_refused_before_its_content_is_read() {
        let error = read(&u32::MAX.to_le_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "a frame of 4294967295 bytes, expected at most 8192");
    }
}
