//! Metrics of others: both grammars, what is wrong with a line, what is left out, and that what is written again reads
//! the same.

use std::sync::Arc;

use proptest::prelude::*;
use terrace_instruments::Kind;
use terrace_signals::series::text::{
    Dialect, Problem, Text, TextBounds, TextKind, canonical, merge, parse, write,
};

fn read(text: &str) -> Text {
    parse(text.as_bytes(), Dialect::Prometheus, &TextBounds::default()).expect("it is well written")
}

fn read_open(text: &str) -> Text {
    parse(text.as_bytes(), Dialect::OpenMetrics, &TextBounds::default()).expect("it is well written")
}

fn refused(text: &str) -> (usize, Problem) {
    let error = parse(text.as_bytes(), Dialect::Prometheus, &TextBounds::default()).expect_err("it is not");
    (error.line, error.problem)
}

/// Name, labels, kind and value of each sample.
fn samples(text: &Text) -> Vec<(String, String, Kind, f64)> {
    let shown = |labels: &[(Arc<str>, Arc<str>)]| {
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
    };
    let all = text.to_samples();
    all.iter().map(|one| (one.name.to_string(), shown(&one.labels), one.kind, one.value)).collect()
}

const OLD: &str = "# HELP orders_placed_total Orders, by \\\\ shop.\\nTwo lines.
# TYPE orders_placed_total counter
orders_placed_total{shop=\"a\",} 12 1700000000000
orders_placed_total { shop = \"b\\\"\\n\\\\\" }\t+1e2

# a comment
# TYPE basket histogram
basket_bucket{le=\"0.5\"} 1
basket_bucket{le=\"+Inf\"} 2
basket_sum 3.5
basket_count 2
queue 7
";

#[test]
fn the_older_format_is_read() {
    let text = read(OLD);
    let expected = [
        ("orders_placed_total", "shop=a", Kind::Counter, 12.0),
        ("orders_placed_total", "shop=b\"\n\\", Kind::Counter, 100.0),
        ("basket_bucket", "le=0.5", Kind::Counter, 1.0),
        ("basket_bucket", "le=+Inf", Kind::Counter, 2.0),
        ("basket_sum", "", Kind::Counter, 3.5),
        ("basket_count", "", Kind::Counter, 2.0),
        ("queue", "", Kind::Gauge, 7.0),
    ];
    let expected =
        expected.map(|(name, labels, kind, value)| (name.to_owned(), labels.to_owned(), kind, value));
    assert_eq!(samples(&text), expected);
    assert_eq!(text.families[0].help, "Orders, by \\ shop.\nTwo lines.");
    assert_eq!((text.families[2].kind, text.dropped), (TextKind::Unknown, 0));
}

#[test]
fn open_metrics_is_read() {
    let text = read_open(
        "# TYPE rpc_seconds summary\n# UNIT rpc_seconds seconds\nrpc_seconds{quantile=\"0.9\"} 4e-3\n\
         rpc_seconds_count 2\nrpc_seconds_created 123\n# TYPE placed counter\n# HELP placed Placed.\n\
         placed_total 3 1.5 # {trace_id=\"abc\"} 0.5 1.2\n# TYPE build info\nbuild_info{version=\"1\"} 1\n# EOF\n",
    );
    let names: Vec<String> = samples(&text).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["rpc_seconds", "rpc_seconds_count", "placed_total", "build_info"]);
    assert_eq!(text.families[0].unit, "seconds");
}

#[test]
fn a_wrong_line_is_named() {
    assert_eq!(refused("a 1\n\nb{x=1} 2\n"), (3, Problem::Label));
    assert_eq!(refused("1a 1"), (1, Problem::Name));
    assert_eq!(refused("a{x=\"1\",x=\"2\"} 1"), (1, Problem::LabelTwice));
    assert_eq!(refused("a{x=\"\\t\"} 1"), (1, Problem::Escape));
    assert_eq!(refused("a{x=\"1} 1"), (1, Problem::Label));
    assert_eq!(refused("a one"), (1, Problem::Value));
    assert_eq!(refused("a"), (1, Problem::Value));
    assert_eq!(refused("a 1 2 3"), (1, Problem::Timestamp));
    assert_eq!(refused("a 1 # {} 1"), (1, Problem::Timestamp));
    assert_eq!(refused("# TYPE a number"), (1, Problem::Type));
    assert_eq!(refused("a 1\n# TYPE a gauge"), (2, Problem::TypeLate));
    assert_eq!(refused("# TYPE a gauge\n# TYPE a counter"), (2, Problem::TypeLate));
    let open = |text: &str| parse(text.as_bytes(), Dialect::OpenMetrics, &TextBounds::default());
    assert_eq!(open("a 1\n").map_err(|error| error.problem), Err(Problem::End));
    assert_eq!(open("# EOF\na 1\n").map_err(|error| (error.line, error.problem)), Err((2, Problem::End)));
    let wrong = parse(b"a 1\nb{x=\"\xff\"} 1", Dialect::Prometheus, &TextBounds::default());
    assert_eq!(wrong.map_err(|error| (error.line, error.problem)), Err((2, Problem::Encoding)));
    let error = parse(b"?", Dialect::Prometheus, &TextBounds::default()).expect_err("it is wrong");
    assert_eq!(error.to_string(), "line 1 of its metrics: a metric's name is expected");
}

#[test]
fn bounds_hold_and_what_they_cost_is_counted() {
    let bounds = TextBounds { bytes_max: 100, samples_max: 2, labels_max: 1 };
    let all = |text: &str| parse(text.as_bytes(), Dialect::Prometheus, &bounds);
    let text = all("a 1\nb{x=\"1\",y=\"2\"} 1\nc 1\nd 1\ne 1\n").expect("it is well written");
    assert_eq!((text.samples(), text.dropped), (2, 3));
    assert_eq!(all(&"a 1\n".repeat(26)).map_err(|error| error.problem), Err(Problem::TooLong));
}

#[test]
fn what_cannot_be_is_left_out() {
    let text = read(
        "# TYPE a counter\na -1\n# TYPE b counter\nb NaN\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\n\
         h_bucket{le=\"+Inf\"} 1\n# TYPE i histogram\ni_bucket{le=\"1\"} 2\n# TYPE k histogram\n\
         k_bucket{le=\"+Inf\"} 1\nk_count 2\nc 1\nc 2\n# TYPE s summary\ns{quantile=\"2\"} 1\ns 1\n",
    );
    assert_eq!(samples(&text), [("c".to_owned(), String::new(), Kind::Gauge, 1.0)]);
    assert_eq!(text.dropped, 10);
}

#[test]
fn where_a_number_comes_from_is_added_and_the_apps_own_label_renamed() {
    let mut text = read("up{service=\"x\",exported_service=\"y\",z=\"1\"} 1\n");
    let label = |name: &str, value: &str| -> (Arc<str>, Arc<str>) { (name.into(), value.into()) };
    text.add_labels(&[label("service", "orders"), label("instance", "orders-1")]);
    let shown = "exported_exported_service=x,exported_service=y,instance=orders-1,service=orders,z=1";
    assert_eq!(samples(&text)[0].1, shown);
}

#[test]
fn families_of_many_are_merged_and_conflicts_left_out() {
    let of = |text: &str, instance: &str| {
        let mut text = read(text);
        text.add_labels(&[("instance".into(), instance.into())]);
        text
    };
    let texts = [
        of(
            "# TYPE a_total counter\na_total 1\n# TYPE b gauge\nb 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\n",
            "1",
        ),
        of("# TYPE a counter\na 2\n# TYPE b counter\nb 2\nh_bucket 5\n", "2"),
    ];
    let (families, dropped) = merge(&texts);
    assert_eq!(dropped, 2, "b of another type, and a bucket that is none");
    assert_eq!(
        write(&families, Dialect::OpenMetrics),
        "# TYPE a counter\na_total{instance=\"1\"} 1\na_total{instance=\"2\"} 2\n# TYPE b gauge\nb{instance=\"1\"} 1\n\
         # TYPE h histogram\nh_bucket{instance=\"1\",le=\"+Inf\"} 1\n# EOF\n"
    );
    assert_eq!(
        write(&families, Dialect::Prometheus),
        "# TYPE a counter\na{instance=\"2\"} 2\n# TYPE a_total counter\na_total{instance=\"1\"} 1\n# TYPE b gauge\n\
         b{instance=\"1\"} 1\n# TYPE h histogram\nh_bucket{instance=\"1\",le=\"+Inf\"} 1\n"
    );
}

#[test]
fn bounds_are_written_as_openmetrics_wants_them() {
    let check = |number: f64, text: &str| assert_eq!(canonical(number), text);
    check(1.0, "1.0");
    check(0.0, "0.0");
    check(0.005, "0.005");
    check(1e6, "1e+06");
    check(2.5e6, "2.5e+06");
    check(1e-5, "1e-05");
    check(f64::INFINITY, "+Inf");
}

fn label_value() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just('"'), Just('\\'), Just('\n'), Just(' '), any::<char>()], 1..8)
        .prop_map(|characters| characters.into_iter().collect())
}

proptest! {
    #[test]
    fn any_label_value_survives_writing_and_reading(value in label_value(), number: f64) {
        let mut text = read("a 1\n");
        text.add_labels(&[("x".into(), value.as_str().into())]);
        text.families[0].samples[0].value = number;
        for dialect in [Dialect::Prometheus, Dialect::OpenMetrics] {
            let written = write(&text.families, dialect);
            let again = parse(written.as_bytes(), dialect, &TextBounds::default());
            let again = again.map_err(|error| TestCaseError::fail(format!("{error}: {written}")))?;
            prop_assert_eq!(&again.families[0].samples[0].labels, &text.families[0].samples[0].labels);
            prop_assert_eq!(again.families[0].samples[0].value.to_bits(), number.to_bits());
        }
    }
}
