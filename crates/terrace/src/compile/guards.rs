//! What stands before a route, as the edge has it: each guard made ready once, so that a request meets no text.

use std::sync::Arc;

use terrace_content as content;
use terrace_content::{Compression, Effort, MediaRange};
use terrace_edge as edge;
use terrace_policy::Share;

use super::resilience;
use crate::file::{
    Addresses, Coding, Compress, CompressLevel, Cors, Fault, FieldChange, Frame, Guards, Network,
    OriginPattern, RequestChange, ResponseChange, SecurityHeaders, Validate,
};

/// The guards of a route; nothing where there are none, so that its requests pay for none.
pub(super) fn guards(guards: &Guards) -> Option<Box<edge::Guards>> {
    if guards.are_none() {
        return None;
    }
    Some(Box::new(edge::Guards {
        priority: resilience::priority(&guards.priority),
        addresses: guards.addresses.as_ref().map(|found| Arc::new(addresses(found))),
        cors: guards.cors.as_ref().map(|found| Arc::new(cors(found))),
        validate: guards.validate.as_ref().map(schema),
        grpc_web: guards.grpc_web,
        compress: guards.compress.as_ref().map(|found| Arc::new(compression(found))),
        fields: changes(guards.request.as_ref(), guards.response.as_ref()).map(Arc::new),
        faults: faults(&guards.faults).map(Arc::new),
        security: guards.security_headers.as_ref().map(|found| Arc::new(security(found))),
        ..edge::Guards::default()
    }))
}

fn addresses(addresses: &Addresses) -> edge::Addresses {
    let networks = |found: &[Network]| -> Vec<edge::Network> { found.iter().map(network).collect() };
    edge::Addresses::new(&networks(&addresses.allow), &networks(&addresses.deny))
}

/// A range of addresses.
pub(super) fn network(network: &Network) -> edge::Network {
    edge::Network::new(network.address, network.prefix_bits)
}

fn cors(cors: &Cors) -> edge::Cors {
    let origin = |origin: &OriginPattern| match origin {
        OriginPattern::Any => edge::Origin::Any,
        OriginPattern::Exact(origin) => edge::Origin::Exact(origin.clone()),
        OriginPattern::Below { scheme, suffix } => {
            edge::Origin::Below { scheme: scheme.clone(), suffix: suffix.clone() }
        }
    };
    let rules = edge::CorsRules {
        origins: cors.origins.iter().map(origin).collect(),
        methods: cors.methods.clone(),
        headers: cors.headers.clone(),
        expose: cors.expose.clone(),
        credentials: cors.credentials,
        max_age: cors.max_age,
    };
    edge::Cors::new(&rules).expect("invariant: the file's check allows no star with credentials")
}

fn security(headers: &SecurityHeaders) -> edge::Security {
    edge::Security::new(&edge::SecurityRules {
        hsts: headers.hsts,
        no_sniffing: headers.content_type,
        frame: headers.frame.map(|frame| match frame {
            Frame::Deny => "DENY".to_owned(),
            Frame::SameOrigin => "SAMEORIGIN".to_owned(),
        }),
        referrer: headers.referrer.map(|referrer| referrer.as_str().to_owned()),
        content: headers.csp.clone(),
        permissions: headers.permissions.clone(),
    })
}

/// What of both messages is changed, if anything is.
fn changes(request: Option<&RequestChange>, response: Option<&ResponseChange>) -> Option<edge::Changes> {
    if request.is_none() && response.is_none() {
        return None;
    }
    let rules = edge::ChangeRules {
        request: request.map(|change| edits(&change.fields)).unwrap_or_default(),
        query: request.map(|change| change.query.clone()).unwrap_or_default(),
        response: response.map(|change| edits(&change.fields)).unwrap_or_default(),
        statuses: response
            .iter()
            .flat_map(|change| &change.statuses)
            .map(|(from, to)| (*from, *to))
            .collect(),
    };
    Some(edge::Changes::new(rules).expect("invariant: the file's check allows only statuses with content"))
}

fn edits(change: &FieldChange) -> edge::FieldEdits {
    let name = |name: &String| {
        edge::FieldName::parse(name).expect("invariant: the file's check allows no header that frames")
    };
    let values = |values: &[(String, terrace_route::ValueTemplate)]| {
        values.iter().map(|(named, value)| (name(named), value.clone())).collect()
    };
    let remove = change.remove.iter().map(name).collect();
    edge::FieldEdits::new(values(&change.set), values(&change.add), remove)
        .expect("invariant: the file's check allows no header both set and removed")
}

