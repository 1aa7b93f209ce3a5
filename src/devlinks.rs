//! Links under /dev/disk where no udev makes them: a directory, a relative link to the map's node, and back.
//!
//! A link that leads elsewhere is replaced (a map's partition comes before a path's), and taken away only if it leads to the device that
//! goes. Which links there are is wire::links'; whether they are wanted is the caller's.
//!
//! System calls: mkdirat, symlinkat, readlinkat, unlinkat. Before the seal only: they make and remove names.

use crate::fault::Errno;
use crate::files;
use crate::model::{DevNo, Text};
use crate::wire::links::{self, LINK_LEN, Place, Subject};
use core::fmt::Write;
use rustix::fd::{AsFd, BorrowedFd};

/// A path below /dev.
type Path = Text<{ LINK_LEN + 24 }>;

fn target(devno: DevNo) -> Text<24> {
    let mut target = Text::new();
    let _ = write!(target.as_mut_view(), "../../dm-{}", devno.minor);
    target
}

fn path(place: Place, name: &str) -> Result<Path, Errno> {
    let mut path = Path::new();
    if name.contains('/') {
        return Err(Errno::INVAL);
    }
    write!(path.as_mut_view(), "{}/{name}", place.dir()).map_err(|_| Errno::NAMETOOLONG)?;
    Ok(path)
}

/// Does the link lead there?
fn leads(dev: BorrowedFd<'_>, path: &str, target: &str) -> bool {
    let mut room = [0; 64];
    files::read_link(dev, path, &mut room).is_ok_and(|there| there == target.as_bytes())
}

/// Makes all links of `subject`, the device `devno`; gives how many there are, and the first error.
pub fn make(dev: BorrowedFd<'_>, subject: &Subject<'_>, devno: DevNo) -> (u32, Result<(), Errno>) {
    let target = target(devno);
    let (mut made, mut result) = (0, Ok(()));
    links::each(subject, &mut |place, name| match path(place, name).and_then(|path| one(dev, place, &path, &target)) {
        Ok(()) => made += 1,
        Err(error) => result = result.and(Err(error)),
    });
    (made, result)
}

fn one(dev: BorrowedFd<'_>, place: Place, path: &str, target: &str) -> Result<(), Errno> {
    if leads(dev, path, target) {
        return Ok(());
    }
    for dir in ["disk", place.dir()] {
        files::make_dir(dev, dir)?;
    }
    match files::symlink(target, dev, path) {
        Err(Errno::EXIST) => {
            files::unlink(dev, path)?;
            files::symlink(target, dev, path)
        }
        other => other,
    }
}

/// Takes away every link under /dev/disk that leads to the device: what its labels were when they were made need not be known.
pub fn clear(dev: BorrowedFd<'_>, devno: DevNo) {
    let target = target(devno);
    for place in [Place::Id, Place::PartUuid, Place::PartLabel, Place::Uuid, Place::Label] {
        let Ok(dir) = files::open_dir_at(dev, place.dir()) else { continue };
        // Names may be passed over when one is removed while they are listed: until none is found.
        loop {
            let mut gone = false;
            let _ = files::names(&dir, &mut |name| {
                if leads(dir.as_fd(), name, &target) {
                    gone |= files::unlink(dir.as_fd(), name).is_ok();
                }
                true
            });
            if !gone {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    #[test]
    fn made_replaced_and_cleared() {
        let root = std::env::temp_dir().join(std::format!("corepath-devlinks-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir(&root).unwrap();
        let dev = files::open_dir(root.to_str().unwrap()).unwrap();
        let subject = Subject { name: "a\\x20b", uuid: "mpath-3600", wwid: "36001405aabbccdd0", partition: None, ids: None };
        assert_eq!(make(dev.as_fd(), &subject, DevNo::new(253, 3)), (3, Ok(())));
        let at = |name: &str| {
            std::fs::read_link(root.join("disk/by-id").join(name)).ok().map(|to| std::string::String::from(to.to_str().unwrap()))
        };
        assert_eq!(at("dm-name-a\\x20b").as_deref(), Some("../../dm-3"));
        // Somebody else's link by the same name goes; one that leads elsewhere stays when the device goes.
        std::fs::remove_file(root.join("disk/by-id/wwn-0x6001405aabbccdd0")).unwrap();
        std::os::unix::fs::symlink("../../sda", root.join("disk/by-id/wwn-0x6001405aabbccdd0")).unwrap();
        std::os::unix::fs::symlink("../../sdb", root.join("disk/by-id/scsi-x")).unwrap();
        assert_eq!(make(dev.as_fd(), &subject, DevNo::new(253, 3)), (3, Ok(())));
        assert_eq!(at("wwn-0x6001405aabbccdd0").as_deref(), Some("../../dm-3"));
        clear(dev.as_fd(), DevNo::new(253, 3));
        assert_eq!(std::fs::read_dir(root.join("disk/by-id")).unwrap().count(), 1);
        assert_eq!(at("scsi-x").as_deref(), Some("../../sdb"));
        std::fs::remove_dir_all(root).unwrap();
    }
}
