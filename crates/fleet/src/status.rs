//! How it stands: what a person sees who asks. It holds no variable of any environment, so no secret.

use serde::{Deserialize, Serialize};

/// All services that the fleet runs, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FleetStatus {
    /// Ordered by name.
    pub services: Vec<ServiceStatus>,
}

impl FleetStatus {
    /// One service.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceStatus> {
        self.services.iter().find(|service| service.name == name)
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Whether it takes no requests.
    pub worker: bool,
    /// Instances there shall be.
    pub desired: u32,
    /// Whether that number was set by hand, and not by the file.
    pub scaled: bool,
    /// Instances that are ready and not being stopped.
    pub ready: u32,
    /// How it is.
    pub state: ServiceState,
    /// Why, where that needs words.
    pub reason: Option<String>,
    /// Ordered by number.
    pub instances: Vec<InstanceStatus>,
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// All desired instances are ready.
    Running,
    /// Instances are on their way to be ready.
    Starting,
    /// The release command runs.
    Releasing,
    /// A new configuration, or a restart, takes the place of what runs, one instance at a time.
    RollingOut,
    /// The new configuration could not be brought up; what ran before goes on.
    RolloutFailed,
    /// At least one instance ends again and again.
    CrashLoop,
    /// Instances are being stopped and none shall run.
    Stopping,
    /// None shall run and none does.
    Stopped,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Such as `orders-1`.
    pub name: String,
    /// Its first process, while there is one.
    pub pid: Option<i32>,
    /// Its port on loopback, where it has one.
    pub port: Option<u16>,
    /// How it is.
    pub state: InstanceState,
    /// Whether it runs an older configuration than the one wanted.
    pub outdated: bool,
    /// How long its process has run.
    pub uptime_seconds: u64,
    /// How often it was started again since Terrace took it over.
    pub restarts: u32,
    /// How its last process ended, such as `exit status 1`.
    pub last_exit: Option<String>,
    /// What it last said over its notify socket about itself.
    pub says: Option<String>,
}

/// How an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Its process runs and is not ready yet.
    Starting,
    /// It is in rotation, or works.
    Ready,
    /// Out of rotation, finishing what it has.
    Draining,
    /// It ended by itself and will be started again.
    Waiting,
    /// Like waiting, after it ended again and again.
    CrashLoop,
}

impl InstanceState {
    /// All of them, for gauges.
    pub(crate) const ALL: [Self; 5] =
        [Self::Starting, Self::Ready, Self::Draining, Self::Waiting, Self::CrashLoop];

    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Waiting => "waiting",
            Self::CrashLoop => "crash-loop",
        }
    }
}

impl ServiceState {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Releasing => "releasing",
            Self::RollingOut => "rolling-out",
            Self::RolloutFailed => "rollout-failed",
            Self::CrashLoop => "crash-loop",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}
