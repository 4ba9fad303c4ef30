//! Puts strays in their places and what has no place into quarantine. Nothing is deleted here, and at every moment every good
//! fragment lies under some name that [`scan`](super::scan::scan) looks at.

use super::FilesError;
use super::error::shown;
use super::scan::{Extra, Scan};
use super::staged::{Replace, folder_of, rename, sync_folder};
use ec_core::fragment::Class;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Subfolder for what was found and does not belong. Its content is for people; no command reads it.
pub const QUARANTINE: &str = "quarantine";

/// What was moved.
#[derive(Debug, Default)]
pub struct Tidied {
    /// Fragments put in their places, by their new paths.
    pub in_place: Vec<PathBuf>,
    /// What went to quarantine, by the paths it had.
    pub set_aside: Vec<Extra>,
}

/// Renames every good fragment that lies under a wrong name.
///
/// Two rounds, so that two fragments under each other's names both find their place free.
pub fn relocate(scan: &mut Scan) -> Result<Tidied, FilesError> {
    let mut moves = Vec::new();
    for view in scan.extents.values_mut() {
        let Some(on_file) = &view.on_file else { continue };
        for (slot, entry) in view.slots.iter_mut().zip(&on_file.record.fragments) {
            let Some(current) = slot.usable.clone() else { continue };
            let proper = folder_of(&current).join(entry.identity.file_name());
            if current != proper {
                let mut waiting = with_suffix(&proper, ".moving");
                // A relocation that was killed has already come this far.
                while current != waiting {
                    match rename(&current, &waiting, Replace::Never) {
                        Ok(()) => break,
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                            waiting = with_suffix(&waiting, ".moving");
                        }
                        Err(error) => return Err(FilesError::io(&current, "rename")(error)),
                    }
                }
                slot.usable = Some(waiting.clone());
                moves.push((waiting, proper, slot));
            }
        }
    }
    let mut folders = BTreeSet::new();
    let mut tidied = Tidied::default();
    for (waiting, proper, slot) in moves {
        // What lies there is not this fragment, or it would have been taken for it.
        tidied.set_aside.extend(quarantine_if_there(&proper, slot.class)?);
        rename(&waiting, &proper, Replace::Never).map_err(FilesError::io(&waiting, "rename"))?;
        folders.insert(folder_of(&proper).to_path_buf());
        (slot.class, slot.path, slot.usable) = (Class::Healthy, proper.clone(), Some(proper.clone()));
        slot.reason.clear();
        tidied.in_place.push(proper);
    }
    folders.iter().try_for_each(|folder| sync_folder(folder))?;
    Ok(tidied)
}

/// Moves what fills no place out of the way.
pub fn quarantine_extras(extras: &[Extra]) -> Result<(), FilesError> {
    extras.iter().try_for_each(|extra| quarantine_if_there(&extra.path, extra.class).map(|_| ()))
}

/// Moves whatever has this name into the quarantine beside it, under a name that says why. `None` where there is nothing.
pub fn quarantine_if_there(path: &Path, class: Class) -> Result<Option<Extra>, FilesError> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let folder = folder_of(path);
    let quarantine = folder.join(QUARANTINE);
    make_quarantine(&quarantine)?;
    let target = with_suffix(&quarantine.join(short_name(path)), &format!(".{class}"));
    let mut free = target.clone();
    for attempt in 1u32.. {
        match rename(path, &free, Replace::Never) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                free = with_suffix(&target, &format!(".{attempt}"))
            }
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FilesError::io(path, "move into quarantine")(error)),
            Ok(()) => break,
        }
    }
    sync_folder(&quarantine)?;
    sync_folder(folder)?;
    let reason =
        format!("lay at the name of another fragment, or was that fragment and not good; now {}", shown(&free));
    Ok(Some(Extra { path: path.to_path_buf(), extent: None, index: None, class, reason }))
}

/// Makes the folder if it is not there.
fn make_quarantine(quarantine: &Path) -> Result<(), FilesError> {
    match fs::create_dir(quarantine) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_quarantine(quarantine),
        made => made.map_err(FilesError::io(quarantine, "create")),
    }
}

/// Refuses what has the quarantine's name and is no folder, or would lead elsewhere. Asked before anything is moved.
///
/// # Errors
/// [`FilesError::Usage`].
pub fn check_quarantine(quarantine: &Path) -> Result<(), FilesError> {
    match fs::symlink_metadata(quarantine) {
        Ok(metadata) if !metadata.is_dir() => {
            Err(FilesError::Usage(format!("{}: is not a folder; move it away first", shown(quarantine))))
        }
        _ => Ok(()),
    }
}

/// The name of the file, short enough that a suffix still fits.
fn short_name(path: &Path) -> OsString {
    const ROOM_FOR_SUFFIX: usize = 40;
    const NAME_BYTES_MAX: usize = 255;
    let name = path.file_name().unwrap_or_default();
    if name.len() + ROOM_FOR_SUFFIX <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    // Cut names could be the same; their hashes are not.
    let hash = blake3::hash(name.as_bytes()).to_hex();
    OsString::from(format!("long-name-{}", &hash[..32]))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
