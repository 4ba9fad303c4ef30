//! The label of a data folder: which disk this is, and of which cell. Whoever finds no label here is not looking at the disk.

use super::folder::Folder;
use super::invalid;
use repair_core::id::{CellKey, DiskId};
use repair_core::lineage::Life;
use repair_core::node::StoreError;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

pub(super) const LABEL: &str = "label";
const LABEL_NEW: &str = "label.new";
const LIFE: &str = "life";
const LIFE_NEW: &str = "life.new";
const FORMAT: u32 = 1;
/// A label is some 120 bytes.
const LABEL_BYTES_MAX: u64 = 4096;

/// A label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The disk.
    pub disk: DiskId,
    /// The cell it belongs to; none before its first registration.
    pub cell: Option<CellKey>,
}

/// What is no label of ours.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not a label, or damaged.
    #[error("the label is damaged: {0}")]
    Damaged(String),
    /// Of a later program.
    #[error("the label is of format {0}, this program knows {FORMAT}")]
    Newer(u32),
}

/// As it lies in the file. Ids as text: 128 bits are more than JSON numbers are trusted with.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    ninefold_disk: u32,
    disk: String,
    cell: Option<String>,
    crc: u32,
}

impl Text {
    fn of(label: &Label) -> Self {
        let (disk, cell) = (label.disk.to_string(), label.cell.map(|cell| cell.to_string()));
        let crc = crc32fast::hash(format!("{disk}/{}", cell.as_deref().unwrap_or("")).as_bytes());
        Self { ninefold_disk: FORMAT, disk, cell, crc }
    }
}

/// Only the number that says how to read the rest.
#[derive(Deserialize)]
struct Version {
    ninefold_disk: u32,
}

impl Label {
    /// Whether `new` may be written where `old` is: over nothing, over itself, and over the same disk's that has no cell yet.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub fn check_change(old: Option<Self>, new: Self) -> Result<(), StoreError> {
        match old {
            Some(old) if old.disk != new.disk => Err(invalid("the label is another disk's")),
            Some(old) if old != new && old.cell.is_some() => Err(invalid("the disk is of another cell")),
            _ => Ok(()),
        }
    }

    /// Reads the label of a data folder; `None` where there is none.
    ///
    /// # Errors
    /// [`LabelError`].
    pub(super) fn read(folder: &Folder) -> Result<Option<Self>, LabelError> {
        let file = match folder.open_file(LABEL) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if !file.metadata()?.is_file() {
            return Err(LabelError::Damaged("it is not a file".into()));
        }
        let mut bytes = Vec::new();
        file.take(LABEL_BYTES_MAX).read_to_end(&mut bytes)?;
        Self::parse(&bytes).map(Some)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, LabelError> {
        let damaged = |error: serde_json::Error| LabelError::Damaged(error.to_string());
        let version: Version = serde_json::from_slice(bytes).map_err(damaged)?;
        if version.ninefold_disk != FORMAT {
            return Err(LabelError::Newer(version.ninefold_disk));
        }
        let text: Text = serde_json::from_slice(bytes).map_err(damaged)?;
        let not_an_id = |_| LabelError::Damaged("an id is not 32 lower-case hex digits".into());
        let cell = text.cell.as_deref().map(str::parse).transpose().map_err(not_an_id)?;
        let label = Self { disk: text.disk.parse().map_err(not_an_id)?, cell };
        // One wrong digit would make another disk of it, and all that it holds a stranger's.
        if Text::of(&label).crc != text.crc {
            return Err(LabelError::Damaged("its ids do not have their CRC".into()));
        }
        Ok(label)
    }

    /// The text of the label.
    ///
    /// # Errors
    /// That of the encoder.
    pub(super) fn to_bytes(self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&Text::of(&self))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Writes the label in one step, durably.
    ///
    /// # Errors
    /// That of the system; the label is then the old one or the new one.
    pub(super) fn write(&self, folder: &Folder) -> io::Result<()> {
        write_whole(folder, &self.to_bytes()?, LABEL_NEW, LABEL)
    }
}

/// A disk's life as it lies beside the label, with a CRC: another one would make a copy of the disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LifeText {
    ninefold_life: u64,
    boot: String,
    crc: u32,
}

impl LifeText {
    fn of(life: Life) -> Self {
        let boot = format!("{:016x}", life.boot);
        let crc = crc32fast::hash(format!("{}/{boot}", life.number).as_bytes());
        Self { ninefold_life: life.number, boot, crc }
    }
}