fn schema(validate: &Arc<Validate>) -> Arc<edge::Schema> {
    let validator = validate.validator();
    Arc::new(edge::Schema { validator, body_bytes_max: edge::Schema::BODY_BYTES_MAX })
}

fn compression(compress: &Compress) -> Compression {
    let coding = |coding: &Coding| match coding {
        Coding::Zstd => content::Coding::Zstd,
        Coding::Brotli => content::Coding::Brotli,
        Coding::Gzip => content::Coding::Gzip,
    };
    let range = |text: &String| {
        MediaRange::parse(text).expect("invariant: the file's check has read every media type")
    };
    let usual = Compression::default();
    Compression {
        codings: compress.codings.iter().map(coding).collect(),
        types: match compress.types.as_slice() {
            [] => usual.types,
            types => types.iter().map(range).collect(),
        },
        from_bytes: compress.bytes_min,
        effort: match compress.level {
            CompressLevel::Low => Effort::Low,
            CompressLevel::Medium => Effort::Medium,
            CompressLevel::High => Effort::High,
        },
    }
}

fn faults(faults: &[Fault]) -> Option<edge::Faults> {
    if faults.is_empty() {
        return None;
    }
    let fault = |fault: &Fault| {
        let share = Share::from_ratio(fault.share);
        let made = edge::Fault::new(fault.delay, fault.abort, share, fault.headers.clone());
        (made.expect("invariant: the file's check allows only faults that do something"), fault.until)
    };
    Some(edge::Faults(faults.iter().map(fault).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::file::{Imagined, load_from};

    /// Makes ready what a file with this policy holds; `None`: it is refused.
    fn made(policy: &str) -> Option<Vec<bool>> {
        let file =
            format!("[service.a]\nrun = \"a\"\n{policy}\n[route.r]\nat = \"/{{tenant}}/*\"\nto = \"a\"\n");
        let mut world = Imagined::default();
        world.files.insert("terrace.toml".into(), file.into_bytes());
        let resolved = load_from("terrace.toml".as_ref(), None, &world).ok()?.resolved;
        let outside = resolved.routes.values().map(|route| &route.guards);
        let inside = resolved.services.values().map(|service| &service.guards);
        Some(outside.chain(inside).map(|found| super::guards(found).is_some()).collect())
    }

    #[test]
    fn who_has_no_guards_pays_for_none() {
        assert_eq!(made(""), Some(vec![false, false]));
        assert_eq!(made("addresses = { deny = [\"10.0.0.0/8\"] }"), Some(vec![true, false]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What the file's checks let through, the edge's own never refuse.
        #[test]
        fn what_the_file_takes_can_be_made_ready(
            name in "(x-a|host|x_a|te|content[-_]length|via|[a-z_-]{1,12})",
            value in "(a|\\{tenant\\}|\\{host\\}|\\{claim:sub\\}|[ -~]{0,12})",
            key in "(set|add|remove)",
            other in "(set|add|remove)",
            status in 190_u16..610,
            origin in "(\\*|https?://(\\*\\.)?[a-zA-Z0-9.:-]{0,12}/?)",
            credentials: bool,
        ) {
            let value = format!("{value:?}");
            let edit = |key: &str| match key {
                "remove" => format!("remove = [{name:?}]"),
                key => format!("{key} = {{ {name:?} = {value} }}"),
            };
            let edits = if key == other { edit(&key) } else { format!("{}, {}", edit(&key), edit(&other)) };
            let _taken_or_not = made(&format!("request = {{ {edits} }}"));
            let _taken_or_not = made(&format!("response = {{ {edits}, status = {{ \"404\" = {status}, \"{status}\" = 200 }} }}"));
            let _taken_or_not = made(&format!("request = {{ query = {{ {edits} }} }}"));
            let _taken_or_not = made(&format!("cors = {{ origins = {origin:?}, credentials = {credentials}, methods = [\"GET\", \"*\"] }}"));
            let _taken_or_not = made(&format!("security-headers = {{ csp = {value}, permissions = {value} }}"));
        }
    }

    #[test]
    fn what_is_meant_here_is_taken() {
        assert!(made("request = { set = { Host = \"api.example.com\", X-A = \"{tenant}\" } }").is_some());
        assert!(made("response = { remove = [\"Server\"], status = { 404 = 200 } }").is_some());
        assert!(made("fault = { delay = \"5m\", abort = 503, until = \"2027-01-31T18:00:00Z\" }").is_some());
        assert!(made("request = { set = { Content_Length = \"1\" } }").is_none());
    }
}
