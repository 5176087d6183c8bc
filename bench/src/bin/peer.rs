//! The other process of two that share a lock.
//!
//! `bench-peer WAY DIRECTORY`, and then what to do, a line each: `take` says `asks`, takes it once, and says when it had it, in
//! nanoseconds; `repeat MILLISECONDS` takes it again and again for so long, and says how often that was.

#![forbid(unsafe_code)]

#[allow(dead_code, reason = "it reads one of the clocks")]
#[path = "../clock.rs"]
mod clock;
#[path = "../takers.rs"]
mod takers;

use std::env;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::clock::common_time;
use crate::takers::{Taker, taker};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, directory] = &arguments[..] else { panic!("which way, and in which directory?") };
    let mut take = taker(name, Path::new(directory), "peer");
    println!("ready");
    for line in io::stdin().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("repeat", ms)) => println!("{}", repeat(&mut take, ms.parse().expect("digits"))),
            _ => once(&mut take),
        }
    }
}

fn once(take: &mut Taker) {
    println!("asks");
    let mut had = Duration::ZERO;
    take(&mut || had = common_time());
    println!("{}", had.as_nanos());
}

fn repeat(take: &mut Taker, ms: u64) -> u64 {
    let (end, mut count) = (common_time() + Duration::from_millis(ms), 0);
    while common_time() < end {
        take(&mut || count = black_box(count + 1));
    }
    count
}
