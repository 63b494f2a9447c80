//! The documentation, held against the program: a file that it shows is taken, a key or a command that it names is there.
//!
//! A block of TOML is read as `terrace check` reads a file. It need not say everything: a service, a receiver … that it names and
//! does not show is added, something to serve too, and every file and variable that it speaks of is there. A line `# key = value`
//! in a block is another way to write that key, and is tried in its place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{CommandFactory as _, Parser as _};
use serde_json::Value as Json;
use terrace::cli::Cli;
use terrace::file::{Problems, Surroundings, load_from, reference, schema};
use toml::{Table, Value};

use crate::world::{MAIN, folder};

/// A page: its path in the repository, and its text.
struct Page {
    path: PathBuf,
    text: String,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What is written for people: the pages at the top, and `docs/` with all below it.
fn pages() -> Vec<Page> {
    let mut found: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(PathBuf::from).to_vec();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(repository().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "md") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    let page = |path: PathBuf| Page { text: fs::read_to_string(repository().join(&path)).unwrap(), path };
    found.into_iter().map(page).collect()
}

impl Page {
    /// Its blocks of code: the number of the line that begins each, its language, and its text.
    fn blocks(&self) -> Vec<(usize, String, String)> {
        let mut blocks: Vec<(usize, String, String)> = Vec::new();
        let mut is_within = false;
        for (number, line) in self.text.lines().enumerate() {
            if let Some(language) = line.strip_prefix("```") {
                is_within = !is_within;
                if is_within {
                    blocks.push((number + 1, language.to_owned(), String::new()));
                }
            } else if is_within && let Some((_, _, text)) = blocks.last_mut() {
                text.extend([line, "\n"]);
            }
        }
        blocks
    }

    /// Its text without its blocks of code.
    fn prose(&self) -> String {
        let mut is_within = false;
        let kept = self.text.lines().filter(|line| {
            let is_fence = line.starts_with("```");
            is_within ^= is_fence;
            !is_within && !is_fence
        });
        kept.collect::<Vec<_>>().join("\n")
    }

    /// What its prose shows as code.
    fn spans(&self) -> Vec<String> {
        let prose = self.prose();
        prose
            .split("\n\n")
            .flat_map(|part| part.split('`').skip(1).step_by(2))
            .map(|span| span.replace('\n', " "))
            .collect()
    }
}

/// A world in which there is whatever a block speaks of.
struct Anything<'a>(&'a str);

impl Surroundings for Anything<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        let value = match name {
            "REDIS_URL" => "redis://:hunter2@127.0.0.1:6379/0".to_owned(),
            name if name.ends_with("_URL") => "https://hooks.example.com/1".to_owned(),
            // No two alike, as tokens must not be.
            _ => format!("{name}{}", "x".repeat(64)),
        };
        Some(value)
    }

    fn read(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        if path == Path::new(MAIN) {
            return Ok(self.0.into());
        }
        let alike = match path.extension().and_then(|extension| extension.to_str()) {
            Some("pem") => "web.pem",
            Some("json") if path.ends_with("keys.json") => "keys.json",
            Some("json") => "order.json",
            Some("yaml") => "api.yaml",
            Some("htpasswd") => "staff.htpasswd",
            Some(_) => "web.key",
            None => ".env",
        };
        fs::read(folder("side").join(alike))
    }

    fn names(&self, _: &Path, _: usize) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn is_folder(&self, _: &Path) -> bool {
        true
    }

    fn is_program(&self, _path: &Path) -> bool {
        true
    }
}

/// Reads a block with what it names and does not show.
fn check(block: &str) -> Result<(), Problems> {
    let mut file = block.to_owned();
    loop {
        let Err(problems) = load_from(Path::new(MAIN), None, &Anything(&file)) else { return Ok(()) };
        let missing: BTreeSet<String> =
            problems.problems.iter().filter_map(|problem| table_to_add(&problem.message)).collect();
        if missing.is_empty() {
            return Err(problems);
        }
        // What is added is there the next time, so this ends.
        file.extend(missing);
    }
}

