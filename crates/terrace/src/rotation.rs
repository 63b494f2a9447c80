//! Connects the fleet to the load balancer: instances that are ready become endpoints, and the fleet learns when those
//! that it stops are idle.

use std::sync::Arc;

use terrace_edge::Edge;
use terrace_fleet::{BoxFuture, Member, Rotation};
use terrace_upstream as upstream;
use terrace_upstream::MemberState;

use crate::services::Services;

/// The upstreams as the fleet's rotation.
pub(crate) struct Upstreams {
    pub(crate) services: Arc<Services>,
    pub(crate) edge: Edge,
}

impl Rotation for Upstreams {
    fn publish(&self, service: &str, members: Vec<Member>) {
        let member = |member: &Member| upstream::Member {
            state: MemberState::Ready,
            ..upstream::Member::new(&member.name, member.address)
        };
        let members: Vec<_> = members.iter().map(member).collect();
        self.services.publish_instances(service, &members);
    }

    fn requests_idle(&self, service: &str, instance: &str) -> BoxFuture<()> {
        match self.services.in_use(service) {
            Some(upstream) => Box::pin(upstream.wait_idle(instance)),
            None => Box::pin(std::future::ready(())),
        }
    }

    fn streams_idle(&self, service: &str, instance: &str) -> BoxFuture<()> {
        match self.services.in_use(service) {
            Some(upstream) => Box::pin(upstream.wait_streams_idle(instance)),
            None => Box::pin(std::future::ready(())),
        }
    }

    fn close_idle(&self, _service: &str, _instance: &str) {
        // The endpoint takes no more requests, which is what makes every core let go of it.
        self.edge.sweep();
    }
}
