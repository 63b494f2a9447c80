//! The cases that lie as files in `wrong/` and `good/`.

use std::fs;
use std::path::PathBuf;

use crate::world::{folder, load};

fn each_case(kind: &str, answer: impl Fn(&str) -> String) {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    cases.sort();
    assert!(!cases.is_empty());
    let mut different = Vec::new();
    for case in cases {
        let answer = answer(&fs::read_to_string(&case).unwrap());
        let expected = case.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &answer).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != answer {
            different.push(format!("{}:\n{answer}", case.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn a_wrong_file_is_told_all_that_is_wrong_with_it() {
    each_case("wrong", |case| match load(case) {
        Ok(_) => "it is good\n".to_owned(),
        Err(problems) => problems.render(false),
    });
}

#[test]
fn a_good_file_is_explained() {
    each_case("good", |case| match load(case) {
        Ok(loaded) => loaded.to_toml(true),
        Err(problems) => problems.render(false),
    });
}

/// What `check` prints means the same again: nothing is lost or added on the way.
#[test]
fn what_check_prints_is_a_file_that_means_the_same() {
    for entry in fs::read_dir(folder("good")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let first = crate::world::good(&fs::read_to_string(&path).unwrap());
        let printed = first.to_toml(false);
        let second = crate::world::good(&printed);
        let printed_again = second.to_toml(false);
        let different = printed.lines().zip(printed_again.lines()).find(|(one, other)| one != other);
        assert_eq!(different, None, "{}", path.display());
        // Which files were read is another matter than what they mean.
        let mut again = second.resolved;
        again.watch = first.resolved.watch.clone();
        assert!(again == first.resolved, "{} means something else once printed", path.display());
    }
}
