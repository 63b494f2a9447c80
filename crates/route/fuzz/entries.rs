//! What the fuzzers call, and what must hold of every input. An input is lines: the first words are the operator's, the
//! last line is a stranger's path.

use terrace_route::{
    Conditions, Match, Pattern, QueryEdit, Redirect, Request, Rewrite, Rule, Strip, Table, ValueName,
    ValueSource, ValueTemplate,
};

/// A request with nothing but host and path.
struct Asked<'a> {
    host: &'a str,
    path: &'a str,
}

impl Request for Asked<'_> {
    fn method(&self) -> &str {
        "GET"
    }

    fn host(&self) -> &str {
        self.host
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> Option<&str> {
        Some("q=%0d%0a&x")
    }

    fn header(&self, _: &str) -> Option<&[u8]> {
        None
    }
}

/// A pattern: its text reads as the same pattern, faults point into the text.
pub(crate) fn pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Pattern::parse(text) {
        Ok(pattern) => assert_eq!(Pattern::parse(pattern.as_str()).as_ref(), Ok(&pattern)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A table of a rule for each line but the last: what it finds is one of its rules, and captures are pieces of the path.
pub(crate) fn table(data: &[u8]) {
    let Some((patterns, asked)) = lines(data) else { return };
    let Some(table) = built(&patterns) else { return };
    let Some(found) = table.find(table.listener("any"), &asked) else { return };
    let pattern = table.pattern(found.rule, found.at).expect("of a rule of the table");
    for (position, _) in pattern.names().enumerate() {
        let capture = found.captures.text(asked.path, position).expect("each name captures");
        assert!(asked.path.contains(capture));
    }
}

/// A template, its pattern, and a path: what comes out is an address that begins where the template says, on one line.
pub(crate) fn template(data: &[u8]) {
    let Some((words, asked)) = lines(data) else { return };
    let [template, pattern] = words[..] else { return };
    let Ok(pattern) = Pattern::parse(pattern) else { return };
    let Some(found) = built(&[pattern.as_str()]).and_then(|table| table.find(table.listener("any"), &asked))
    else {
        return;
    };
    let patterns = [pattern];
    stays_rooted(template, &patterns, &asked, &found);
    if let Ok(redirect) = Redirect::parse(template, &patterns)
        && let Ok(location) = redirect.expand(&asked, &found)
    {
        is_one_line(&location);
        assert!(!location.starts_with("//") && !location.contains('\\'), "{location:?}");
    }
    if let Ok(strip) = Strip::new(template, &patterns) {
        let rest = strip.apply(asked.path);
        assert!(rest.starts_with('/') && !rest.starts_with("//"), "{rest:?}");
    }
}

/// Names that fill in what a stranger may have sent: here the path, line ends and all.
struct Strange<'a>(&'a str);

impl ValueSource for Strange<'_> {
    fn write(&self, _: &ValueName, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
        out.extend_from_slice(b"\r\n\0 ");
    }
}

/// A value, a pattern, and a path: what comes out is one field's value, and one parameter of a query.
pub(crate) fn value(data: &[u8]) {
    let Some((words, asked)) = lines(data) else { return };
    let [template, pattern] = words[..] else { return };
    let Ok(pattern) = Pattern::parse(pattern) else { return };
    let found = built(&[pattern.as_str()]).and_then(|table| table.find(table.listener("any"), &asked));
    let Ok(value) = ValueTemplate::parse(template, &[pattern]) else { return };
    let (source, mut out) = (Strange(asked.path), Vec::new());
    if value.expand(&asked, found.as_ref(), &source, &mut out).is_ok() {
        assert!(out.iter().all(|byte| matches!(byte, b' '..=b'~')), "{out:?}");
        assert!(!out.starts_with(b" ") && !out.ends_with(b" "));
    }
    let edit = QueryEdit::new(vec![("p".to_owned(), value)], vec!["q".to_owned()]).expect("valid");
    if let Ok(Some(query)) = edit.apply(&asked, found.as_ref(), &source) {
        is_one_line(&query);
        assert!(query.split('&').filter(|pair| *pair != "x").count() <= 1, "{query:?}");
    }
}

fn stays_rooted(template: &str, patterns: &[Pattern], asked: &Asked<'_>, found: &Match) {
    let Ok(rewrite) = Rewrite::parse(template, patterns) else { return };
    let Ok(target) = rewrite.expand(asked, found) else { return };
    is_one_line(&target);
    assert!(target.starts_with('/'), "{target:?}");
    let path = target.split('?').next().unwrap_or_default();
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{target:?}");
}

fn is_one_line(text: &str) {
    assert!(text.bytes().all(|byte| byte > b' ' && byte != 127), "{text:?}");
}

/// The lines before the last, and a request for the last: a path in normal form, as the edge hands it in.
fn lines(data: &[u8]) -> Option<(Vec<&str>, Asked<'_>)> {
    let text = std::str::from_utf8(data).ok()?;
    let mut lines: Vec<&str> = text.split('\n').take(16).collect();
    let path = lines.pop()?;
    let is_plain = |byte: u8| matches!(byte, b'!' | b'$'..=b'>' | b'@'..=b'[' | b']'..=b'~');
    let is_normal = path.starts_with('/')
        && path.bytes().all(is_plain)
        && !path[1..].split('/').rev().skip(1).any(str::is_empty)
        && !path.split('/').any(|segment| matches!(segment, "." | ".."));
    is_normal.then_some((lines, Asked { host: "shop.example.com", path }))
}

fn built(patterns: &[&str]) -> Option<Table> {
    let rule = |(index, text): (usize, &&str)| {
        let at = vec![Pattern::parse(text).ok()?];
        Some(Rule { name: format!("r{index}"), at, conditions: Conditions::default(), listeners: Vec::new() })
    };
    Table::build(patterns.iter().enumerate().filter_map(rule).collect()).ok()
}
