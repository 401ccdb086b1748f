//! Both sides of a connection prove that they know the job's token, before anything else is said.
//!
//! Rank 0 sends a word of recognition and 32 random bytes; the other side answers with 32 of its own and a digest
//! over token and both; rank 0 answers with its digest. So the token itself never travels, a stranger on the port
//! learns nothing, and a rank that reached another program under one of rank 0's addresses notices.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const RECOGNITION: &[u8; 8] = b"lifesig1";

type Bytes = [u8; 32];

/// The job's secret, spread over MPI.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token(Bytes);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    fn proof(&self, side: [u8; 6], challenge: &Bytes, own: &Bytes) -> Bytes {
        let digest = Sha256::new().chain_update(self.0).chain_update(side);
        digest.chain_update(challenge).chain_update(own).finalize().into()
    }

    /// Rank 0's side.
    pub(super) async fn ask(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        let challenge: Bytes = rand::random();
        stream.write_all(&[RECOGNITION.as_slice(), &challenge].concat()).await?;
        let (theirs, proof) = (read(stream).await?, read(stream).await?);
        refuse_unless(same(&proof, &self.proof(*b"client", &challenge, &theirs)))?;
        stream.write_all(&self.proof(*b"server", &theirs, &challenge)).await
    }

    /// The other ranks' side.
    pub(super) async fn answer(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        let mut word = [0; RECOGNITION.len()];
        stream.read_exact(&mut word).await?;
        refuse_unless(word == *RECOGNITION)?;
        let challenge = read(stream).await?;
        let own: Bytes = rand::random();
        stream.write_all(&[own, self.proof(*b"client", &challenge, &own)].concat()).await?;
        refuse_unless(same(&read(stream).await?, &self.proof(*b"server", &own, &challenge)))
    }
}

async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut bytes = Bytes::default();
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Compares in a time that does not tell how many bytes agree.
fn same(a: &Bytes, b: &Bytes) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn refuse_unless(proven: bool) -> io::Result<()> {
    if proven {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "the other side does not know this job's token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(server: Token, client: Token) -> (io::Result<()>, io::Result<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut here, mut there) = tokio::io::duplex(1024);
        // Each side closes when it is done, as the real ones do.
        runtime.block_on(async {
            tokio::join!(async move { server.ask(&mut here).await }, async move {
                client.answer(&mut there).await
            })
        })
    }

    #[test]
    fn two_sides_with_the_same_token_agree() {
        let token = Token::random();
        let (server, client) = meet(token, token);
        assert!(server.is_ok() && client.is_ok());
    }

    #[test]
    fn a_wrong_token_is_refused() {
        let (server, client) = meet(Token::random(), Token::random());
        assert_eq!(server.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(client.is_err());
    }

    #[test]
    fn a_server_of_another_kind_is_not_told_anything() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut here, mut there) = tokio::io::duplex(1024);
        runtime.block_on(async {
            here.write_all(&[b'x'; 40]).await.unwrap();
            assert!(Token::random().answer(&mut there).await.is_err());
            drop(there);
            assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 0);
        });
    }
}
