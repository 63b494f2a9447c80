//! What the fleet needs of a load balancer. The binary connects the two; neither knows the other.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

/// A boxed future, for use behind a trait object.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An instance that may get requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// The instance's name, such as `orders-1`.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The load balancer as the fleet sees it.
pub trait Rotation: Send + Sync + 'static {
    /// These instances, and no others, get requests of `service` from now on. Called once per change, in order.
    fn publish(&self, service: &str, members: Vec<Member>);

    /// Resolves when no request is in flight on the instance. It was taken out of rotation before.
    fn requests_idle(&self, service: &str, instance: &str) -> BoxFuture<()>;

    /// Resolves when no WebSocket, upgrade or other long stream is open on the instance.
    fn streams_idle(&self, service: &str, instance: &str) -> BoxFuture<()>;

    /// Closes kept connections to the instance, so that it need not wait for them when it is asked to end.
    fn close_idle(&self, service: &str, instance: &str);
}
