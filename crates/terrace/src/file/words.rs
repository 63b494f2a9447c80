//! Splitting a command line into words, as a POSIX shell does (Shell Command Language, section 2.2), and no more.
//!
//! No shell runs the command: quotes and backslashes mean what they mean there, but what only a shell could do
//! (variables, pipes, redirections, lists of commands) is refused, so that nobody finds out in production that
//! `&&` was handed to `node` as an argument.

/// The words of `line`.
///
/// # Errors
/// A sentence: what would need a shell, or which quote is not closed.
pub(crate) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => single_quoted(&mut rest, word.get_or_insert_default())?,
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => match rest.next() {
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err("the backslash at the end escapes nothing".to_owned()),
            },
            '$' | '`' | '|' | '&' | ';' | '<' | '>' | '*' => return Err(needs_shell(character)),
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Ok(words)
}

fn needs_shell(character: char) -> String {
    let what = match character {
        '$' => "a variable",
        '`' => "a command in a command",
        '|' => "a pipe",
        '&' | ';' => "several commands",
        '<' | '>' => "a redirection",
        _ => "a pattern",
    };
    format!("`{character}` is {what} to a shell, but no shell runs this")
}

fn single_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    for character in rest {
        match character {
            '\'' => return Ok(()),
            plain => word.push(plain),
        }
    }
    Err("a single quote is not closed".to_owned())
}

fn double_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    while let Some(character) = rest.next() {
        match character {
            '"' => return Ok(()),
            '$' | '`' => return Err(needs_shell(character)),
            '\\' => match rest.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some(plain) => word.extend(['\\', plain]),
                None => break,
            },
            plain => word.push(plain),
        }
    }
    Err("a double quote is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_split_as_in_a_shell() {
        let split = |line| split(line).unwrap();
        assert_eq!(split("node  orders.js"), ["node", "orders.js"]);
        assert_eq!(
            split(r#"app --name "two words" '' a\ b 'it''s'"#),
            ["app", "--name", "two words", "", "a b", "its"]
        );
        assert_eq!(split(r#"x "a\"b\n" '$HOME'"#), ["x", "a\"b\\n", "$HOME"]);
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        for line in ["a && b", "a | b", "a > f", "serve $PORT", "a \"$X\"", "a; b", "ls *.js"] {
            assert!(split(line).unwrap_err().contains("shell"), "{line}");
        }
        assert!(split("a 'b").unwrap_err().contains("not closed"));
        assert!(split("a \"b\\").unwrap_err().contains("not closed"));
    }
}
