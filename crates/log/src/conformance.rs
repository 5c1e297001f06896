//! What every [`Disk`] must do, for the tests of whoever implements one.

use std::io;

use crate::disk::Disk;

/// Runs the suite in an empty directory, or one that an earlier run has left.
///
/// # Panics
/// Where the disk does not conform.
pub fn run(disk: &dyn Disk) {
    names(disk);
    bytes(disk);
    sizes(disk);
}

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

fn names(disk: &dyn Disk) {
    let not_found = Some(io::ErrorKind::NotFound);
    assert_eq!(
        kind(disk.list("suite/none")),
        not_found,
        "a directory that is not there has no list"
    );
    assert_eq!(kind(disk.open("suite/none")), not_found, "a file that is not there does not open");
    assert_eq!(kind(disk.open_read("suite/none")), not_found, "nor for reading");
    disk.make_dir("suite/deep").expect("directories are made with those above them");
    disk.make_dir("suite/deep").expect("a directory that is there is fine");
    disk.sync_dir("suite").expect("names become durable");
    disk.sync_dir("").expect("those of the ledger's own directory too");
    for name in ["b", "a", "deep/c"] {
        disk.create(&format!("suite/{name}")).expect("an empty file is made");
    }
    let exists = Some(io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create("suite/a")), exists, "a file is made once");
    let list = |path| disk.list(path).expect("the directory is there");
    assert_eq!(list("suite"), ["a", "b", "deep"], "names come sorted, directories among them");
    assert_eq!(list("suite/deep"), ["c"], "and without what stands beside");
    assert!(
        list("").contains(&"suite".to_owned()),
        "the ledger's own directory has the empty path"
    );
    let open = disk.open("suite/deep/c").expect("it was made");
    disk.remove("suite/deep/c").expect("files are removed");
    assert_eq!(kind(disk.remove("suite/deep/c")), not_found, "once");
    open.write_at(0, b"still open").expect("a removed file lives as long as it is open");
    assert!(list("suite/deep").is_empty(), "but has no name");
}

fn bytes(disk: &dyn Disk) {
    let file = disk.open("suite/a").expect("it was made");
    let mut buffer = [0xff; 8];
    assert_eq!(file.read_at(0, &mut buffer).ok(), Some(0), "an empty file has no bytes");
    file.write_at(6, b"world").expect("a write beyond the end grows the file");
    file.write_at(0, b"hello").expect("a write before the end changes bytes");
    assert_eq!(file.size().ok(), Some(11), "the size is the end of the last write");
    let other = disk.open_read("suite/a").expect("a file opens more than once");
    assert_eq!(other.read_at(3, &mut buffer).ok(), Some(8), "reads fill the buffer");
    assert_eq!(&buffer, b"lo\0world", "with what was written, zeros between");
    assert_eq!(other.read_at(9, &mut buffer).ok(), Some(2), "and fewer bytes at the end only");
    assert_eq!(other.read_at(99, &mut buffer).ok(), Some(0), "none beyond it");
    file.write_at(1, b"").expect("nothing to write is fine");
    file.sync().expect("a sync works");
}

fn sizes(disk: &dyn Disk) {
    let file = disk.open("suite/a").expect("it was made");
    file.truncate(7).expect("files are cut");
    file.truncate(9).expect("and never grown by it");
    assert_eq!(file.size().ok(), Some(7), "a cut never grows a file");
    file.preallocate(100_000).expect("files grow by zeros");
    file.preallocate(50).expect("and never shrink by it");
    assert_eq!(file.size().ok(), Some(100_000), "zeros up to the size asked for");
    let mut buffer = vec![0xff; 100_000];
    assert_eq!(file.read_at(0, &mut buffer).ok(), Some(100_000), "all of it is there");
    let (head, zeros) = buffer.split_at(7);
    assert_eq!(head, b"hello\0w", "what was there stays");
    assert!(zeros.iter().all(|byte| *byte == 0), "what was cut does not come back");
    for name in ["a", "b"] {
        disk.remove(&format!("suite/{name}")).expect("files are removed");
    }
}
