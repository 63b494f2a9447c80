//! Numbers that follow from others and are asked for together: what cannot be had from their rings, since quantiles do
//! not add up.

use terrace_instruments::{Family, FamilySnapshot, HistogramSnapshot, Kind, SeriesSnapshot, SeriesValue};

static OUTSIDE: Family = Family {
    name: "terrace_outside_request_duration",
    help: "From a request's head to the last byte of its answer, over all routes from outside.",
    unit: "seconds",
    labels: &[],
    kind: Kind::Histogram,
};

/// All requests from outside as one distribution. The routes between services are called `internal:…`, and no name in
/// the file has a colon.
pub(crate) fn outside(own: &[FamilySnapshot]) -> Option<FamilySnapshot> {
    let family = own.iter().find(|found| found.family.name == "terrace_request_duration")?;
    let mut all = HistogramSnapshot::default();
    for series in family.series.iter().filter(|series| !is_internal(series)) {
        if let SeriesValue::Histogram(durations) = &series.value {
            all.merge(durations);
        }
    }
    let series = vec![SeriesSnapshot { labels: Vec::new(), value: SeriesValue::Histogram(all) }];
    Some(FamilySnapshot { family: &OUTSIDE, series })
}

/// Whether a family is there to judge objectives by, and for those who scrape, but is not remembered: a histogram takes much room,
/// and how long failures took is seldom asked.
pub(crate) fn is_judged_alone(snapshot: &FamilySnapshot) -> bool {
    matches!(
        snapshot.family.name,
        "terrace_failed_request_duration" | "terrace_service_failed_request_duration"
    )
}

fn is_internal(series: &SeriesSnapshot) -> bool {
    series.labels.iter().any(|label| label.contains(':'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use terrace_instruments::Meter;

    use super::*;

    static DURATION: Family = Family {
        name: "terrace_request_duration",
        help: "",
        unit: "seconds",
        labels: &["route"],
        kind: Kind::Histogram,
    };

    #[test]
    fn what_services_ask_of_each_other_is_not_from_outside() {
        let meter = Meter::new(1);
        let routes = ["shop", "api", "internal:orders"].map(|route| meter.histogram(&DURATION, &[route]));
        routes.iter().for_each(|route| route.record(Duration::from_millis(10)));
        let found = outside(&meter.collect()).expect("there are requests");
        let SeriesValue::Histogram(all) = &found.series[0].value else { panic!("a histogram") };
        assert_eq!(all.count(), 2);
        assert!(outside(&[]).is_none());
    }
}
