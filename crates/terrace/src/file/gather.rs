//! From the main file to one tree: what it includes is added, and the file of an environment is laid over it.
//!
//! `include` adds: the same table in two files is a mistake, told with both places. The overlay of `--env NAME`
//! (`terrace.NAME.toml` beside `terrace.toml`) replaces, key by key.

use std::path::{Component, Path, PathBuf};

use super::problem::Finding;
use super::read::{Reader, io_reason};
use super::root;
use super::source::{Origin, Place};
use super::spec::lay_over;
use super::tree::{Layer, Node, Table, Value, parse};

/// Bytes of one file of the configuration at most.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files that all `include` patterns may match together.
pub(crate) const INCLUDES_MAX: usize = 256;
/// Names looked at in a folder for a pattern.
const FOLDER_NAMES_MAX: usize = 65_536;

/// Reads the main file at `path` with everything that belongs to it. `None`: a finding says why.
pub(crate) fn gather(path: &Path, environment: Option<&str>, reader: &mut Reader<'_>) -> Option<Node> {
    let main = read_asked(path, "write it, or run a command without a file: terrace up -- COMMAND", reader)?;
    let mut tree = with_includes(main, path, reader);
    if let Some(name) = environment {
        let overlay = overlay_path(path, name, reader)?;
        let over = read_asked(&overlay, "write it, or leave --env out", reader)?;
        let over = with_includes(over, path, reader);
        lay_over(&mut tree, over, &root::shape());
    }
    Some(tree)
}

/// `terrace.toml` and `production` make `terrace.production.toml`.
fn overlay_path(path: &Path, name: &str, reader: &mut Reader<'_>) -> Option<PathBuf> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(known) {
        let message = format!("{name:?} is no name of an environment (letters, digits, - and _)");
        return reader.refuse(Finding::new(Origin::BuiltIn, message));
    }
    let extension = path.extension().map_or_else(|| "toml".into(), |extension| extension.to_string_lossy());
    Some(path.with_extension(format!("{name}.{extension}")))
}

/// A file that the command line asks for. `help`: what to do when it is not there.
fn read_asked(path: &Path, help: &str, reader: &mut Reader<'_>) -> Option<Node> {
    let tree = read_file(path, Origin::BuiltIn, reader);
    if let (None, Some(finding)) = (&tree, reader.findings.last_mut())
        && finding.origin == Origin::BuiltIn
    {
        finding.help = Some(help.to_owned());
    }
    tree
}

/// A file as a tree. `named_at`: where the file is asked for.
fn read_file(path: &Path, named_at: Origin, reader: &mut Reader<'_>) -> Option<Node> {
    reader.watch.insert(path.to_owned());
    let bytes = match reader.surroundings().read(path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("cannot read {}: {}", path.display(), io_reason(&error));
            return reader.refuse(Finding::new(named_at, message));
        }
    };
    let text = text_of(path, bytes, reader)?;
    let file = reader.sources.add(path, text);
    let mut findings = Vec::new();
    let table = parse(reader.sources.text(file), file, &mut findings);
    findings.into_iter().for_each(|finding| reader.report_syntax(finding));
    let origin = Origin::Text(Place { file, start: 0, end: 0 });
    Some(Node { value: Value::Table(table), origin, layer: Layer::Own })
}

fn text_of(path: &Path, bytes: Vec<u8>, reader: &mut Reader<'_>) -> Option<String> {
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let file = reader.sources.add(path, String::from_utf8_lossy(error.as_bytes()).into_owned());
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            let origin = Origin::Text(Place { file, start: at, end: at + 1 });
            reader
                .refuse(Finding::new(origin, "TOML is UTF-8, and this byte is not").help("save it as UTF-8"))
        }
    }
}

/// The tree with the files that its `include` names added. `main`: the main file, which no pattern includes.
fn with_includes(mut tree: Node, main: &Path, reader: &mut Reader<'_>) -> Node {
    let Value::Table(table) = &mut tree.value else { return tree };
    let Some(include) = table.remove("include") else { return tree };
    for (path, origin) in included(&include.node, reader) {
        if is_of_main(&path, main) {
            continue;
        }
        let Some(mut part) = read_file(&path, origin, reader) else { continue };
        let Value::Table(part) = &mut part.value else { continue };
        if let Some(nested) = part.remove("include") {
            reader.report(Finding::new(nested.key, "only the main file includes others"));
        }
        unite(table, std::mem::take(part), Depth::Kind, reader);
    }
    tree
}

