//! The tiles of a log, written as its leaves come: <https://c2sp.org/tlog-tiles>.
//!
//! A tile of level L holds 256 hashes of subtrees of 256^L leaves; the last of a level may be partial, and is named so.

use super::super::Refusal;
use super::cannot_write;
use block_chain_common::hash::Root;
use block_chain_common::history::Frontier;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Hashes, or entries, of a whole tile.
const WIDTH: usize = 256;
/// Levels of the tree in a tile.
const HEIGHT: u8 = 8;

/// Writes a log's tiles.
pub(super) struct TileWriter {
    folder: PathBuf,
    frontier: Frontier,
    size: u64,
    entries: Tile,
    /// By level.
    levels: Vec<Tile>,
}

/// A tile that is not full yet.
#[derive(Default)]
struct Tile {
    bytes: Vec<u8>,
    count: usize,
    number: u64,
}

impl TileWriter {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.join("tile"),
            frontier: Frontier::default(),
            size: 0,
            entries: Tile::default(),
            levels: Vec::new(),
        }
    }

    /// Leaves so far.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next leaf, of at most 65,535 bytes.
    pub(super) fn add(&mut self, leaf: &[u8]) -> anyhow::Result<()> {
        let length = u16::try_from(leaf.len());
        let length = length.map_err(|error| Refusal::failed(format!("a header's length: {error}"), None))?;
        self.entries.bytes.extend_from_slice(&length.to_be_bytes());
        self.entries.bytes.extend_from_slice(leaf);
        self.entries.grow(&self.folder.join("entries"))?;
        for (place, hash) in self.frontier.append(leaf) {
            if place.level % HEIGHT != 0 {
                continue;
            }
            let level = usize::from(place.level / HEIGHT);
            if self.levels.len() <= level {
                self.levels.resize_with(level + 1, Tile::default);
            }
            if let Some(tile) = self.levels.get_mut(level) {
                tile.bytes.extend_from_slice(&hash);
                tile.grow(&self.folder.join(level.to_string()))?;
            }
        }
        self.size += 1;
        Ok(())
    }

    /// Writes the tiles that are not full; the tree's root.
    pub(super) fn finish(self) -> anyhow::Result<Root> {
        self.entries.end(&self.folder.join("entries"))?;
        for (level, tile) in self.levels.iter().enumerate() {
            tile.end(&self.folder.join(level.to_string()))?;
        }
        Ok(self.frontier.root())
    }
}

impl Tile {
    fn grow(&mut self, folder: &Path) -> anyhow::Result<()> {
        self.count += 1;
        if self.count < WIDTH {
            return Ok(());
        }
        write(&folder.join(path(self.number)), &self.bytes)?;
        *self = Self {
            number: self.number + 1,
            ..Self::default()
        };
        Ok(())
    }

    fn end(&self, folder: &Path) -> anyhow::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let whole = path(self.number);
        write(
            &folder.join(format!("{whole}.p")).join(self.count.to_string()),
            &self.bytes,
        )
    }
}

/// A number in groups of three digits, all but the last with an `x` before: 1234067 is `x001/x234/067`.
fn path(number: u64) -> String {
    let (mut rest, mut path) = (number / 1_000, format!("{:03}", number % 1_000));
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1_000);
        rest /= 1_000;
    }
    path
}

/// The first entry of a bundle, where it is whole.
pub(super) fn entry(bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk::<2>()?));
    bytes.get(2..2 + length)
}

/// Writes a file wholly or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = |error: &std::io::Error| cannot_write(path, error);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|error| failed(&error))?;
    file.write_all(bytes).map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_paths_as_the_specification_has_them() {
        let table = [
            (0, "000"),
            (7, "007"),
            (999, "999"),
            (1_000, "x001/000"),
            (1_234_067, "x001/x234/067"),
        ];
        for (number, expected) in table {
            assert_eq!(path(number), expected);
        }
    }

    #[test]
    fn tiles_fill_up_level_by_level() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = TileWriter::new(folder.path());
        for leaf in 0..70_000_u32 {
            writer.add(&leaf.to_be_bytes()).unwrap();
        }
        writer.finish().unwrap();
        let length =
            |name: &str| fs::metadata(folder.path().join("tile").join(name)).map(|found| found.len());
        // 70,000 = 273 × 256 + 112, and 273 = 256 + 17.
        assert_eq!(length("0/000").unwrap(), 256 * 32);
        assert_eq!(length("0/272").unwrap(), 256 * 32);
        assert_eq!(length("0/273.p/112").unwrap(), 112 * 32);
        assert_eq!(length("1/000").unwrap(), 256 * 32);
        assert_eq!(length("1/001.p/17").unwrap(), 17 * 32);
        assert_eq!(length("2/000.p/1").unwrap(), 32);
        assert_eq!(length("entries/000").unwrap(), 256 * 6);
        assert_eq!(length("entries/273.p/112").unwrap(), 112 * 6);
        assert!(length("0/274").is_err() && length("3/000.p/0").is_err());
    }

    /// A folder, read as others read it: their paths have the tiles' height in front.
    struct Folder<'a>(&'a Path);

    impl tlog_tiles::tile::TileReader for Folder<'_> {
        fn height(&self) -> u8 {
            HEIGHT
        }

        fn read_tiles(
            &self,
            tiles: &[tlog_tiles::tile::Tile],
        ) -> Result<Vec<Vec<u8>>, tlog_tiles::tlog::Error> {
            let read = tiles.iter().map(|tile| {
                let path = tile.path().replacen("tile/8/", "tile/", 1);
                Ok(fs::read(self.0.join(path)).unwrap())
            });
            read.collect()
        }

        fn save_tiles(&self, _: &[tlog_tiles::tile::Tile], _: &[Vec<u8>]) {}
    }

    #[test]
    fn an_implementation_that_is_not_ours_proves_leaves_by_our_tiles() {
        use tlog_tiles::tile::TileHashReader;
        use tlog_tiles::tlog::{Hash, check_record, prove_record, record_hash, tree_hash};
        for size in [1_u64, 255, 256, 257, 1_000, 65_536, 66_000] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = TileWriter::new(folder.path());
            for leaf in 0..size {
                writer.add(&leaf.to_be_bytes()).unwrap();
            }
            let root = Hash(*writer.finish().unwrap().as_bytes());
            let tiles = Folder(folder.path());
            // It checks every tile against the root as it reads it.
            let reader = TileHashReader::new(size, root, &tiles);
            assert_eq!(tree_hash(size, &reader).unwrap().0, root.0, "{size}");
            for leaf in [0, size / 2, size - 1] {
                let proof = prove_record(size, leaf, &reader).unwrap();
                let hash = record_hash(&leaf.to_be_bytes());
                check_record(&proof, size, root, leaf, hash).unwrap();
            }
        }
    }

    #[test]
    fn an_entry_that_is_cut_is_waited_for() {
        assert_eq!(entry(&[0, 2, 7, 8, 9]), Some([7, 8].as_slice()));
        assert_eq!(entry(&[0, 0, 9]), Some([].as_slice()));
        for cut in [&[][..], &[0], &[0, 1], &[0, 3, 1, 2]] {
            assert_eq!(entry(cut), None);
        }
    }
}
