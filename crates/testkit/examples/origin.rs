//! Endpoints of bounded capacity that fall ill on order, as a process of their own.
//!
//!     origin --ports 9201-9210 --workers 4 --service-ms 20 --control 9200
//!
//! Over the control's port: `/mood?to=well|failing|refusing|silent|slow&times=100&endpoints=0,1,2` (all when none are
//! named), `/served` for what each has done. It runs until it is ended.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use terrace_testkit::{Capacity, Origin};

const USAGE: &str = "usage: origin --ports FIRST-LAST [--workers 4] [--service-ms 20] [--control PORT]\n";

struct Asked {
    ports: Vec<SocketAddr>,
    capacity: Capacity,
    control: Option<u16>,
}

fn main() -> ExitCode {
    let Some(asked) = asked(std::env::args().skip(1)) else {
        let _nobody_reads = std::io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    };
    let origin = Origin::start(&asked.ports, asked.capacity);
    let _origin = match asked.control {
        Some(port) => origin.with_control((Ipv4Addr::LOCALHOST, port).into()),
        None => origin,
    };
    let _nobody_reads = std::io::stdout().write_all(b"ready\n");
    loop {
        std::thread::park();
    }
}

fn asked(mut words: impl Iterator<Item = String>) -> Option<Asked> {
    let mut asked = Asked {
        ports: Vec::new(),
        capacity: Capacity { workers: 4, service: Duration::from_millis(20) },
        control: None,
    };
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--ports" => {
                let (first, last) = value.split_once('-').unwrap_or((&value, &value));
                let range = first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?;
                asked.ports = range.map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
            }
            "--workers" => asked.capacity.workers = value.parse().ok()?,
            "--service-ms" => asked.capacity.service = Duration::from_millis(value.parse().ok()?),
            "--control" => asked.control = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    if asked.ports.is_empty() { None } else { Some(asked) }
}
