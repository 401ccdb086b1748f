//! The files beside the shards: what is packed how, and where each image lies.

use serde::{Deserialize, Serialize};
use std::hash::Hasher;
use twox_hash::XxHash64;

/// The file of a packed set that lists its shards.
pub const MANIFEST: &str = "pack.json";

/// Version of the index.
pub const VERSION: u32 = 1;

/// The list of shards. It is written before the first shard and again after the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub version: u32,
    /// Whether all shards are written.
    pub complete: bool,
    /// How images are packed.
    pub form: String,
    /// Images of a shard; the last one of a split may have fewer.
    pub images_per_shard: usize,
    /// A hash over the lists of the data set and a sample of its contents.
    pub identity: String,
    /// Names in label order.
    pub class_names: Vec<String>,
    /// Shards of the training images, in order.
    pub train: Vec<String>,
    /// Shards of the test images, in order.
    pub test: Vec<String>,
}

/// The index of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardIndex {
    /// Size of the shard.
    pub bytes: u64,
    /// SHA-256 of the shard, in hexadecimal.
    pub sha256: String,
    /// Its images, in order.
    pub images: Vec<PackedImage>,
}

/// An image within a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedImage {
    /// Its name in the data set that was packed.
    pub name: String,
    /// Its class.
    pub label: u32,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
    /// XXH64 of its bytes.
    pub checksum: u64,
    /// Why it could not be packed; it fails with that when it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// The checksum of an image.
pub fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = XxHash64::with_seed(0);
    hash.write(bytes);
    hash.finish()
}
