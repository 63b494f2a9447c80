//! Splitting a command line into words, as a POSIX shell does (Shell Command Language, section 2.2), and no more.
//!
//! No shell runs the command: quotes and backslashes mean what they mean there, but what only a shell could do
//! (variables, pipes, redirections, lists of commands) is refused, so that nobody finds out in production that
//! `&&` was handed to `node` as an argument.

/// Why a line cannot be split.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SplitError {
    /// This character, which is what the text says to a shell.
    #[error("`{0}` is {1} to a shell, but no shell runs this")]
    NeedsShell(char, &'static str),
    #[error("a {0} quote is not closed")]
    Open(&'static str),
    #[error("the backslash at the end escapes nothing")]
    Backslash,
}

/// The words of `line`.
pub(crate) fn split(line: &str) -> Result<Vec<String>, SplitError> {
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
                None => return Err(SplitError::Backslash),
            },
            '$' | '`' | '|' | '&' | ';' | '<' | '>' | '*' => return Err(needs_shell(character)),
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Ok(words)
}

fn needs_shell(character: char) -> SplitError {
    let what = match character {
        '$' => "a variable",
        '`' => "a command in a command",
        '|' => "a pipe",
        '&' | ';' => "several commands",
        '<' | '>' => "a redirection",
        _ => "a pattern",
    };
    SplitError::NeedsShell(character, what)
}

fn single_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), SplitError> {
    for character in rest {
        match character {
            '\'' => return Ok(()),
            plain => word.push(plain),
        }
    }
    Err(SplitError::Open("single"))
}

fn double_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), SplitError> {
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
    Err(SplitError::Open("double"))
}

#[cfg(test)]
mod tests {
    use super::{SplitError, split};

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
            assert!(matches!(split(line), Err(SplitError::NeedsShell(_, _))), "{line}");
        }
        assert_eq!(split("a 'b"), Err(SplitError::Open("single")));
        assert_eq!(split("a \"b\\"), Err(SplitError::Open("double")));
    }
}
