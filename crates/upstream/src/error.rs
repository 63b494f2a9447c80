//! What can go wrong, and whose fault it is.

use thiserror::Error;

/// Why a request found no endpoint. Nothing was sent, so a retry is safe; none of these is the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoEndpoint {
    /// The service has no endpoints at all: none started yet, or its name resolves to nothing.
    #[error("the service has no endpoints")]
    NoneConfigured,
    /// There are endpoints, but none is ready for requests: starting, draining, or of weight 0.
    #[error("no endpoint of the service is ready yet, or all are draining")]
    NoneReady,
    /// All ready endpoints are down or ejected, and panic mode is off.
    #[error("every endpoint of the service is failing")]
    AllUnhealthy,
    /// An operator took every endpoint that is ready out of rotation.
    #[error(
        "every endpoint of the service was taken out of rotation by hand; `terrace drain --undo` lets one in again"
    )]
    AllDrained,
    /// Every usable endpoint is at its bound of connections; retry after a moment.
    #[error("every endpoint of the service is at its bound of connections")]
    AllFull,
}

impl NoEndpoint {
    /// A word for labels and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoneConfigured => "none_configured",
            Self::NoneReady => "none_ready",
            Self::AllUnhealthy => "all_unhealthy",
            Self::AllDrained => "all_drained",
            Self::AllFull => "all_full",
        }
    }
}

/// Why an upstream could not be built from its configuration. What ran before runs on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// The given roots hold no usable certificate.
    #[error(
        "service {service}: its TLS roots hold no usable certificate: {detail}; give a PEM file with the CA's certificate"
    )]
    Roots {
        /// The service.
        service: String,
        /// What was found instead.
        detail: String,
    },
    /// The system's store gave no certificate.
    #[error(
        "service {service}: the system has no TLS roots ({detail}); install ca-certificates, or give a PEM file"
    )]
    SystemRoots {
        /// The service.
        service: String,
        /// What the store said.
        detail: String,
    },
    /// The certificate that Terrace shows, or its key, cannot be used.
    #[error("service {service}: its client certificate cannot be used: {detail}")]
    ClientCertificate {
        /// The service.
        service: String,
        /// What is wrong with it; never the key itself.
        detail: String,
    },
    /// The server name is not a host name or address.
    #[error(
        "service {service}: {name:?} is no name that a certificate could carry; give a host name or an IP address"
    )]
    ServerName {
        /// The service.
        service: String,
        /// The name as configured.
        name: String,
    },
}
