//! The asynchronous form does what the blocking one does.

use std::io::SeekFrom;

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
    assert!(file.seek(SeekFrom::End(-2_000_000)).await.is_err());
    file.verify().await.unwrap();
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
