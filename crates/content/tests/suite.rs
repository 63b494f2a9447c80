//! The official JSON-Schema-Test-Suite, as PyPI's jsonschema brings it along (scripts/prepare.sh puts it under target/):
//! every case of draft 2020-12, and those of its optional ones that are ours to keep.

use std::path::{Path, PathBuf};

use terrace_content::{CheckBounds, Item, Json, JsonBounds, JsonSchema, Kind};

/// Cases that we do not keep, and why.
const NOT_KEPT: &[(&str, &str)] = &[
    (
        "the schema of schemas is not among the files",
        r#""$ref":"https://json-schema.org/draft/2020-12/schema""#,
    ),
    ("vocabularies are not switched off", "vocabulary.json"),
];

fn suite() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/json-schema-test-suite");
    assert!(folder.is_dir(), "{} is missing: run scripts/prepare.sh test", folder.display());
    folder
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_str().is_some_and(|path| path.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Documents that the cases refer to by an address of their own.
fn remotes(suite: &Path) -> Vec<(String, String)> {
    let folder = suite.join("remotes");
    let remote = |path: PathBuf| {
        let name = path.strip_prefix(&folder).expect("within").to_str().expect("text").to_owned();
        (format!("http://localhost:1234/{name}"), std::fs::read_to_string(path).expect("readable"))
    };
    let of_others = |path: &PathBuf| {
        let name = path.strip_prefix(&folder).expect("within").to_str().expect("text");
        name.starts_with("draft") && !name.starts_with("draft2020-12/")
    };
    files(&folder, ".json").into_iter().filter(|path| !of_others(path)).map(remote).collect()
}

/// Writes a value again.
fn written(item: Item<'_>) -> String {
    match item.kind() {
        Kind::String => format!("\"{}\"", item.literal()),
        Kind::Array => format!("[{}]", item.items().map(written).collect::<Vec<_>>().join(",")),
        Kind::Object => {
            let member = |(name, value)| format!("{}:{}", written(name), written(value));
            format!("{{{}}}", item.members().map(member).collect::<Vec<_>>().join(","))
        }
        _ => item.literal().to_owned(),
    }
}

fn is_kept(file: &str, schema: &str) -> bool {
    !NOT_KEPT.iter().any(|(_, mark)| file.ends_with(mark) || schema.contains(mark))
}

#[derive(Default)]
struct Tally {
    passed: usize,
    skipped: usize,
    failed: Vec<String>,
}

fn run(file: &Path, remotes: &[(String, String)], tally: &mut Tally) {
    let text = std::fs::read_to_string(file).expect("readable");
    let bounds = JsonBounds::default();
    let groups = Json::read(text.as_bytes(), &bounds).expect("the suite is JSON");
    for group in groups.root().items() {
        let schema = written(group.get("schema").expect("a schema"));
        let name = format!(
            "{}: {}",
            file.file_stem().unwrap_or_default().display(),
            group.get("description").expect("a description").literal()
        );
        let cases = group.get("tests").expect("cases");
        if !is_kept(file.to_str().expect("text"), &schema) {
            tally.skipped += cases.len();
            continue;
        }
        let mut load = |path: &str| match path {
            "/schema.json" => Ok(schema.clone()),
            _ => Err("no such file".to_owned()),
        };
        let ready = match JsonSchema::load_knowing("/schema.json", remotes, &mut load) {
            Ok(ready) => ready,
            Err(error) => {
                tally.failed.push(format!("{name}: {error}"));
                continue;
            }
        };
        for case in cases.items() {
            let data = written(case.get("data").expect("data"));
            let json = Json::read(data.as_bytes(), &bounds).expect("JSON");
            let verdict = ready.check(json.root(), &CheckBounds::default());
            let is_expected = verdict.is_ok() == (case.get("valid").expect("valid").kind() == Kind::True);
            match is_expected {
                true => tally.passed += 1,
                false => tally.failed.push(format!(
                    "{name}: {}: {verdict:?}",
                    case.get("description").expect("a description").literal()
                )),
            }
        }
    }
}

fn run_all(files: Vec<PathBuf>, passed_min: usize, skipped_max: usize) {
    let remotes = remotes(&suite());
    let mut tally = Tally::default();
    files.iter().for_each(|file| run(file, &remotes, &mut tally));
    assert!(tally.failed.is_empty(), "{} failed:\n{}", tally.failed.len(), tally.failed.join("\n"));
    assert!(tally.passed >= passed_min, "only {} cases ran, {} left out", tally.passed, tally.skipped);
    assert!(tally.skipped <= skipped_max, "{} cases were left out", tally.skipped);
}

#[test]
fn json_schema_2020_12() {
    let all = files(&suite().join("tests/draft2020-12"), ".json");
    let required =
        all.into_iter().filter(|path| !path.components().any(|part| part.as_os_str() == "optional"));
    // What `format` means is ours to say: it is held to.
    let required = required.filter(|path| !path.ends_with("format.json"));
    run_all(required.collect(), 1_100, 12);
}

#[test]
fn json_schema_2020_12_optional() {
    let ours = [
        "bignum",
        "dependencies-compatibility",
        "ecmascript-regex",
        "float-overflow",
        "non-bmp-regex",
        "refOfUnknownKeyword",
        "unknownKeyword",
        "anchor",
        "id",
        "no-schema",
        "dynamicRef",
    ];
    let folder = suite().join("tests/draft2020-12/optional");
    run_all(
        ours.iter().map(|name| folder.join(format!("{name}.json"))).filter(|path| path.exists()).collect(),
        150,
        0,
    );
}

#[test]
fn json_schema_2020_12_formats() {
    let not_ours = ["idn-email", "idn-hostname", "iri", "iri-reference", "uri-template", "unknown"];
    let folder = suite().join("tests/draft2020-12/optional/format");
    let is_ours =
        |path: &PathBuf| !not_ours.iter().any(|name| path.file_stem().is_some_and(|stem| stem == *name));
    run_all(files(&folder, ".json").into_iter().filter(is_ours).collect(), 360, 0);
}
