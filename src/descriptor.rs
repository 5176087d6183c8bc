//! Descriptors that become readable when a request is decided.
//!
//! Each is one end of a pair of sockets. When the other end is shut down, this one is readable and hung up, for whatever looks at
//! it and for as long as it is open; nothing is written, so nothing can be full or be read away.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

/// Becomes readable when a request is decided; see [`Pending::descriptor`](crate::Pending::descriptor).
///
/// # Examples
/// ```
/// use std::io::Read;
/// use std::os::fd::AsFd;
/// use tierlock::{Owner, SharedLock};
///
/// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
/// let pending = lock.exclusive(&owner).enqueue();
/// let descriptor = pending.descriptor()?;
/// let mut stream = std::os::unix::net::UnixStream::from(descriptor.as_fd().try_clone_to_owned()?);
/// assert_eq!(stream.read(&mut [0])?, 0, "nothing but the end");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Descriptor {
    own: UnixStream,
    /// Goes with this one, so that dropping a descriptor leaves none behind at the request.
    peer: Arc<UnixStream>,
}

impl Descriptor {
    pub(crate) fn new() -> io::Result<Self> {
        let (own, peer) = UnixStream::pair()?;
        own.set_nonblocking(true)?;
        Ok(Self { own, peer: Arc::new(peer) })
    }

    /// Makes it readable, now.
    pub(crate) fn close(&self) {
        close(&self.peer);
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.own.as_raw_fd()
    }
}

/// The other ends of the descriptors of one request.
#[derive(Debug, Default)]
pub(crate) struct Ends(Vec<Weak<UnixStream>>);

impl Ends {
    /// Adds one, and forgets those that were dropped.
    pub(crate) fn add(&mut self, descriptor: &Descriptor) {
        self.0.retain(|end| end.strong_count() > 0);
        self.0.push(Arc::downgrade(&descriptor.peer));
    }

    pub(crate) fn close(&mut self) {
        self.0.drain(..).filter_map(|end| end.upgrade()).for_each(|end| close(&end));
    }
}

fn close(end: &UnixStream) {
    // It fails only if it is shut down already.
    let _ = end.shutdown(Shutdown::Both);
}
