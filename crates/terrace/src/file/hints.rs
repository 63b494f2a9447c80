//! What is not wrong in a file, and yet hardly meant: told once, by `terrace check` and when the file is taken into use.

use terrace_signals::alerts::Severity;

use super::Resolved;

impl Resolved {
    /// Sentences for whoever wrote the file, each with what to do; usually none.
    pub fn hints(&self) -> Vec<String> {
        calls_nobody(self).into_iter().collect()
    }
}

/// A promise that is broken, or a bound that is passed, and nobody is called.
fn calls_nobody(resolved: &Resolved) -> Option<String> {
    if !resolved.receivers.is_empty() {
        return None;
    }
    let objectives = resolved.objectives.keys().map(|name| format!("[objective.{name}]"));
    // What only informs may well be meant for whoever looks.
    let grave = resolved.alerts.values().filter(|alert| alert.severity > Severity::Info);
    let alerts = grave.map(|alert| format!("[alert.{}]", alert.name));
    let mut all = objectives.chain(alerts);
    let first = all.next()?;
    let who = match all.count() {
        0 => format!("{first} calls nobody"),
        1 => format!("{first} and one more call nobody"),
        others => format!("{first} and {others} more call nobody"),
    };
    Some(format!(
        "{who}: there is no [notify.*], so what fires is seen by `terrace alerts` and in the dashboard alone; \
         add one, such as [notify.oncall] with webhook = \"https://…\""
    ))
}