fn table_to_add(message: &str) -> Option<String> {
    if message.starts_with("there is nothing to serve") {
        return Some("\n[service.app]\nrun = \"app\"\n".to_owned());
    }
    if message.ends_with("and no [route.*] says which one answers") {
        return Some("\n[route.app]\nat = \"/*\"\nto = \"app\"\n".to_owned());
    }
    let (kind, name) = message.strip_suffix("` does not exist")?.split_once(" `")?;
    let (table, keys) = match kind {
        "service" => ("service", "run = \"app\"".to_owned()),
        "route" => ("route", format!("at = \"/{name}\"\nto = \"app\"")),
        "receiver" => ("notify", "command = \"page\"".to_owned()),
        "issuer" => ("issuer", "url = \"https://id.example.com\"\naudience = \"app\"".to_owned()),
        "login" => ("login", "issuer = \"main\"\nclient = \"app\"".to_owned()),
        "limit" => ("limit", "rate = \"1/s\"".to_owned()),
        _ => return None,
    };
    Some(format!("\n[{table}.{name}]\n{keys}\n"))
}

/// The block as it stands, and once for each line `# key = value`, in the place of that key.
fn ways(block: &str) -> Vec<String> {
    let lines: Vec<&str> = block.lines().collect();
    let mut ways = vec![block.to_owned()];
    for (at, line) in lines.iter().enumerate() {
        let Some(other) = line
            .strip_prefix("# ")
            .filter(|other| other.parse::<Table>().is_ok_and(|table| table.len() == 1))
        else {
            continue;
        };
        let key = |line: &str| line.split('=').next().map(str::trim).map(str::to_owned);
        let replaced = lines[..at].iter().rposition(|line| key(line) == key(other));
        let mut way = lines.clone();
        way[at] = other;
        if let Some(replaced) = replaced {
            way.remove(replaced);
        }
        ways.push(way.join("\n"));
    }
    ways
}

#[test]
fn every_file_that_the_documentation_shows_is_one_that_is_taken() {
    let mut refused = Vec::new();
    let mut count = 0;
    for page in pages() {
        for (line, _, block) in page.blocks().into_iter().filter(|(_, language, _)| language == "toml") {
            for way in ways(&block) {
                count += 1;
                if let Err(problems) = check(&way) {
                    refused.push(format!("{}:{line}\n{}", page.path.display(), problems.render(false)));
                }
            }
        }
    }
    assert!(count > 20, "the blocks are found: {count}");
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Every way down to a key of the file; `*` stands for a name.
fn grammar() -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    descend(&schema(), &mut Vec::new(), &mut found);
    found
}

fn descend(schema: &Json, way: &mut Vec<String>, found: &mut BTreeSet<Vec<String>>) {
    let named =
        schema["properties"].as_object().into_iter().flatten().map(|(name, below)| (name.as_str(), below));
    let any = schema.get("additionalProperties").filter(|below| below.is_object()).map(|below| ("*", below));
    for (name, below) in named.chain(any) {
        way.push(name.to_owned());
        found.insert(way.clone());
        descend(below, way, found);
        way.pop();
    }
    let others = ["anyOf", "oneOf"].into_iter().filter_map(|kind| schema[kind].as_array()).flatten();
    for below in others.chain(schema.get("items")) {
        descend(below, way, found);
    }
}

/// The ways down to the keys of a table, within the tables of its lists too.
fn keys_of(table: &Table) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (key, value) in table {
        let tables: Vec<&Table> = match value {
            Value::Table(inner) => vec![inner],
            Value::Array(items) => items.iter().filter_map(Value::as_table).collect(),
            _ => Vec::new(),
        };
        found.push(vec![key.clone()]);
        let below = tables.into_iter().flat_map(keys_of);
        found.extend(below.map(|way| [vec![key.clone()], way].concat()));
    }
    found
}

