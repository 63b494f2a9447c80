//! `terrace fault`: breaks a route on purpose for a while, and says what is broken.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use terrace_admin::client::{self, ClientError};
use terrace_runtime::clock;
use terrace_telemetry::for_terminal;

use super::{Paint, encoded, print, values};
use crate::cli::{Fault, Global};
use crate::figures::{age, percent, seconds};

/// Asks, and prints the answer.
pub(super) async fn run(socket: &Path, fault: &Fault, global: &Global) -> Result<(), ClientError> {
    if let Some(which) = &fault.end {
        let path = format!("/v1/faults/{}/end", encoded(which));
        let value = client::request(socket, "POST", &path, Some(&json!({}))).await?;
        print(global, &value, |_| ended(&value));
        return Ok(());
    }
    let (Some(route), Some(lasts)) = (&fault.route, fault.lasts) else {
        let value = client::request(socket, "GET", "/v1/faults", None).await?;
        print(global, &value, |paint| list(&value, clock::wall(), paint));
        return Ok(());
    };
    let headers: Map<String, Value> =
        fault.header.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let body = json!({
        "route": route,
        "delay_seconds": fault.delay.map(|delay| delay.as_secs_f64()),
        "abort": fault.abort,
        "share": fault.share,
        "headers": headers,
        "seconds": lasts.as_secs_f64(),
    });
    let value = client::request(socket, "POST", "/v1/faults", Some(&body)).await?;
    print(global, &value, |_| {
        let sentence = sentence(&value, clock::wall());
        format!("{sentence}; terrace fault --end {} ends that\n", value["id"])
    });
    Ok(())
}

fn ended(value: &Value) -> String {
    values(&value["ended"]).map(|fault| format!("fault {} is over\n", fault["id"])).collect()
}

fn list(value: &Value, now: SystemTime, paint: Paint) -> String {
    let mut out = String::new();
    for fault in values(&value["faults"]) {
        let id = match fault["id"].as_u64() {
            Some(id) => id.to_string(),
            None => "file".to_owned(),
        };
        let _infallible = writeln!(out, "{} {}", paint.bold(&format!("{id:>4}")), sentence(fault, now));
    }
    if out.is_empty() {
        out.push_str("nothing is broken on purpose\n");
    }
    out
}

/// `10 % of the requests to orders wait 500 ms, for another 4 min`
pub(super) fn sentence(fault: &Value, now: SystemTime) -> String {
    let route = fault["route"].as_str().unwrap_or_default();
    let headers: Vec<&str> = values(&fault["headers"]).filter_map(Value::as_str).collect();
    let whose = if headers.is_empty() { String::new() } else { format!(" with {}", headers.join(", ")) };
    let mut what = Vec::new();
    if let Some(delay) = fault["delay_seconds"].as_f64() {
        what.push(format!("wait {}", seconds(Some(delay))));
    }
    if let Some(status) = fault["abort"].as_u64() {
        what.push(format!("are answered {status}"));
    }
    let until = fault["until"].as_f64().unwrap_or_default();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let left = age((until - now).max(0.0).round() as u64);
    let share = percent(fault["share"].as_f64());
    let told =
        format!("{share} of the requests to {route}{whose} {}, for another {left}", what.join(" and "));
    for_terminal(&told, false)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_broken_is_told_in_sentences() {
        let fault = json!({
            "id": 3, "route": "orders", "delay_seconds": 0.5, "abort": 503, "share": 0.1,
            "headers": ["x-test: 1\u{1b}[2J"], "until": 1_000.0,
        });
        let of_file =
            json!({ "id": null, "route": "web", "abort": 500, "share": 1.0, "headers": [], "until": 5.0 });
        let now = UNIX_EPOCH + Duration::from_secs(760);
        let told = list(&json!({ "faults": [fault, of_file] }), now, Paint(false));
        let expected = "   3 10 % of the requests to orders with x-test: 1[2J wait 500 ms and are answered 503, for another 4 min\n\
                        file 100 % of the requests to web are answered 500, for another 0 s\n";
        assert_eq!(told, expected);
        assert_eq!(list(&json!({ "faults": [] }), now, Paint(false)), "nothing is broken on purpose\n");
    }
}
