//! The blocks of one LUN: a memfd or a raw file, read and written at offsets, shared by all ports.
//!
//! A file is not flushed on SYNCHRONIZE CACHE: the host does not lose power in a test, and an fsync per
//! guest flush would only make runs slower.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

#[derive(Debug)]
pub struct Store {
    file: File,
    size: u64,
}

impl Store {
    /// Sparse, private to this process, gone with it.
    pub fn memory(size: u64) -> io::Result<Store> {
        let fd = rustix::fs::memfd_create("lun", rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(fd);
        file.set_len(size)?;
        Ok(Store { file, size })
    }

    /// An existing raw image, or a new sparse one. `size` None takes the file as it is; a given size
    /// only ever extends the file, so that no run can cut an image.
    pub fn open(path: &Path, size: Option<u64>) -> io::Result<Store> {
        let file = OpenOptions::new().read(true).write(true).create(size.is_some()).truncate(false).open(path)?;
        let have = file.metadata()?.len();
        let size = size.unwrap_or(have);
        if size > have {
            file.set_len(size)?;
        }
        Ok(Store { file, size })
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Grows the backing when needed. A smaller size hides the tail and keeps the bytes, so that a
    /// shrink followed by a grow shows them again, as on an array whose administrator erred.
    pub fn resize(&mut self, size: u64) -> io::Result<()> {
        if size > self.file.metadata()?.len() {
            self.file.set_len(size)?;
        }
        self.size = size;
        Ok(())
    }

    pub fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0u8; len];
        let mut done = 0;
        while done < len {
            match self.file.read_at(&mut buf[done..], at + done as u64)? {
                0 => break, // past the end of a file somebody cut: zeros, as a thin LUN gives
                n => done += n,
            }
        }
        Ok(buf)
    }

    pub fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_reads_back_and_grows() {
        let mut s = Store::memory(4096).unwrap();
        s.write(512, b"hello").unwrap();
        assert_eq!(s.read(512, 5).unwrap(), b"hello");
        s.resize(8192).unwrap();
        assert_eq!(s.size(), 8192);
        assert_eq!(s.read(8000, 4).unwrap(), [0; 4]);
        assert_eq!(s.read(512, 5).unwrap(), b"hello");
    }

    #[test]
    fn shrinking_keeps_the_bytes() {
        let mut s = Store::memory(8192).unwrap();
        s.write(8000, b"tail").unwrap();
        s.resize(4096).unwrap();
        s.resize(8192).unwrap();
        assert_eq!(s.read(8000, 4).unwrap(), b"tail");
    }

    #[test]
    fn a_file_is_taken_as_it_is_and_only_ever_extended() {
        let path = std::env::temp_dir().join(format!("corepath-array-store-{}", std::process::id()));
        std::fs::write(&path, [5; 1024]).unwrap();
        let s = Store::open(&path, None).unwrap();
        assert_eq!((s.size(), s.read(1023, 1).unwrap()), (1024, vec![5]));
        s.write(0, b"root").unwrap();
        let smaller = Store::open(&path, Some(512)).unwrap();
        assert_eq!((smaller.size(), std::fs::metadata(&path).unwrap().len()), (512, 1024));
        Store::open(&path, Some(4096)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4096);
        assert_eq!(&std::fs::read(&path).unwrap()[..4], b"root");
        std::fs::remove_file(&path).unwrap();
        assert!(Store::open(&path, None).is_err(), "a missing image is not invented");
    }
}
