//! The asynchronous form does what the blocking one does.

use std::io::SeekFrom;
use std::task::Poll;

use aico_vault::file::OpenOptions;
use aico_vault::{AsyncEncryptedFile, EncryptedFileError};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::support::*;

async fn open(options: &OpenOptions) -> AsyncEncryptedFile {
    AsyncEncryptedFile::open_with(options.clone(), key(), place().to_owned())
        .await
        .unwrap()
}

fn to_write(disk: &Disk) -> OpenOptions {
    let mut options = disk.options();
    options.write(true).create(true).truncate(true);
    options
}

fn to_read(disk: &Disk) -> OpenOptions {
    let mut options = disk.options();
    options.read(true);
    options
}

/// Begins something and lets go of it.
async fn cut_off(call: impl Future) {
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|context| {
        let _ = call.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn it_copies_seeks_and_finishes() {
    let disk = Disk::new();
    let text = text(1_000_000);
    for by_shutdown in [true, false] {
        let mut file = open(&to_write(&disk)).await;
        tokio::io::copy(&mut &text[..], &mut file).await.unwrap();
        if by_shutdown {
            file.shutdown().await.unwrap();
            // Nothing more to be done, and nothing that could be.
            file.shutdown().await.unwrap();
            assert!(file.write_all(b"x").await.is_err());
        } else {
            file.finish().await.unwrap();
        }
        assert!(disk.read().0 == text);
    }
    let mut file = open(&to_read(&disk)).await;
    let mut all = Vec::new();
    file.read_to_end(&mut all).await.unwrap();
    assert!(all == text);
    let mut here = [0; 10];
    for (to, at) in [
        (SeekFrom::Start(500_000), 500_000),
        (SeekFrom::Current(-10), 500_000),
        (SeekFrom::Current(1000), 501_010),
        (SeekFrom::End(-10), 999_990),
        (SeekFrom::Start(3), 3),
    ] {
        assert_eq!(file.seek(to).await.unwrap(), at);
        file.read_exact(&mut here).await.unwrap();
        assert_eq!(here, text[at as usize..at as usize + 10], "{to:?}");
        assert_eq!(file.stream_position().await.unwrap(), at + 10);
    }
    // A seek that fails, and a check in between, leave the reader where it is.
    file.read_exact(&mut here).await.unwrap();
    assert_eq!(here, text[13..23]);
    for to in [SeekFrom::End(-2_000_000), SeekFrom::Current(-24)] {
        assert!(file.seek(to).await.is_err());
    }
    file.verify().await.unwrap();
    file.read_exact(&mut here).await.unwrap();
    assert_eq!(here, text[23..33]);
    assert_eq!(file.stream_position().await.unwrap(), 33);
    file.finish().await.unwrap();
}

#[tokio::test]
async fn a_flush_hands_over_and_a_sync_makes_durable() {
    let disk = Disk::new();
    let mut options = disk.options();
    options.append(true).create(true);
    let mut file = open(&options).await;
    file.write_all(b"one").await.unwrap();
    file.flush().await.unwrap();
    assert_eq!(disk.read().0, b"one");
    file.write_all(b"two").await.unwrap();
    assert_eq!(file.sync().await.unwrap(), 2);
    assert_eq!(file.finish().await.unwrap(), 2);
    assert_eq!(disk.read().0, b"onetwo");
}

#[tokio::test]
async fn what_goes_wrong_in_the_background_is_told_and_damage_ends_what_is_read() {
    let disk = Disk::new();
    disk.replace(b"old").unwrap();
    let text = text(2_000_000);
    let mut file = open(&to_write(&disk)).await;
    disk.0.set_full(true);
    let error = match file.write_all(&text).await {
        Ok(()) => file.flush().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(file.finish().await.is_err());
    disk.0.set_full(false);
    assert_eq!(disk.read().0, b"old");

    let mut bytes = finished(&text);
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let damaged = Disk::with(&bytes);
    let mut file = open(&to_read(&damaged)).await;
    let mut out = Vec::new();
    let error = file.read_to_end(&mut out).await.unwrap_err();
    let chunk = (at - 147) / (CHUNK + 16);
    assert!(out == text[..chunk * CHUNK]);
    assert!(
        matches!(typed(error), EncryptedFileError::Damaged { chunk: found, .. } if found == chunk as u64)
    );
    assert!(file.verify().await.is_err());
    let other = key_of(aico_vault::Purpose::Log, person(0xaf), id(0x5f));
    let opened = AsyncEncryptedFile::open_with(to_read(&disk), other, place().to_owned()).await;
    assert!(matches!(
        opened.map(drop),
        Err(EncryptedFileError::Foreign { .. })
    ));
}

#[tokio::test]
async fn one_that_is_dropped_leaves_what_was_there() {
    let disk = Disk::new();
    disk.replace(b"old").unwrap();
    let mut file = open(&to_write(&disk)).await;
    file.write_all(&text(1_000_000)).await.unwrap();
    file.flush().await.unwrap();
    drop(file);
    assert_eq!(disk.read().0, b"old");
    assert_eq!(disk.0.files().len(), 1);
}

/// What is missing stays missing, whichever call it was told by.
#[tokio::test]
async fn after_a_write_that_failed_nothing_is_written_and_nothing_is_finished() {
    let part = text(256 * 1024);
    for told_by in ["write", "flush", "seek"] {
        let disk = Disk::new();
        disk.replace(b"old").unwrap();
        let mut file = open(&to_write(&disk)).await;
        disk.0.set_full(true);
        // The second one meets the disk, in the background.
        for _ in 0..2 {
            assert_eq!(file.write(&part).await.unwrap(), part.len());
        }
        let error = match told_by {
            "write" => file.write(b"more").await.unwrap_err(),
            "flush" => file.flush().await.unwrap_err(),
            _ => file.stream_position().await.unwrap_err(),
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{told_by}");
        disk.0.set_full(false);
        for _ in 0..2 {
            let error = file.write_all(&part).await.unwrap_err();
            assert!(matches!(
                typed(error),
                EncryptedFileError::Incomplete { .. }
            ));
            assert!(file.flush().await.is_err());
            assert!(file.shutdown().await.is_err());
            assert!(file.sync().await.is_err());
        }
        assert!(file.finish().await.is_err());
        assert_eq!(disk.read().0, b"old");
        assert_eq!(disk.0.files().len(), 1);
    }
}

#[tokio::test]
async fn a_file_that_could_not_be_finished_is_never_called_finished() {
    let disk = Disk::new();
    disk.replace(b"old").unwrap();
    let mut file = open(&to_write(&disk)).await;
    file.write_all(b"new").await.unwrap();
    file.flush().await.unwrap();
    disk.0.set_full(true);
    assert!(file.shutdown().await.is_err());
    disk.0.set_full(false);
    assert!(file.shutdown().await.is_err());
    assert!(file.flush().await.is_err());
    assert!(file.finish().await.is_err());
    assert_eq!(disk.read().0, b"old");
}

#[tokio::test]
async fn a_call_that_is_cut_off_leaves_the_file_as_it_is() {
    let disk = Disk::new();
    let mut options = disk.options();
    options.append(true).create(true);
    let mut file = open(&options).await;
    file.write_all(b"one").await.unwrap();
    file.flush().await.unwrap();
    cut_off(file.sync()).await;
    file.write_all(b"two").await.unwrap();
    file.flush().await.unwrap();
    assert_eq!(file.finish().await.unwrap(), 2);
    assert_eq!(disk.read().0, b"onetwo");
    // The same of one that is read: what was read ahead is not taken for the end.
    let (disk, text) = (Disk::new(), text(100_000));
    disk.replace(&text).unwrap();
    let mut file = open(&to_read(&disk)).await;
    let mut all = vec![0; 10];
    file.read_exact(&mut all).await.unwrap();
    cut_off(file.stream_position()).await;
    file.read_to_end(&mut all).await.unwrap();
    assert!(all == text);
}
