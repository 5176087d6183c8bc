//! A directory by its descriptor: nothing outside is reached through it, whatever the names in it mean.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, mkdir, unlinkat};

use crate::error::{DriverError, DriverErrorKind};

/// What every descriptor is opened with: no other program gets it, no link is followed, no pipe waited for.
const ALWAYS: OFlag = OFlag::O_CLOEXEC.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK);
const DIRECTORY: OFlag = ALWAYS.union(OFlag::O_DIRECTORY).union(OFlag::O_RDONLY);

/// A directory that nobody else can write to.
#[derive(Debug)]
pub(super) struct Folder {
    fd: File,
    path: PathBuf,
}

impl Folder {
    /// Opens the directory at this path; creates it, but not what it stands in.
    ///
    /// # Errors
    /// `Refused` if the path is not absolute or means no directory, or one that others own or can write to. `Unavailable` if
    /// the system does not open or create it.
    pub(super) fn open(path: &Path) -> Result<Self, DriverError> {
        let is_up = |part: Component<'_>| part == Component::ParentDir;
        if !path.is_absolute() || path.components().any(is_up) {
            let path = path.display();
            return Err(refused(format!("{path} is not an absolute path without `..`")));
        }
        // Without a slash at its end, or a link there would be followed.
        let path: PathBuf = path.components().collect();
        let fd = match open(&path, DIRECTORY, Mode::empty()) {
            Err(Errno::ENOENT) => {
                let made = mkdir(&path, Mode::S_IRWXU);
                made_by_anybody(made).map_err(|error| not_made(&path, error))?;
                open(&path, DIRECTORY, Mode::empty())
            }
            opened => opened,
        };
        Self::checked(fd, path)
    }

