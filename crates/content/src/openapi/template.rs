//! Path templates (OpenAPI 3.1, section 4.8.8.2): `/orders/{id}/items`, matched segment by segment. Of several that match,
//! the one that says more by itself is meant: `/orders/new` before `/orders/{id}`.

use terrace_http::normalise;

/// A path with names in the place of some of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    segments: Vec<Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Name(String),
}

impl Template {
    /// Reads a template; the error says why it is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else { return Err("a path begins with /".to_owned()) };
        let segments = path.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        let template = Self { segments };
        let mut names: Vec<&str> = template.names().collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("the name {} stands twice in it", pair[0])),
            None => Ok(template),
        }
    }

    /// The names in it, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().flatten().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    pub(super) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Orders templates by how much they say: literal segments before those with names, from the left.
    pub(super) fn order(&self) -> Vec<bool> {
        let has_name = |segment: &Vec<Part>| segment.iter().any(|part| matches!(part, Part::Name(_)));
        self.segments.iter().map(has_name).collect()
    }

    /// What stands in the place of the names, in order, if the path is one of these. Nothing is decoded yet.
    pub(super) fn values<'p>(&self, segments: &[&'p str]) -> Option<Vec<&'p str>> {
        let mut values = Vec::new();
        if segments.len() != self.segments.len() {
            return None;
        }
        for (parts, segment) in self.segments.iter().zip(segments) {
            take_parts(parts, segment, &mut values)?;
        }
        Some(values)
    }
}

fn segment(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let open = rest.find('{').unwrap_or(rest.len());
        let (literal, after) = rest.split_at(open);
        if literal.contains('}') {
            return Err("a brace is closed that was not opened".to_owned());
        }
        if !literal.is_empty() {
            let whole = format!("/{literal}");
            let normal = normalise(&whole).map_err(|error| error.to_string())?;
            parts.push(Part::Literal(normal[1..].to_owned()));
        }
        let Some(named) = after.strip_prefix('{') else { break };
        let Some((name, after)) = named.split_once('}') else {
            return Err("a brace is not closed".to_owned());
        };
        if name.is_empty() || name.contains('{') || matches!(parts.last(), Some(Part::Name(_))) {
            return Err("names stand in braces, with something between two of them".to_owned());
        }
        parts.push(Part::Name(name.to_owned()));
        rest = after;
    }
    Ok(parts)
}

fn take_parts<'p>(parts: &[Part], segment: &'p str, values: &mut Vec<&'p str>) -> Option<()> {
    let mut rest = segment;
    for (place, part) in parts.iter().enumerate() {
        match part {
            Part::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
            Part::Name(_) => {
                // Up to the next literal; the last name before a literal at the end takes as much as it can.
                let end = match &parts[place + 1..] {
                    [Part::Literal(literal)] => rest.rfind(literal.as_str())?,
                    [Part::Literal(literal), ..] => rest.find(literal.as_str())?,
                    _ => rest.len(),
                };
                // An empty value would make `/orders/` one of `/orders/{id}`.
                if end == 0 {
                    return None;
                }
                let (value, after) = rest.split_at(end);
                values.push(value);
                rest = after;
            }
        }
    }
    rest.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(template: &str, path: &'static str) -> Option<Vec<&'static str>> {
        let segments: Vec<&str> = path[1..].split('/').collect();
        Template::parse(template).expect("a template").values(&segments)
    }

    #[test]
    fn names_take_what_stands_in_their_place() {
        assert_eq!(values("/orders/{id}/items", "/orders/7/items"), Some(vec!["7"]));
        assert_eq!(values("/files/{name}.json", "/files/a.b.json"), Some(vec!["a.b"]));
        assert_eq!(values("/{a}-{b}", "/x-y-z"), Some(vec!["x", "y-z"]));
        assert_eq!(values("/", "/"), Some(vec![]));
        assert_eq!(values("/sp%20ace/%c3%a9", "/sp%20ace/%C3%A9"), Some(vec![]));
    }

    #[test]
    fn what_does_not_fit_does_not() {
        for (template, path) in [
            ("/orders/{id}", "/orders/"),
            ("/orders/{id}", "/orders/7/"),
            ("/orders/{id}", "/orders"),
            ("/orders", "/Orders"),
            ("/files/{name}.json", "/files/.json"),
            ("/files/{name}.json", "/files/a.jso"),
        ] {
            assert_eq!(values(template, path), None, "{template} {path}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["orders", "/{", "/}", "/{}", "/{a}{b}", "/{a}/{a}", "/{a{b}}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
