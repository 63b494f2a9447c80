//! No input makes the reader panic, and what it says always points into the file.

use std::path::Path;

use proptest::prelude::*;
use terrace::file::{Imagined, Problems, load_from};

use crate::world::{MAIN, folder, world};

/// Files with everything in them between them, each in one piece.
fn material(of: bool) -> String {
    let name = if of { "shop.toml" } else { "gateway.toml" };
    let file = std::fs::read_to_string(folder("good").join(name)).unwrap();
    let kept = file.lines().filter(|line| !line.starts_with("#===") && !line.starts_with("include"));
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_files_to_be_damaged_are_good() {
    crate::world::good(&material(true));
    crate::world::good(&material(false));
}

/// A piece that is put in somewhere.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let tokens = [
        "",
        "\"",
        "'",
        "'''",
        "=",
        ".",
        "[",
        "]",
        "[[",
        "{",
        "}",
        ",",
        "#",
        "\n",
        "false",
        "true",
        "0",
        "-1",
        "1e9",
        "nan",
        "9223372036854775808",
        "1979-05-27",
        "\"5s\"",
        "\"\"",
        "{}",
        "[]",
        "\u{feff}",
        "é",
        "\0",
        "\r",
        "include = [\"*\"]\n",
        "[service.x]\n",
        "at = \"/{a}/*\"\n",
        "\"\\u0000\"",
        "= = =",
        "a.b.c.d = 1\n",
    ];
    prop_oneof![
        4 => proptest::sample::select(tokens.to_vec()).prop_map(|token| token.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ]
}

/// A value as TOML.
fn value() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        "[ -~]{0,12}",
        "[0-9]{0,20}(us|ms|s|m|h|d|B|KiB|TB|%|B/s|B/m)?",
        "[a-z0-9.*{}/:\\[\\]-]{0,16}",
        "[0-9]{1,4}/(s|m|h|d|month)",
        "(role|scope|claim|header|cookie):[a-z.=]{0,6}",
    ];
    let leaf = prop_oneof![
        text.prop_map(|text| format!("{text:?}")),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        Just("1.5".to_owned()),
        Just("1979-05-27".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let keys = [
            "env", "file", "path", "tcp", "to", "from", "status", "hash", "prefix", "attempts", "web", "x",
            "rate", "key", "issuer", "all", "any", "not", "set", "until", "service", "cookie", "claim",
            "after",
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::btree_map(proptest::sample::select(keys.to_vec()), inner, 0..3).prop_map(
                |table| {
                    let entries: Vec<String> =
                        table.into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
                    format!("{{ {} }}", entries.join(", "))
                }
            ),
        ]
    })
}

fn check(content: Vec<u8>) {
    let mut world = world("");
    world.files.insert(MAIN.into(), content.clone());
    match load_from(Path::new(MAIN), None, &world) {
        Ok(loaded) => again(&world, &loaded.to_toml(false)),
        Err(problems) => points_into(&problems, &content),
    }
}

/// What was good is good again as it is printed.
fn again(world: &Imagined, printed: &str) {
    let mut world = world.clone();
    world.files.insert(MAIN.into(), printed.as_bytes().to_vec());
    if let Err(problems) = load_from(Path::new(MAIN), None, &world) {
        panic!("{problems}\n{printed}");
    }
}

fn points_into(problems: &Problems, content: &[u8]) {
    assert!(!problems.problems.is_empty(), "refused without a reason");
    let lines = content.iter().filter(|byte| **byte == b'\n').count() + 1;
    for problem in &problems.problems {
        assert!(!problem.message.is_empty());
        if let Some(at) = &problem.at {
            let is_inside = (1..=lines).contains(&at.line) || at.file != Path::new(MAIN);
            assert!(is_inside, "line {} of {lines}", at.line);
            assert!(!at.source.contains(|character: char| character.is_control()));
        }
    }
    assert!(!problems.render(true).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_answered(of in any::<bool>(), cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..30, piece()), 1..4)) {
        let mut content = material(of).into_bytes();
        for (at, length, piece) in cuts {
            let at = at.index(content.len() + 1);
            let end = (at + length).min(content.len());
            content.splice(at..end, piece);
        }
        check(content);
    }

    /// Values that fit the syntax and not the grammar get further than noise does.
    #[test]
    fn any_value_in_any_place_is_answered(of in any::<bool>(), line in any::<prop::sample::Index>(), value in value()) {
        let material = material(of);
        let mut lines: Vec<String> = material.lines().map(str::to_owned).collect();
        let line = line.get_mut(&mut lines);
        if let Some((key, _)) = line.split_once(" = ") {
            *line = format!("{key} = {value}");
        }
        check(lines.join("\n").into_bytes());
    }

    #[test]
    fn any_bytes_are_answered(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(content);
    }

    #[test]
    fn any_tokens_are_answered(pieces in proptest::collection::vec(piece(), 0..60)) {
        check(pieces.concat());
    }
}

#[test]
fn a_tower_of_brackets_is_answered() {
    check(b"a = ".iter().copied().chain(std::iter::repeat_n(b'[', 200_000)).collect());
    check(std::iter::repeat_n(*b"a.", 100_000).flatten().chain(*b"b = 1").collect());
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let mut world = world("");
    world.files.insert(MAIN.into(), vec![b'#'; (4 << 20) + 1]);
    let problems = load_from(Path::new(MAIN), None, &world).unwrap_err();
    assert!(problems.problems[0].message.contains("too large"));
}

#[test]
fn too_many_includes_are_refused() {
    let mut world = world("include = [\"r/*.toml\"]\n[service.a]\nrun = \"a\"\n");
    for number in 0..300 {
        world.files.insert(format!("r/{number}.toml").into(), Vec::new());
    }
    let problems = load_from(Path::new(MAIN), None, &world).unwrap_err();
    assert!(problems.problems[0].message.contains("256"));
}