/// The keys that a piece of code names: of `key = value`, of `[table] key = value` and of `[table] key`, with the table's name in
/// front; and that name itself where it stands for any. Nothing for what is no piece of the file.
fn named_keys(span: &str, tables: &Json) -> Vec<Vec<String>> {
    let Some((table, keys)) = span.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return if span.contains(" = ") { keys_in(span) } else { Vec::new() };
    };
    let (name, is_any) = match table.split_once('.') {
        Some((name, rest)) => (name, rest == "*" || rest == "NAME"),
        None => (table, false),
    };
    let before = match &tables[name]["additionalProperties"] {
        named if named.is_object() => vec![name.to_owned(), "*".to_owned()],
        Json::Bool(_) => vec![name.to_owned()],
        _ if is_any => return vec![vec![name.to_owned()]],
        _ => return Vec::new(),
    };
    let keys = if keys.contains(" = ") { keys_in(keys.trim()) } else { keys_in(&format!("{keys} = 1")) };
    keys.into_iter().map(|way| [before.clone(), way].concat()).collect()
}

fn keys_in(text: &str) -> Vec<Vec<String>> {
    text.replace('…', "1").parse::<Table>().map_or_else(|_| Vec::new(), |table| keys_of(&table))
}

/// Whether some key of the file is called so, wherever it stands.
fn is_key(way: &[String], grammar: &BTreeSet<Vec<String>>) -> bool {
    grammar.iter().any(|known| {
        let Some(end) = known.len().checked_sub(way.len()).map(|from| &known[from..]) else { return false };
        // A name that anybody chooses is known by the table that it stands in.
        end.first() == way.first() && end.iter().zip(way).all(|(known, name)| known == "*" || known == name)
    })
}

#[test]
fn every_key_that_is_named_in_passing_is_one() {
    let (grammar, schema) = (grammar(), schema());
    let mut unknown = Vec::new();
    let mut count = 0;
    // The reference has a test of its own, and who changes Terrace reads of other files than its own.
    let others = ["docs/reference.md", "CONTRIBUTING.md"].map(Path::new);
    for page in pages().iter().filter(|page| !others.contains(&page.path.as_path())) {
        for span in page.spans() {
            let keys = named_keys(&span, &schema["properties"]);
            count += keys.len();
            if keys.iter().any(|way| !is_key(way, &grammar)) {
                unknown.push(format!("{}: `{span}`", page.path.display()));
            }
        }
    }
    assert!(count > 50, "keys are found: {count}");
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

/// The keys in the tables of the reference: each with the table that it is told of.
fn keys_of_reference() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut table = String::new();
    for line in reference().lines() {
        if let Some(name) = line.strip_prefix("## `") {
            table = name.trim_matches(['[', ']', '`']).replace("NAME", "*");
            found.insert(table.trim_end_matches(".*").to_owned());
        } else if let Some((key, _)) = line.strip_prefix("| `").and_then(|row| row.split_once("` |")) {
            found.insert(format!("{table}.{}", key.replace("[]", "")));
        }
    }
    found
}

/// The keys that the reference must tell. Policies are told in one place; names that anybody chooses, and what stands below them
/// within a table, nowhere.
fn keys_to_be_told() -> BTreeSet<String> {
    let grammar = grammar();
    let of_policy =
        |way: &[String]| grammar.contains(&[&["policy".to_owned(), "*".to_owned()], way].concat());
    let is_told = |way: &&Vec<String>| {
        let within = match way[0].as_str() {
            "service" | "route" => way.get(2..).unwrap_or_default(),
            "defaults" => &way[1..],
            _ => &[],
        };
        let is_chosen =
            way.iter().skip(2).any(|name| name == "*") || way.last().is_some_and(|name| name == "*");
        !is_chosen && (within.is_empty() || !of_policy(within))
    };
    grammar.iter().filter(is_told).map(|way| way.join(".")).collect()
}

#[test]
fn the_reference_names_every_key_and_no_other() {
    // What a secret may be stands at the top of the page.
    let is_no_secret = |key: &String| !key.ends_with(".env") && !key.ends_with(".file");
    let of_file: BTreeSet<String> = keys_to_be_told().into_iter().filter(is_no_secret).collect();
    let of_reference: BTreeSet<String> = keys_of_reference().into_iter().filter(is_no_secret).collect();
    let missing: Vec<&String> = of_file.difference(&of_reference).collect();
    let invented: Vec<&String> = of_reference.difference(&of_file).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "not told: {missing:?}; not in the file: {invented:?}"
    );
}

/// What GitHub calls a heading: small letters, digits, `-` and `_`, blanks as `-`.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|letter| letter.is_alphanumeric() || "-_ ".contains(*letter))
        .collect::<String>()
        .replace(' ', "-")
}