/// Reads the life that lies beside the label; `None` where there is none.
///
/// # Errors
/// [`LabelError`].
pub(super) fn read_life(folder: &Folder) -> Result<Option<Life>, LabelError> {
    let file = match folder.open_file(LIFE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let damaged = |what: String| LabelError::Damaged(format!("{what} (in the file `{LIFE}` beside it)"));
    if !file.metadata()?.is_file() {
        return Err(damaged("it is not a file".into()));
    }
    let mut bytes = Vec::new();
    file.take(LABEL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text: LifeText = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let boot = u64::from_str_radix(&text.boot, 16).map_err(|error| damaged(error.to_string()))?;
    let life = Life { number: text.ninefold_life, boot };
    let again = LifeText::of(life);
    if (again.crc, &again.boot) != (text.crc, &text.boot) {
        return Err(damaged("it does not have its CRC".into()));
    }
    Ok(Some(life))
}

/// Writes the life in one step, durably.
///
/// # Errors
/// That of the system; the life is then the old one or the new one.
pub(super) fn write_life(folder: &Folder, life: Life) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(&LifeText::of(life))?;
    bytes.push(b'\n');
    write_whole(folder, &bytes, LIFE_NEW, LIFE)
}

fn write_whole(folder: &Folder, bytes: &[u8], new: &str, name: &str) -> io::Result<()> {
    match folder.remove(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = folder.new_file(new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    folder.replace(new, name)?;
    folder.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder() -> (tempfile::TempDir, Folder) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        (temporary, folder)
    }

    #[test]
    fn a_label_is_read_back_and_can_be_given_a_cell() {
        let (_temporary, folder) = folder();
        assert!(Label::read(&folder).unwrap().is_none());
        let mut label = Label { disk: DiskId(7), cell: None };
        label.write(&folder).unwrap();
        assert_eq!(Label::read(&folder).unwrap(), Some(label));
        label.cell = Some(CellKey(u128::MAX));
        label.write(&folder).unwrap();
        assert_eq!(Label::read(&folder).unwrap(), Some(label));
        assert_eq!(folder.names().unwrap(), [LABEL]);
    }

    #[test]
    fn a_life_is_read_back_and_none_but_the_one_written() {
        let (temporary, folder) = folder();
        assert_eq!(read_life(&folder).unwrap(), None);
        for number in [1, u64::MAX] {
            let life = Life { number, boot: 0xb007 };
            write_life(&folder, life).unwrap();
            assert_eq!(read_life(&folder).unwrap(), Some(life));
        }
        assert_eq!(folder.names().unwrap(), [LIFE]);
        let path = temporary.path().join(LIFE);
        let good = fs::read_to_string(&path).unwrap();
        for bad in
            ["", "{}", &good.replace("b007", "b008"), &good.replace("00b007", "b007"), &good.replace("615", "614")]
        {
            fs::write(&path, bad).unwrap();
            assert!(matches!(read_life(&folder), Err(LabelError::Damaged(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_no_label_is_not_taken_for_one() {
        let (temporary, folder) = folder();
        let path = temporary.path().join(LABEL);
        let crc = crc32fast::hash(format!("{:032x}/", 5).as_bytes());
        let good = format!("{{\"ninefold_disk\":1,\"disk\":\"{:032x}\",\"cell\":null,\"crc\":{crc}}}", 5);
        fs::write(&path, &good).unwrap();
        assert_eq!(Label::read(&folder).unwrap().map(|label| label.disk), Some(DiskId(5)));
        for bad in [
            "",
            "{}",
            &good[..good.len() - 2],
            &good.replace("null", "\"1\""),
            &good.replace("disk\":\"0", "disk\":\"+"),
            &good.replace("disk\":\"0", "disk\":\"1"),
            &good.replace("null", &format!("\"{:032x}\"", 1)),
            &good.replace(&format!(",\"crc\":{crc}"), ""),
        ] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(Label::read(&folder), Err(LabelError::Damaged(_))), "{bad}");
        }
        fs::write(&path, "{\"ninefold_disk\":2,\"more\":1}").unwrap();
        assert!(matches!(Label::read(&folder), Err(LabelError::Newer(2))));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(Label::read(&folder), Err(LabelError::Io(_))));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(Label::read(&folder), Err(LabelError::Damaged(_))));
    }
}
