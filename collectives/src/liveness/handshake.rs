//! Mutual authentication of a connection: both sides prove that they know the token of the job.
//!
//! Rank 0 sends a magic number and 32 random bytes. The other side answers with 32 random bytes and the HMAC of both
//! challenges under the token, and rank 0 answers with its own HMAC. The token itself is never sent, a foreign client
//! learns nothing, and a rank detects that it has reached another program at one of the addresses of rank 0.

use hmac::digest::Key;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const MAGIC: &[u8; 8] = b"lifesig2";

type Bytes = [u8; 32];

/// The secret of the job, which MPI distributes.
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

    /// The proof that `side` knows the token: the HMAC of the random bytes of both sides.
    fn proof(&self, side: [u8; 6], challenge: &Bytes, own: &Bytes) -> Hmac<Sha256> {
        // HMAC pads a key that is shorter than a block with zeros.
        let mut key = Key::<Hmac<Sha256>>::default();
        key[..self.0.len()].copy_from_slice(&self.0);
        Hmac::new(&key).chain_update(side).chain_update(challenge).chain_update(own)
    }

    /// The handshake on rank 0.
    pub(super) async fn ask(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        let challenge: Bytes = rand::random();
        stream.write_all(&[MAGIC.as_slice(), &challenge].concat()).await?;
        let (theirs, proof) = (read(stream).await?, read(stream).await?);
        check(&proof, self.proof(*b"client", &challenge, &theirs))?;
        stream.write_all(&self.proof(*b"server", &theirs, &challenge).finalize().into_bytes()).await
    }

    /// The handshake on another rank.
    pub(super) async fn answer(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        let mut magic = [0; MAGIC.len()];
        stream.read_exact(&mut magic).await?;
        if magic != *MAGIC {
            return Err(refusal());
        }
        let challenge = read(stream).await?;
        let own: Bytes = rand::random();
        let proof = self.proof(*b"client", &challenge, &own).finalize().into_bytes();
        stream.write_all(&[own, proof.into()].concat()).await?;
        check(&read(stream).await?, self.proof(*b"server", &own, &challenge))
    }
}

async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut bytes = Bytes::default();
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Compares in constant time, so that the duration does not reveal how many bytes agree.
fn check(found: &Bytes, expected: Hmac<Sha256>) -> io::Result<()> {
    expected.verify(&(*found).into()).map_err(|_| refusal())
}

fn refusal() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the other side does not know the token of this job")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected value is the output of Python's `hmac.digest`.
    #[test]
    fn the_proof_is_hmac_sha256() {
        let proof = Token([1; 32]).proof(*b"client", &[2; 32], &[3; 32]).finalize().into_bytes();
        let expected = b"\xbd\xd1\xfe\x3f\x4e\x13\x9f\xce\x8d\x66\xf5\x97\xab\x5c\x37\xd1\
            \xc4\xe3\x1c\xa8\xb0\x57\xf8\xf3\xab\x28\xd4\x45\x5d\xeb\x13\x63";
        assert_eq!(proof.as_slice(), expected);
    }

    fn handshake(server: Token, client: Token) -> (io::Result<()>, io::Result<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut here, mut there) = tokio::io::duplex(1024);
        // Each side closes its end when it is done, like a real connection.
        runtime.block_on(async {
            tokio::join!(async move { server.ask(&mut here).await }, async move {
                client.answer(&mut there).await
            })
        })
    }

    #[test]
    fn two_sides_with_the_same_token_agree() {
        let token = Token::random();
        let (server, client) = handshake(token, token);
        assert!(server.is_ok() && client.is_ok());
    }

    #[test]
    fn a_wrong_token_is_refused() {
        let (server, client) = handshake(Token::random(), Token::random());
        assert_eq!(server.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(client.is_err());
    }

    #[test]
    fn a_foreign_server_receives_nothing() {
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
