//! What derives from the definitions is there, and up to date.

use std::fs;
use std::path::Path;

use terrace::file::{reference, schema};

#[test]
fn the_reference_in_docs_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, reference()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/reference.md is old: run `terrace schema --markdown > docs/reference.md`"
    );
}

#[test]
fn every_example_of_the_reference_is_one_that_is_taken() {
    // Keys with their examples, each where it stands; what belongs together is added.
    let cases = [
        "[service.web]\nhosts = [\"10.0.0.5:8080\", { address = \"10.0.0.6:8080\", weight = 2 }]\nbalance = { hash = \"header:X-User\" }\nsticky = { cookie = \"terrace-endpoint\", ttl = \"1h\" }\ntls = { ca = \"web.pem\", name = \"orders.internal\" }\n",
        "[service.web]\ndns = \"legacy.internal:8080\"\nresolver = \"127.0.0.1:5353\"\n",
        "[service.web]\nrun = \"node orders.js\"\nrelease = \"node migrate.js\"\nready = { path = \"/ready\", within = \"60s\" }\nenv-file = \".env\"\n",
    ];
    for case in cases {
        crate::world::good(case);
    }
}

#[test]
fn the_schema_knows_every_table_and_refuses_other_keys() {
    let schema = schema();
    let service = &schema["properties"]["service"]["additionalProperties"];
    assert_eq!(service["additionalProperties"], false);
    assert_eq!(service["properties"]["instances"]["default"], 1);
    assert_eq!(service["properties"]["instances"]["maximum"], 1000);
    assert!(service["properties"]["retry"]["anyOf"].is_array(), "policies may stand in a service");
    assert_eq!(schema["properties"]["route"]["additionalProperties"]["required"][0], "at");
}

/// Every default and every bound is a value that its own key takes: all of them are read for the smallest file, and
/// written out again.
#[test]
fn every_default_is_valid() {
    let file = "[listen.a]\naddress = \"127.0.0.1:1\"\n[service.run]\nrun = \"a\"\nhealth = { tcp = true }\n\
                sticky = { cookie = \"c\" }\nready = { tcp = true }\n[service.dns]\ndns = \"a.b:1\"\n\
                [service.hosts]\nhosts = [{ address = \"10.0.0.1:1\" }]\n\
                [route.a]\nat = \"/a\"\nredirect = { to = \"/b\" }\n[route.b]\nat = \"/b\"\nrespond = {}\n";
    crate::world::good(file);
    crate::world::good(&crate::world::good(file).to_toml(false));
}
