//! What is done to bodies, as terrace.toml says it and as real clients see it: curl, gRPC's own services, and the official
//! client of gRPC-Web.

use std::path::Path;

use terrace_testkit::{Done, Port, Request, World, get, post};

use crate::peers::python;
use crate::{shop, world};

const SERVICES: &str = include_str!("bodies/services.py");
const GREETER: &str = include_str!("peers/grpc.py");

/// A service of gRPC in that script, and a listener before it.
fn grpc(world: &World, script: &str, more: &str) -> (Port, String) {
    let port = Port::reserve();
    world.folder.write("service.py", script);
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n[service.rpc]\nrun = [\"{}\", \"service.py\", \"serve\"]\n\
         protocol = \"h2\"\n{more}",
        python()
    );
    (port, file)
}

fn run_python(world: &World, arguments: &[&str]) -> Done {
    world.run(&python(), &[&["service.py"], arguments].concat())
}

#[test]
fn curl_is_sent_every_coding_that_it_takes() {
    let world = world();
    let port = Port::reserve();
    let page = "<p>a line of a page that is long enough to be worth it</p>\n".repeat(200);
    world.folder.write("pages/page.html", &page);
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n[service.pages]\n\
         run = [\"sh\", \"-c\", \"exec {} -m http.server --bind 127.0.0.1 --directory pages $PORT\"]\n\
         ready = {{ tcp = true }}\ncompress = {{ codings = [\"zstd\", \"br\", \"gzip\"], from = \"1KiB\" }}\n",
        python()
    );
    let terrace = world.up(&file);
    let url = format!("http://{port}/page.html");
    for (coding, program) in [("gzip", "gzip"), ("br", "brotli"), ("zstd", "zstd")] {
        let accept = format!("Accept-Encoding: {coding}");
        let told = ["-w", "%header{content-encoding} %header{vary}", "-o", "coded"];
        let got =
            world.run("curl", &[&["-sS", "--max-time", "30", "-H", &accept, &url], &told[..]].concat()).ok();
        assert_eq!(got, format!("{coding} accept-encoding"));
        let decoded = world.run("sh", &["-c", &format!("{program} -dc < coded")]).ok();
        assert!(decoded == page, "{coding}");
    }
    assert!(world.run("curl", &["-sS", "--max-time", "30", "--compressed", &url]).ok() == page);
    assert!(world.run("curl", &["-sS", "--max-time", "30", &url]).ok() == page);
    let metrics = terrace.metrics();
    assert!(
        metrics.contains(r#"coding="br"} 1"#) && metrics.contains("terrace_coding_given_bytes_total"),
        "{metrics}"
    );
}

#[test]
fn health_and_reflection_of_grpc_pass_and_refusals_are_statuses() {
    let world = world();
    let (port, file) = grpc(&world, SERVICES, "grpc-web = true\ncompress = true\n");
    let terrace = world.up(&file);
    let told = run_python(&world, &["call", &port.to_string()]).ok();
    assert!(told.contains("both services in order"), "{told}");
    terrace.reload_with(&format!("{file}addresses = {{ deny = [\"127.0.0.0/8\"] }}\n")).ok();
    let told = run_python(&world, &["refused", &port.to_string()]).ok();
    assert!(told.starts_with("PERMISSION_DENIED "), "{told}");
    terrace.reload_with(&format!("{file}limit = {{ rate = \"1/h\", burst = 1 }}\n")).ok();
    run_python(&world, &["refused", &port.to_string()]).ok();
    let told = run_python(&world, &["refused", &port.to_string()]).ok();
    assert!(told.starts_with("RESOURCE_EXHAUSTED "), "{told}");
}

#[test]
fn a_browser_calls_a_grpc_service_with_the_official_client() {
    let world = world();
    let (port, file) = grpc(&world, GREETER, "grpc-web = true\ntimeout = { first-byte = \"2s\" }\n");
    let _terrace = world.up(&file);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = manifest.join("../../target/grpc-web/node_modules");
    assert!(modules.is_dir(), "{} is missing: run scripts/prepare.sh test", modules.display());
    let (script, modules) =
        (manifest.join("tests/grpc_web/call.mjs"), modules.canonicalize().expect("it is there"));
    let words = [script.to_str(), modules.to_str()].map(|path| path.expect("text").to_owned());
    let told = world.run("node", &[&words[0], &words[1], &format!("http://{port}")]).ok();
    assert!(told.contains("all calls in order"), "{told}");
}

#[test]
fn a_body_that_does_not_fit_its_schema_never_reaches_the_app() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    world.folder.write(
        "schemas/order.json",
        r#"{"required":["item"],"properties":{"item":{"$ref":"parts.yaml#/item"}}}"#,
    );
    world.folder.write("schemas/parts.yaml", "item: {type: string, maxLength: 5}\n");
    let terrace = world.up(&format!("{file}validate = {{ schema = \"schemas/order.json\" }}\n"));
    let sent =
        |body: &str| Request::post("/echo", body).with("Content-Type", "application/json").send(address);
    let fits = sent(r#"{ "item" : "lamp" }"#);
    assert!(fits.status < 300, "{}: {}", fits.status, fits.text());
    let refused = sent(r#"{"item":"a lamp"}"#);
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(refused.json()["errors"][0]["pointer"], "#/item");
    assert_eq!(sent("{").status, 400);
    assert_eq!(post(address, "/echo", "item").status, 415);
    assert_eq!(get(address, "/health").status, 200, "what has no body is not judged");
    assert!(terrace.metrics().contains(r#"verdict="422"} 1"#), "{}", terrace.metrics());
}

#[test]
fn a_description_of_an_api_is_held_to() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    world.folder.write(
        "api.yaml",
        "openapi: 3.1.0\npaths:\n  /echo:\n    get:\n      parameters:\n        - {name: limit, in: query, schema: {type: integer}}\n",
    );
    let terrace = world.up(&format!("{file}validate = {{ openapi = \"api.yaml\" }}\n"));
    assert!(get(address, "/echo?limit=3").status < 300);
    assert_eq!(get(address, "/echo?limit=x").json()["errors"][0]["parameter"], "limit");
    assert_eq!(post(address, "/echo", "").field("allow"), Some("GET"));
    assert_eq!(get(address, "/other").status, 404);
    // What is wrong with a file is told, and what ran runs on.
    world.folder.write(
        "api.yaml",
        "openapi: 3.1.0\npaths:\n  /echo:\n    get:\n      parameters: [{name: x, in: body}]\n",
    );
    let told = terrace.command(&["reload"]).refused();
    assert!(told.contains("api.yaml") && told.contains("line 5"), "{told}");
    assert!(get(address, "/echo?limit=3").status < 300);
}

#[test]
fn terrace_check_says_where_a_schema_is_wrong() {
    let world = world();
    let (_port, _address, file) = shop(&world, 1);
    for (schema, says) in [
        ("{\n  \"type\": \"text\"\n}", "line 2, column 11"),
        ("{\n  \"pattern\": \"(?=a)\"\n}", "looking ahead or behind is not supported"),
        ("{\"$ref\": \"https://schemas.example/order.json\"}", "nothing is fetched from a network"),
        ("{\"$ref\": \"#\"}", "leads back to itself"),
    ] {
        world.folder.write("order.json", schema);
        world.write(&format!("{file}validate = {{ schema = \"order.json\" }}\n"));
        let told = world.terrace(&["check"]).refused();
        assert!(told.contains("order.json") && told.contains(says), "{told}");
    }
}
