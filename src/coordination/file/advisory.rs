//! Locks that belong to an open file description: the kernel frees them when its last descriptor is closed, at the latest when
//! the last process that has it is dead.
//!
//! Not those of POSIX, which vanish when any descriptor of the file is closed, and which two parts of a process share.

pub(super) use self::imp::{LOCKS, is_locked, try_lock, unlock};

/// What is locked of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    Byte(usize),
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod imp {
    use std::fs::File;

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    use super::Extent;

    /// Locks that one file has room for.
    pub(in super::super) const LOCKS: usize = 18;

    /// Locks it exclusively, for whoever shares its description; false if others have.
    pub(in super::super) fn try_lock(file: &File, extent: Extent) -> nix::Result<bool> {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&flock(libc::F_WRLCK, extent))) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(in super::super) fn unlock(file: &File, extent: Extent) -> nix::Result<()> {
        fcntl(file, FcntlArg::F_OFD_SETLK(&flock(libc::F_UNLCK, extent))).map(drop)
    }

    /// Tells whether another description than this one has locked the whole file.
    pub(in super::super) fn is_locked(file: &File) -> nix::Result<bool> {
        let mut lock = flock(libc::F_WRLCK, Extent::Whole);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }

    fn flock(kind: libc::c_int, extent: Extent) -> libc::flock {
        let (start, length) = match extent {
            Extent::Whole => (0, 0),
            Extent::Byte(at) => (at as libc::off_t, 1),
        };
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: start,
            l_len: length,
            l_pid: 0,
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod imp {
    use std::fs::{File, TryLockError};

    use nix::errno::Errno;

    use super::Extent;

    /// A file is locked as a whole, so there is one.
    pub(in super::super) const LOCKS: usize = 1;

    pub(in super::super) fn try_lock(file: &File, _: Extent) -> nix::Result<bool> {
        had(file.try_lock())
    }

    pub(in super::super) fn unlock(file: &File, _: Extent) -> nix::Result<()> {
        file.unlock().map_err(|error| errno(&error))
    }

    pub(in super::super) fn is_locked(file: &File) -> nix::Result<bool> {
        // Shared, so that two who ask at a time do not take each other for the holder.
        let free = had(file.try_lock_shared())?;
        if free {
            unlock(file, Extent::Whole)?;
        }
        Ok(!free)
    }

    fn had(locked: Result<(), TryLockError>) -> nix::Result<bool> {
        match locked {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(errno(&error)),
        }
    }

    fn errno(error: &std::io::Error) -> Errno {
        error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
    }
}
