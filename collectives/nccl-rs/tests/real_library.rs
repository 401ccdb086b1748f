//! Tests of an installed NCCL. They need no GPU, and create a communicator if there is one.

use nccl_rs::{Communicator, Error, Library, Version};
use std::time::Duration;

fn library(test: &str) -> Option<Library> {
    match Library::open() {
        Ok(library) => Some(library),
        Err(error @ Error::NotFound { .. }) => {
            println!("skipped: {test} ({error})");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_installed_nccl_has_a_version_and_creates_unique_ids() {
    let Some(nccl) = library("the_installed_nccl_has_a_version_and_creates_unique_ids") else { return };
    let version = nccl.version().unwrap();
    assert!(version >= Version { major: 2, minor: 14, patch: 0 }, "{version}");
    assert!(nccl.has_symbol("ncclAllReduce") && !nccl.has_symbol("ncclOfNoVersion"));
    assert_ne!(nccl.unique_id().unwrap(), nccl.unique_id().unwrap());
}

#[test]
fn a_communicator_of_one_rank_works_or_returns_an_error() {
    let Some(nccl) = library("a_communicator_of_one_rank_works_or_returns_an_error") else {
        return;
    };
    let id = nccl.unique_id().unwrap();
    match Communicator::init_rank(&nccl, &id, (0, 1), Duration::from_mins(1)) {
        Ok(communicator) => {
            communicator.async_error().unwrap();
            let part = communicator.split(0, 0, (0, 1)).unwrap();
            assert_eq!((part.rank(), part.size()), (0, 1));
            part.abort(Duration::from_secs(10)).unwrap();
            assert!(matches!(part.async_error(), Err(Error::Aborted { .. })));
        }
        // Without a GPU. Code 4 (invalid argument) would mean that NCCL does not accept the configuration.
        Err(Error::Nccl { call, code, message }) => {
            assert!(
                code != 4 && call == "ncclCommInitRankConfig" && !message.is_empty(),
                "{code}: {message}"
            );
        }
        Err(error) => panic!("{error}"),
    }
}