    /// Opens the directory of this name in this one; creates it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn below(&self, name: &str) -> Result<Self, DriverError> {
        let path = self.path.join(name);
        let fd = match openat(&self.fd, name, DIRECTORY, Mode::empty()) {
            Err(Errno::ENOENT) => {
                let made = mkdirat(&self.fd, name, Mode::S_IRWXU);
                made_by_anybody(made).map_err(|error| failed("create", &path, error))?;
                openat(&self.fd, name, DIRECTORY, Mode::empty())
            }
            opened => opened,
        };
        Self::checked(fd, path)
    }

    fn checked(fd: nix::Result<OwnedFd>, path: PathBuf) -> Result<Self, DriverError> {
        let fd = match fd {
            Ok(fd) => File::from(fd),
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                let what = "is no directory, or a link to one, which is not followed";
                return Err(refused(format!("{} {what}", path.display())));
            }
            Err(error) => return Err(failed("open", &path, error)),
        };
        let metadata = fd.metadata().map_err(|error| failed("open", &path, error))?;
        let (owner, own) = (metadata.uid(), geteuid().as_raw());
        if owner != own {
            let path = path.display();
            return Err(refused(format!("{path} belongs to user {owner}, we are user {own}")));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            let path = path.display();
            let remedy = format!("chmod go-w {path}");
            return Err(refused(format!("others can write to {path} (mode {mode:o}): {remedy}")));
        }
        Ok(Self { fd, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fd(&self) -> &File {
        &self.fd
    }

    /// Opens a file to read; `None` if there is none.
    pub(super) fn look_up(&self, name: &str) -> Result<Option<File>, DriverError> {
        match openat(&self.fd, name, ALWAYS | OFlag::O_RDONLY, Mode::empty()) {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.failed("open", name, error)),
        }
    }

    /// Opens a file to read and write, and creates it if there is none.
    pub(super) fn open_or_create(&self, name: &str) -> Result<File, DriverError> {
        self.create(name, OFlag::O_RDWR)
    }

    /// Opens a file to write that nobody else has open: not one that was left under the name, but a new one.
    pub(super) fn create_anew(&self, name: &str) -> Result<File, DriverError> {
        let flags = OFlag::O_WRONLY | OFlag::O_EXCL;
        match self.create(name, flags) {
            Err(_) if self.stat(name)?.is_some() => {
                self.remove(name)?;
                self.create(name, flags)
            }
            created => created,
        }
    }

    fn create(&self, name: &str, flags: OFlag) -> Result<File, DriverError> {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let fd = openat(&self.fd, name, ALWAYS | OFlag::O_CREAT | flags, mode);
        fd.map(File::from).map_err(|error| self.failed("create", name, error))
    }

    /// The whole of a file; `None` if there is none.
    ///
    /// # Errors
    /// `Refused` if it is no ordinary file, or has more than `bytes_max`. `Unavailable` if it cannot be read.
    pub(super) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, DriverError> {
        let Some(file) = self.look_up(name)? else { return Ok(None) };
        self.read_open(&file, name, bytes_max).map(Some)
    }

    /// The whole of this file, which was opened under this name.
    pub(super) fn read_open(
        &self,
        mut file: &File,
        name: &str,
        bytes_max: u64,
    ) -> Result<Vec<u8>, DriverError> {
        let failed = |error| self.failed("read", name, error);
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() || metadata.len() > bytes_max {
            let path = self.path.join(name);
            return Err(refused(format!("{} is nothing that we wrote", path.display())));
        }
        let mut bytes = vec![0; metadata.len() as usize];
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// Writes a file anew under another name, then gives it its own: whoever reads finds the old content or the new.
    /// `before` is done to it before it has its name.
    pub(super) fn replace(
        &self,
        draft: &str,
        name: &str,
        content: &[u8],
        before: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), DriverError> {
        let mut file = self.create_anew(draft)?;
        let written = file.write_all(content).and_then(|()| before(&file));
        let written = written.map_err(|error| self.failed("write", name, error));
        let replaced = written.and_then(|()| self.exchange(draft, name));
        // What is there now is the old content, or useless. If it stays, it is in nobody's way.
        let _ = self.remove(draft);
        replaced
    }

    /// Gives `to` to what is called `from`, which has another name or none afterwards.
    fn exchange(&self, from: &str, to: &str) -> Result<(), DriverError> {
        // Some file systems write a file to the disk at once when another is renamed to it, lest a loss of power leave an empty
        // one. That takes them ten times as long as all the rest, and those who want it asked for it.
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            use nix::fcntl::{RenameFlags, renameat2};
            match renameat2(&self.fd, from, &self.fd, to, RenameFlags::RENAME_EXCHANGE) {
                Ok(()) => return Ok(()),
                // There is nothing to exchange it with, or the file system cannot.
                Err(Errno::ENOENT | Errno::EINVAL | Errno::ENOSYS) => {}
                Err(error) => return Err(self.failed("replace", to, error)),
            }
        }
        self.rename(from, to)
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), DriverError> {
        let renamed = renameat(&self.fd, from, &self.fd, to);
        renamed.map_err(|error| self.failed("replace", to, error))
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), DriverError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", name, error)),
        }
    }

    /// What lies under this name, if anything.
    pub(super) fn stat(&self, name: &str) -> Result<Option<FileStat>, DriverError> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.failed("look at", name, error)),
        }
    }

    /// The names of all that lies here.
    pub(super) fn names(&self) -> Result<Vec<String>, DriverError> {
        let failed = |error: Errno| failed("list", &self.path, error);
        // Anew, since two that read from one descriptor would each miss what the other read.
        let mut entries = Dir::openat(&self.fd, ".", DIRECTORY, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in entries.iter() {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Has what was created, renamed and removed here survive a loss of power.
    pub(super) fn sync(&self) -> Result<(), DriverError> {
        self.fd.sync_all().map_err(|error| failed("sync", &self.path, error))
    }

    pub(super) fn failed(
        &self,
        verb: &str,
        name: &str,
        error: impl Into<io::Error>,
    ) -> DriverError {
        failed(verb, &self.path.join(name), error)
    }
}

fn made_by_anybody(made: nix::Result<()>) -> nix::Result<()> {
    if made == Err(Errno::EEXIST) { Ok(()) } else { made }
}

/// A directory is made, what it stands in is not: it may be that of a file system not mounted yet.
fn not_made(path: &Path, error: Errno) -> DriverError {
    let Some(parent) = path.parent().filter(|_| error == Errno::ENOENT) else {
        return failed("create", path, error);
    };
    let (path, parent) = (path.display(), parent.display());
    let what = format!("cannot create {path}: {parent} is not there (mkdir -p {parent})");
    DriverError::new(DriverErrorKind::Unavailable, what)
}

pub(super) fn failed(verb: &str, path: &Path, error: impl Into<io::Error>) -> DriverError {
    let what = format!("cannot {verb} {}: {}", path.display(), error.into());
    DriverError::new(DriverErrorKind::Unavailable, what)
}

pub(super) fn refused(what: String) -> DriverError {
    DriverError::new(DriverErrorKind::Refused, what)
}
