//! A loop over epoll or kqueue, by mio, that runs many jobs at once in one thread: each waits for its locks by a descriptor, and
//! keeps its session while it waits and while it works.
//!
//! `cargo run --example event_loop`, on Unix. Most jobs take a host with others, then a disk of it alone. A reboot takes a host
//! alone; one of them has a deadline, which passes.

#[cfg(not(unix))]
fn main() {
    println!("this example needs Unix: elsewhere there are no descriptors to wait for");
}

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    unix::main()
}

#[cfg(unix)]
mod unix {
    use std::collections::{HashMap, VecDeque};
    use std::error::Error;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use tierlock::{
        Acquire, AcquireOwned, Descriptor, Level, LevelId, LockManager, Pending, Session,
    };

    const JOBS: usize = 100;
    const HOSTS: usize = 4;
    const DISKS: usize = 4;
    const WORK: Duration = Duration::from_millis(3);
    const PATIENCE: Duration = Duration::from_millis(20);

    struct Engine {
        host: LevelId,
        disk: LevelId,
        poll: Poll,
        /// Jobs that wait, by number.
        waiting: HashMap<usize, (Pending<AcquireOwned>, Descriptor)>,
        /// Jobs at work, and until when: the first to begin is the first to end.
        working: VecDeque<(Instant, Session)>,
        queued: usize,
        done: usize,
    }

    impl Engine {
        /// Begins a job: takes its host.
        fn begin(&mut self, number: usize, manager: &LockManager) -> io::Result<()> {
            let host = format!("host{}", number % HOSTS);
            if !is_reboot(number) {
                let job = manager.session(format!("job{number}"));
                return self.wait(number, job.acquire_owned(self.host.shared(host)));
            }
            let job = manager.session(format!("reboot of {host}"));
            let request = job.acquire_owned(self.host.exclusive(host));
            let hurried = number.is_multiple_of(HOSTS);
            self.wait(number, if hurried { request.timeout(PATIENCE) } else { request })
        }

        /// Makes a request, and has the loop hear of its outcome.
        fn wait(&mut self, number: usize, request: Acquire<AcquireOwned>) -> io::Result<()> {
            let pending = request.enqueue();
            let descriptor = pending.descriptor()?;
            let (fd, token) = (descriptor.as_raw_fd(), Token(number));
            self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
            self.queued += usize::from(!pending.is_decided());
            self.waiting.insert(number, (pending, descriptor));
            Ok(())
        }

        /// Runs until all jobs have ended.
        fn run(&mut self) -> Result<(), Box<dyn Error>> {
            let mut events = Events::with_capacity(64);
            while !(self.waiting.is_empty() && self.working.is_empty()) {
                let first = self.working.front();
                let sleep = first.map(|(end, _)| end.saturating_duration_since(now()));
                match self.poll.poll(&mut events, sleep) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    polled => polled?,
                }
                for event in &events {
                    self.on_decided(event.token().0)?;
                }
                while self.working.front().is_some_and(|(end, _)| *end <= now()) {
                    // With its session, the job gives its locks back.
                    self.working.pop_front();
                    self.done += 1;
                }
            }
            Ok(())
        }

        /// Takes the outcome of the request of a job, which does not block now.
        fn on_decided(&mut self, number: usize) -> io::Result<()> {
            let Some((pending, descriptor)) = self.waiting.remove(&number) else { return Ok(()) };
            self.poll.registry().deregister(&mut SourceFd(&descriptor.as_raw_fd()))?;
            match pending.wait() {
                Ok((job, _)) if job.owned(&self.disk).is_empty() && !is_reboot(number) => {
                    let disk = format!("host{}-disk{}", number % HOSTS, number / HOSTS % DISKS);
                    self.wait(number, job.acquire_owned(self.disk.exclusive(disk)))?;
                }
                Ok((job, _)) => self.work(job),
                Err(refused) => println!("{refused}"),
            }
            Ok(())
        }

        fn work(&mut self, job: Session) {
            for (_, other) in &self.working {
                let alone = job.owned(&self.disk).is_empty() || other.owned(&self.disk).is_empty();
                let same = if alone { &self.host } else { &self.disk };
                assert_ne!(job.owned(same), other.owned(same), "{job:?} beside {other:?}");
            }
            self.working.push_back((now() + WORK, job));
        }
    }

    /// One of each host, after some jobs and before others.
    fn is_reboot(number: usize) -> bool {
        (JOBS / 2..JOBS / 2 + HOSTS).contains(&number)
    }

    pub(super) fn main() -> Result<(), Box<dyn Error>> {
        let (host, disk) = (LevelId::new(0, "host"), LevelId::new(1, "disk"));
        let manager =
            LockManager::builder().on_demand_level(&host).on_demand_level(&disk).build()?;
        let mut backup = manager.session("backup");
        backup.acquire(host.shared("host0")).now()?;

        let (waiting, working) = (HashMap::new(), VecDeque::new());
        let poll = Poll::new()?;
        let mut engine = Engine { host, disk, poll, waiting, working, queued: 0, done: 0 };
        (0..JOBS).try_for_each(|number| engine.begin(number, &manager))?;
        engine.run()?;

        println!("{} jobs done by one thread, which waited {} times", engine.done, engine.queued);
        assert_eq!(engine.done, JOBS - 1, "only the reboot of host0 gives up");
        drop(backup);
        assert!(manager.names(&engine.host).is_empty(), "a host is held, or waited for");
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the library's clock is its own affair")]
    fn now() -> Instant {
        Instant::now()
    }
}
