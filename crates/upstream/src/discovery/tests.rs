//! Discovery against a DNS server of our own on loopback, whose answers, lifetimes and silences the tests decide.
//! No name of this machine or of the network is looked up.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use terrace_instruments::{Log, Meter};
use terrace_runtime::drain;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::config::Config;
use crate::id::IdentityKey;

const ALL: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// A name server on loopback that answers from a table.
#[derive(Clone)]
struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    questions: watch::Receiver<u64>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<(Name, RecordType), Vec<Record>>,
    broken: HashSet<RecordType>,
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port on loopback");
        let address = socket.local_addr().expect("its address");
        let zone = Arc::new(Mutex::new(Zone::default()));
        let answers = Arc::clone(&zone);
        let (counter, questions) = watch::channel(0);
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let answer = answers.lock().expect("no test panics with it").answer(&buffer[..length]);
                socket.send_to(&answer, client).await.expect("loopback takes it");
                counter.send_modify(|count| *count += 1);
            }
        });
        Self { address, zone, questions }
    }

    fn set(&self, name: &str, kind: RecordType, ttl: u32, data: Vec<RData>) {
        let name = absolute(name);
        let records = data.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)).collect();
        self.zone.lock().expect("no test panics with it").records.insert((name, kind), records);
    }

    fn set_a(&self, name: &str, ttl: u32, last_bytes: &[u8]) {
        let data = last_bytes.iter().map(|last| RData::A(A::new(127, 0, 0, *last))).collect();
        self.set(name, RecordType::A, ttl, data);
    }

    fn set_broken(&self, kinds: &[RecordType]) {
        self.zone.lock().expect("no test panics with it").broken = kinds.iter().copied().collect();
    }

    /// Resolves when so many more questions were answered.
    async fn answers(&mut self, more: u64) {
        let enough = *self.questions.borrow() + more;
        self.questions.wait_for(|count| *count >= enough).await.expect("the server runs");
    }

    fn discovery(&self, names: Names) -> Discovery {
        self.discovery_with_log(names, &Log::discard())
    }

    fn discovery_with_log(&self, names: Names, log: &Log) -> Discovery {
        let config = Config::new("legacy", IdentityKey([1; 16]));
        let upstream = Upstream::build(config, &Meter::new(1), log).expect("a fine configuration");
        Discovery::build(Source { names, resolver: Some(self.address) }, &upstream)
    }
}

impl Zone {
    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let question = Message::from_vec(question).expect("a question");
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        let query = question.queries.first().expect("one question").clone();
        let mut name = query.name.clone();
        name = name.to_lowercase();
        match self.records.get(&(name, query.query_type)) {
            _ if self.broken.contains(&query.query_type) => {
                answer.metadata.response_code = ResponseCode::ServFail
            }
            Some(records) => answer.insert_answers(records.clone()),
            None => {}
        }
        answer.add_query(query);
        answer.to_vec().expect("an answer")
    }
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_ascii(name).expect("a name");
    name.set_fqdn(true);
    name
}

fn host(host: &str, port: u16) -> Host {
    Host { host: host.into(), port, weight: 1 }
}

fn addresses_of(members: &[Member]) -> Vec<String> {
    members.iter().map(|member| member.address.to_string()).collect()
}

async fn found(discovery: &mut Discovery) -> (Duration, Vec<String>) {
    let wait = discovery.round().await;
    (wait, addresses_of(&discovery.members()))
}

#[tokio::test]
async fn every_address_of_a_name_becomes_an_endpoint_under_the_name_s_port() {
    let server = NameServer::start().await;
    server.set_a("legacy.internal", 30, &[3, 2]);
    let v6 = AAAA::new(0, 0, 0, 0, 0, 0, 0, 1);
    server.set("legacy.internal", RecordType::AAAA, 40, vec![RData::AAAA(v6)]);
    let mut discovery = server.discovery(Names::Hosts(vec![host("legacy.internal", 8080)]));
    let (_, addresses) = found(&mut discovery).await;
    assert_eq!(addresses, ["127.0.0.2:8080", "127.0.0.3:8080", "[::1]:8080"]);
    assert_eq!(discovery.members()[0].host.as_deref(), Some("legacy.internal"));
    assert_eq!(&*discovery.members()[0].name, "127.0.0.2:8080");
}

#[tokio::test]
async fn an_answer_is_believed_for_the_shortest_time_to_live_within_bounds() {
    let server = NameServer::start().await;
    let mut discovery = server.discovery(Names::Hosts(vec![host("a.internal", 80), host("b.internal", 80)]));
    for (ttls, wait) in [((30, 20), 20), ((0, 600), 1), ((86_400, 86_400), 300)] {
        server.set_a("a.internal", ttls.0, &[2]);
        server.set_a("b.internal", ttls.1, &[3]);
        assert_eq!(found(&mut discovery).await.0, Duration::from_secs(wait));
    }
}

#[tokio::test]
async fn an_alias_on_the_way_counts_with_its_own_time_to_live() {
    let server = NameServer::start().await;
    let alias =
        Record::from_rdata(absolute("web.internal"), 5, RData::CNAME(CNAME(absolute("real.internal"))));
    let real = Record::from_rdata(absolute("real.internal"), 60, RData::A(A::new(127, 0, 0, 9)));
    let key = (absolute("web.internal"), RecordType::A);
    server.zone.lock().expect("no test panics with it").records.insert(key, vec![alias, real]);
    let mut discovery = server.discovery(Names::Hosts(vec![host("web.internal", 80)]));
    assert_eq!(found(&mut discovery).await, (Duration::from_secs(5), vec!["127.0.0.9:80".to_owned()]));
}

