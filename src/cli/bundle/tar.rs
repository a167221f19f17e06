//! Files packed into one, as POSIX.1-1988 (ustar) has it: headers of 512 bytes, contents filled up to 512. Sans-IO.

/// Everything is padded to this.
const BLOCK: usize = 512;
/// A name has no more bytes.
const NAME: usize = 100;

/// An archive in the making.
pub(super) struct Archive {
    bytes: Vec<u8>,
    /// Seconds since 1970, of all files in it.
    made: u64,
}

impl Archive {
    pub(super) fn new(made: u64) -> Self {
        Self { bytes: Vec::new(), made }
    }

    /// Adds a file. Names are ours, and short.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        self.bytes.extend_from_slice(&header(name, content.len(), self.made));
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// All of it: two empty blocks are the end.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 2 * BLOCK]);
        self.bytes
    }

    fn pad(&mut self) {
        let filled = self.bytes.len().next_multiple_of(BLOCK);
        self.bytes.resize(filled, 0);
    }
}

/// A plain file that its owner may read and write.
fn header(name: &str, length: usize, made: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| {
        if let Some(field) = header.get_mut(at..at + text.len()) {
            field.copy_from_slice(text);
        }
    };
    put(0, name.as_bytes().get(..name.len().min(NAME)).unwrap_or_default());
    put(100, b"0000600\0");
    // Owner and group: root, by whoever unpacks it.
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{length:011o}\0").as_bytes());
    put(136, format!("{made:011o}\0").as_bytes());
    // The sum is made with blanks in its own place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    if let Some(field) = header.get_mut(148..156) {
        field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, process::Command};

    #[test]
    fn tar_unpacks_what_was_packed() {
        let dir = tempfile::tempdir().unwrap();
        let contents: Vec<(String, Vec<u8>)> =
            [0, 1, 511, 512, 513, 100_000].map(|n| (format!("b/{n}.txt"), vec![b'x'; n])).into();
        let mut archive = Archive::new(1_700_000_000);
        contents.iter().for_each(|(name, content)| archive.add(name, content));
        fs::write(dir.path().join("a.tar"), archive.finish()).unwrap();
        let tar = Command::new("tar").current_dir(&dir).args(["-xf", "a.tar"]).output().unwrap();
        assert!(tar.status.success() && tar.stderr.is_empty(), "{tar:?}");
        for (name, content) in contents {
            assert_eq!(fs::read(dir.path().join(name)).unwrap(), content);
        }
    }
}
