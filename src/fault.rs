//! What can go wrong, as small values. The sentence is made at the edge (apps); nothing here formats.

/// A kernel error number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Errno(pub u16);

impl Errno {
    pub const PERM: Errno = Errno(1);
    pub const NOENT: Errno = Errno(2);
    pub const INTR: Errno = Errno(4);
    pub const IO: Errno = Errno(5);
    pub const NXIO: Errno = Errno(6);
    pub const AGAIN: Errno = Errno(11);
    pub const NOMEM: Errno = Errno(12);
    pub const ACCES: Errno = Errno(13);
    pub const BUSY: Errno = Errno(16);
    pub const EXIST: Errno = Errno(17);
    pub const NODEV: Errno = Errno(19);
    pub const NOTDIR: Errno = Errno(20);
    pub const ISDIR: Errno = Errno(21);
    pub const INVAL: Errno = Errno(22);
    pub const NOTTY: Errno = Errno(25);
    pub const NOSPC: Errno = Errno(28);
    pub const ROFS: Errno = Errno(30);
    pub const RANGE: Errno = Errno(34);
    pub const NAMETOOLONG: Errno = Errno(36);
    pub const NODATA: Errno = Errno(61);
    pub const OVERFLOW: Errno = Errno(75);
    pub const NOBUFS: Errno = Errno(105);
    pub const TIMEDOUT: Errno = Errno(110);

    /// The symbolic name for messages; `None` for numbers we have no word for (print the number).
    pub const fn word(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "EPERM",
            2 => "ENOENT",
            4 => "EINTR",
            5 => "EIO",
            6 => "ENXIO",
            11 => "EAGAIN",
            12 => "ENOMEM",
            13 => "EACCES",
            15 => "ENOTBLK",
            16 => "EBUSY",
            17 => "EEXIST",
            19 => "ENODEV",
            20 => "ENOTDIR",
            21 => "EISDIR",
            22 => "EINVAL",
            25 => "ENOTTY",
            28 => "ENOSPC",
            30 => "EROFS",
            34 => "ERANGE",
            36 => "ENAMETOOLONG",
            61 => "ENODATA",
            75 => "EOVERFLOW",
            105 => "ENOBUFS",
            110 => "ETIMEDOUT",
            _ => return None,
        })
    }
}

/// Malformed bytes or text. Malformed is malformed: where it matters, the caller knows the place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Malformed;

/// A bounded container had no room. What runs keeps running; the newcomer is refused, counted and named by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Full;