#[tokio::test]
async fn a_broken_name_server_or_a_deleted_record_takes_no_endpoint_away() {
    let server = NameServer::start().await;
    let (log, receiver) = Log::channel(16);
    server.set_a("legacy.internal", 30, &[2]);
    let mut discovery = server.discovery_with_log(Names::Hosts(vec![host("legacy.internal", 80)]), &log);
    found(&mut discovery).await;
    server.set_broken(&ALL);
    let (wait, addresses) = found(&mut discovery).await;
    assert_eq!(addresses, ["127.0.0.2:80"]);
    assert!(wait <= PACE.retry.from, "asked again soon: {wait:?}");
    server.set_broken(&[]);
    server.set_a("legacy.internal", 30, &[]);
    assert_eq!(found(&mut discovery).await.1, ["127.0.0.2:80"]);
    server.set_a("legacy.internal", 30, &[5]);
    assert_eq!(found(&mut discovery).await.1, ["127.0.0.5:80"]);
    let events: Vec<&str> = receiver.take_events().iter().map(|event| event.name).collect();
    assert_eq!(events, ["discovery.lookup.failed", "discovery.lookup.recovered"], "each told once");
}

#[tokio::test]
async fn a_family_that_vanishes_from_the_answer_is_dropped_while_the_other_stays() {
    let server = NameServer::start().await;
    server.set_a("legacy.internal", 30, &[2]);
    let v6 = RData::AAAA(AAAA::new(0, 0, 0, 0, 0, 0, 0, 1));
    server.set("legacy.internal", RecordType::AAAA, 30, vec![v6]);
    let mut discovery = server.discovery(Names::Hosts(vec![host("legacy.internal", 80)]));
    assert_eq!(found(&mut discovery).await.1.len(), 2);
    server.set("legacy.internal", RecordType::AAAA, 30, vec![]);
    assert_eq!(found(&mut discovery).await.1, ["127.0.0.2:80"]);
}

#[tokio::test]
async fn of_a_service_name_the_lowest_priority_is_used_with_its_ports_and_weights() {
    let server = NameServer::start().await;
    let srv =
        |priority, weight, port, target: &str| RData::SRV(SRV::new(priority, weight, port, absolute(target)));
    let records = vec![
        srv(10, 3, 8001, "one.internal"),
        srv(10, 0, 8002, "two.internal"),
        srv(20, 9, 8003, "spare.internal"),
    ];
    server.set("_http._tcp.legacy.internal", RecordType::SRV, 50, records);
    server.set_a("one.internal", 40, &[11]);
    server.set_a("two.internal", 60, &[12]);
    server.set_a("spare.internal", 1, &[13]);
    let mut discovery = server.discovery(Names::Srv("_http._tcp.legacy.internal".into()));
    let (wait, addresses) = found(&mut discovery).await;
    assert_eq!(wait, Duration::from_secs(40));
    assert_eq!(addresses, ["127.0.0.11:8001", "127.0.0.12:8002"]);
    let members = discovery.members();
    assert_eq!([members[0].weight, members[1].weight], [3, 1]);
    assert_eq!(members[0].host.as_deref(), Some("one.internal"));
}

#[tokio::test]
async fn a_family_that_cannot_be_asked_keeps_its_addresses_while_the_other_changes() {
    let server = NameServer::start().await;
    server.set_a("legacy.internal", 30, &[2]);
    let v6 = |last| vec![RData::AAAA(AAAA::new(0, 0, 0, 0, 0, 0, 0, last))];
    server.set("legacy.internal", RecordType::AAAA, 30, v6(1));
    let mut discovery = server.discovery(Names::Hosts(vec![host("legacy.internal", 80)]));
    found(&mut discovery).await;
    server.set_broken(&[RecordType::A]);
    server.set("legacy.internal", RecordType::AAAA, 30, v6(2));
    assert_eq!(found(&mut discovery).await.1, ["127.0.0.2:80", "[::2]:80"]);
}

#[tokio::test]
async fn plain_addresses_are_published_at_once_and_then_every_change_once() {
    let mut server = NameServer::start().await;
    server.set_broken(&ALL);
    let mut discovery = server.discovery(Names::Hosts(vec![
        host("10.0.0.5", 80),
        host("::1", 81),
        host("legacy.internal", 82),
    ]));
    discovery.pace.ttl_min = Duration::from_millis(1);
    discovery.pace.retry = Backoff { from: Duration::from_millis(1), to: Duration::from_millis(2) };
    let (publications, mut published) = mpsc::unbounded_channel();
    let (drainer, drain) = drain::channel();
    let publish = move |members: Vec<Member>| publications.send(addresses_of(&members)).expect("it is read");
    let running = tokio::spawn(discovery.run(publish, drain));
    assert_eq!(published.recv().await.expect("the plain ones"), ["10.0.0.5:80", "[::1]:81"]);
    server.set_a("legacy.internal", 0, &[2]);
    server.set_broken(&[]);
    assert_eq!(published.recv().await.expect("all three").last().map(String::as_str), Some("127.0.0.2:82"));
    server.answers(8).await;
    server.set_a("legacy.internal", 0, &[3]);
    assert_eq!(published.recv().await.expect("the change").last().map(String::as_str), Some("127.0.0.3:82"));
    drainer.request();
    running.await.expect("it ends when asked to");
}

#[tokio::test]
async fn the_same_answer_in_another_order_is_no_change() {
    let server = NameServer::start().await;
    server.set_a("legacy.internal", 0, &[2, 3]);
    let mut discovery = server.discovery(Names::Hosts(vec![host("legacy.internal", 80)]));
    found(&mut discovery).await;
    let before = discovery.members();
    server.set_a("legacy.internal", 0, &[3, 2]);
    found(&mut discovery).await;
    assert_eq!(discovery.members(), before);
}