/// Whether `path` is the main file or an overlay of it: `include = ["*.toml"]` does not mean them.
fn is_of_main(path: &Path, main: &Path) -> bool {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let (Some(name), Some(stem)) = (stem(path), stem(main)) else { return false };
    let is_overlay = name.strip_prefix(&stem).is_some_and(|rest| rest.starts_with('.'));
    path == main || (path.parent() == main.parent() && is_overlay)
}

/// How deep two tables are united: `[service.*]` of both files, but never one `[service.web]` from two files.
#[derive(Clone, Copy)]
enum Depth {
    /// At `service`, `listen`, `terrace`.
    Kind,
    /// At a name, or a key of a table that has no names.
    Name,
}

fn unite(base: &mut Table, part: Table, depth: Depth, reader: &mut Reader<'_>) {
    for (name, entry) in part {
        let Some(known) = base.get_mut(&name) else {
            base.insert(name, entry);
            continue;
        };
        match (depth, &mut known.node.value, entry.node.value) {
            (Depth::Kind, Value::Table(known), Value::Table(more)) => unite(known, more, Depth::Name, reader),
            (Depth::Kind | Depth::Name, _, _) => {
                let finding = Finding::new(entry.key, format!("`{name}` is defined in two files"));
                reader.report(finding.other(known.key, "here as well"));
            }
        }
    }
}

/// The files that the value of `include` names, each with its place; in the order of their names.
fn included(node: &Node, reader: &mut Reader<'_>) -> Vec<(PathBuf, Origin)> {
    let Value::List(items) = &node.value else {
        let _refused: Option<()> = reader.unexpected(node, "a list of paths like [\"routes/*.toml\"]", None);
        return Vec::new();
    };
    let mut found: Vec<(PathBuf, Origin)> = Vec::new();
    for item in items {
        let Some(pattern) = item.text() else {
            let _refused: Option<()> = reader.unexpected(item, "a path like \"routes/*.toml\"", None);
            continue;
        };
        for path in matching(pattern, item.origin, reader) {
            if found.len() == INCLUDES_MAX {
                reader.report(Finding::new(
                    item.origin,
                    format!("more than {INCLUDES_MAX} files are included"),
                ));
                return found;
            }
            if !found.iter().any(|(known, _)| *known == path) {
                found.push((path, item.origin));
            }
        }
    }
    found
}

/// The files that a pattern matches: `*` and `?` stand for characters within one name.
fn matching(pattern: &str, origin: Origin, reader: &mut Reader<'_>) -> Vec<PathBuf> {
    if pattern.contains("**") {
        let finding = Finding::new(origin, "`**` is not known here: `*` stands for one name");
        reader.report(finding.help("name each folder: [\"routes/*.toml\", \"routes/*/*.toml\"]"));
        return Vec::new();
    }
    let mut paths = vec![PathBuf::new()];
    for component in Path::new(pattern).components() {
        let name = component.as_os_str().to_string_lossy();
        let is_pattern = matches!(component, Component::Normal(_)) && name.contains(['*', '?']);
        if is_pattern {
            paths = step(&paths, &name, reader);
        } else {
            paths.iter_mut().for_each(|path| path.push(component));
        }
    }
    paths.into_iter().map(|path| reader.folder.join(path)).collect()
}

/// Every name in these folders that matches. The folders are watched, so that a new file is noticed.
fn step(folders: &[PathBuf], pattern: &str, reader: &mut Reader<'_>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        let place = reader.folder.join(folder);
        reader.watch.insert(place.clone());
        // A folder that is not there holds no files: the pattern may be ahead of them.
        let names = reader.surroundings().names(&place, FOLDER_NAMES_MAX).unwrap_or_default();
        // Hidden files are the editor's, not the user's: `.#orders.toml`.
        let visible = names.iter().filter(|name| !name.starts_with('.'));
        found.extend(
            visible
                .filter(|name| is_match(pattern.as_bytes(), name.as_bytes()))
                .map(|name| folder.join(name)),
        );
        found.truncate(INCLUDES_MAX + 1);
    }
    found
}

/// Whether `name` has the form of `pattern`. On a mismatch the last `*` takes one more byte: linear in practice,
/// and never worse than the product of both lengths.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::is_match;

    #[test]
    fn a_star_stands_for_any_characters_of_a_name() {
        let is = |pattern: &str, name: &str| is_match(pattern.as_bytes(), name.as_bytes());
        assert!(
            is("*.toml", "orders.toml") && is("*", "x") && is("a*b*c", "aXbYbZc") && is("?.toml", "a.toml")
        );
        assert!(!is("*.toml", "orders.toml.bak") && !is("a*b", "ac") && !is("?", "") && !is("a", "ab"));
    }
}
