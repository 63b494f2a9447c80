//! Terrace's end of the connection to a shim: started anew, or found in the state folder.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use terrace_runtime::spawn;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};

use crate::shim::protocol::{Launch, Order, REPORT_BYTES_MAX, Report, encode};

/// A shim that accepts a connection answers at once, unless it hangs.
const HELLO_TIME: Duration = Duration::from_secs(2);

/// A shim with nothing left to do leaves at once, unless it hangs.
const LEAVE_TIME: Duration = Duration::from_secs(5);

/// A connected shim.
pub(crate) struct Link {
    reports: Reports,
    orders: OwnedWriteHalf,
    /// The shim's process, where it is our child.
    child: Option<Child>,
}

/// The reading half. Reading may be given up at any point and taken up again.
struct Reports {
    reader: BufReader<OwnedReadHalf>,
    /// The line that has no end yet.
    open: Vec<u8>,
}

impl Link {
    /// Starts a shim and tells it what to run.
    pub(crate) async fn launch(shim_command: &[String], launch: &Launch) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let mut command = Command::new(shim_command.first().map(String::as_str).unwrap_or_default());
        command.args(&shim_command[1..]).arg(&launch.instance).env_clear();
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::null());
        spawn::prepare(command.as_std_mut(), spawn::Setup { session: true, ..spawn::Setup::default() });
        let child = command.spawn()?;
        drop(command);
        let mut link = Self::new(ours, Some(child))?;
        link.orders.write_all(&encode(launch)).await?;
        Ok(link)
    }

    /// Takes control of a living shim by its socket. Its greeting is still to be read.
    pub(crate) async fn adopt(instances: &Path, socket: &str) -> io::Result<Self> {
        let stream = connect(instances, socket).await?;
        Self::new(stream.into_std()?, None)
    }

    fn new(stream: std::os::unix::net::UnixStream, child: Option<Child>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (reader, orders) = UnixStream::from_std(stream)?.into_split();
        Ok(Self { reports: Reports { reader: BufReader::new(reader), open: Vec::new() }, orders, child })
    }

    /// The first report, which must come soon.
    pub(crate) async fn hello(&mut self) -> io::Result<Report> {
        match tokio::time::timeout(HELLO_TIME, self.next()).await {
            Ok(Ok(Some(report))) => Ok(report),
            Ok(Ok(None)) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// The next report; `None` when the shim is gone. May be dropped and called again without loss.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Report>> {
        self.reports.next().await
    }

    /// Asks the shim for something. An error says that it is gone, which [`next`](Self::next) tells as well.
    pub(crate) async fn ask(&mut self, order: &Order) -> io::Result<()> {
        self.orders.write_all(&encode(order)).await
    }

    /// The shim's process, where it is our child.
    pub(crate) fn child(&self) -> Option<Pid> {
        let id = self.child.as_ref()?.id()?;
        Pid::from_raw(i32::try_from(id).ok()?)
    }

    /// Waits until the shim has left: its files are removed then, and it is no zombie.
    pub(crate) async fn ended(mut self) {
        let left = async {
            while let Ok(Some(_)) = self.reports.next().await {}
            if let Some(child) = &mut self.child {
                let _status_says_nothing_more = child.wait().await;
            }
        };
        let _it_hangs = tokio::time::timeout(LEAVE_TIME, left).await;
    }
}

impl Reports {
    async fn next(&mut self) -> io::Result<Option<Report>> {
        while let Some(line) = self.line().await? {
            // What is not understood is of a later version of the shim, and not needed by this one.
            if let Ok(report) = serde_json::from_slice(&line) {
                return Ok(Some(report));
            }
        }
        Ok(None)
    }

    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(bytes.len(), |end| end + 1);
            self.open.extend_from_slice(&bytes[..taken]);
            self.reader.consume(taken);
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.open)));
            }
            if self.open.len() > REPORT_BYTES_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }
}

/// A socket's path may be 107 bytes long; through the folder's descriptor it always is shorter.
#[cfg(target_os = "linux")]
async fn connect(instances: &Path, socket: &str) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(instances)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{socket}", folder.as_raw_fd())).await
}

#[cfg(not(target_os = "linux"))]
async fn connect(instances: &Path, socket: &str) -> io::Result<UnixStream> {
    UnixStream::connect(instances.join(socket)).await
}