/// Whether there is a file that a link of a page means, and in it the heading.
fn leads_somewhere(link: &str, page: &Path) -> bool {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let folder = page.parent().unwrap_or_else(|| Path::new(""));
    let target = repository().join(if file.is_empty() { page.to_owned() } else { folder.join(file) });
    if heading.is_empty() {
        return target.exists();
    }
    let text = fs::read_to_string(target).unwrap_or_default();
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    headings.any(|line| anchor(line.trim_start_matches('#')) == heading)
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = Vec::new();
    for page in pages() {
        let prose = page.prose();
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        let dead_ones = links.filter(|link| !link.contains("://") && !leads_somewhere(link, &page.path));
        dead.extend(dead_ones.map(|link| format!("{}: {link}", page.path.display())));
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// A line as a shell splits it into words, up to a comment or to another command.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '#' | '|' | ';' | '&' | '>') => break,
            (None, letter) if letter.is_whitespace() => words.push(std::mem::take(&mut word)),
            (_, letter) => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The commands that a block shows to be typed.
fn commands(language: &str, block: &str) -> Vec<Vec<String>> {
    let typed = block.lines().filter_map(|line| match language {
        "console" => line.strip_prefix("$ "),
        "sh" | "" => Some(line.strip_prefix("sudo ").unwrap_or(line)),
        _ => None,
    });
    typed.filter(|line| line.starts_with("terrace ")).map(words).collect()
}

#[test]
fn every_command_that_is_shown_is_understood() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let blocks = page.blocks();
        for command in blocks.iter().flat_map(|(_, language, block)| commands(language, block)) {
            count += 1;
            if let Err(error) = Cli::try_parse_from(&command) {
                wrong.push(format!("{}: {}\n{error}", page.path.display(), command.join(" ")));
            }
        }
        for span in page.spans().iter().filter_map(|span| span.strip_prefix("terrace ")) {
            let named = span.split(' ').next().unwrap_or_default();
            let is_name = named.starts_with(|first: char| first.is_ascii_lowercase());
            if is_name && Cli::command().find_subcommand(named).is_none() {
                wrong.push(format!("{}: there is no `terrace {named}`", page.path.display()));
            }
        }
    }
    assert!(count > 20, "commands are found: {count}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_chain_of_the_architecture_names_files_that_are_there() {
    let map = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let section = map.split("\n## ").find(|section| section.starts_with("The chain\n")).unwrap();
    let named: Vec<&str> =
        section.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")).collect();
    let edge = repository().join("crates/edge/src");
    let gone: Vec<&&str> = named.iter().filter(|name| !edge.join(name).exists()).collect();
    assert!(named.len() > 20 && gone.is_empty(), "gone: {gone:?}");
}

/// Every name of a metric that stands in quotes in our sources.
fn metrics_of_sources() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![repository().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_source = path.components().any(|part| part.as_os_str() == "src");
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") if is_source => {
                    let text = fs::read_to_string(path).unwrap();
                    let quoted = text.split('"').filter(|text| text.starts_with("terrace_"));
                    found.extend(quoted.map(str::to_owned));
                }
                None if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    found
}

#[test]
fn every_metric_that_is_named_is_one() {
    let known = metrics_of_sources();
    // What the text formats add to a family's name, and the shortened names of a family's siblings.
    let endings = [
        "",
        "_total",
        "_seconds",
        "_bytes",
        "_ratio",
        "_seconds_total",
        "_bytes_total",
        "_seconds_bucket",
        "_seconds_count",
    ];
    let is_known = |name: &str| {
        endings.iter().any(|end| name.strip_suffix(end).is_some_and(|base| known.contains(base)))
    };
    let mut unknown = Vec::new();
    for page in pages() {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let words = page.text.split(|letter| !is_part(letter)).filter(|word| word.starts_with("terrace_"));
        let unknown_ones = words.filter(|word| !is_known(word) && !word.ends_with('_'));
        unknown.extend(unknown_ones.map(|word| format!("{}: {word}", page.path.display())));
    }
    assert!(known.len() > 80, "metrics are found: {}", known.len());
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}
