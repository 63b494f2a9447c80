//! Names, numbers and types of the fields that are read, for the JSON of OTLP. What is not in here is passed over.

use crate::Signal;

/// The type of a field's value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Text,
    Bool,
    /// Bytes as base 64.
    Bytes,
    /// An id as hexadecimal digits, which is where OTLP's JSON differs from protobuf's.
    Hex,
    /// A varint; also enums and 32-bit numbers.
    Varint,
    Zigzag,
    Fixed64,
    Double,
    Message(&'static Table),
}

/// A field of a message. Whether it is repeated is seen from the JSON.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) number: u32,
    pub(crate) shape: Shape,
}

/// The fields of a message. Tables refer to each other, some in rings.
#[derive(Debug)]
pub(crate) struct Table {
    fields: &'static [Field],
}

impl Table {
    pub(crate) fn find(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

const fn field(name: &'static str, number: u32, shape: Shape) -> Field {
    Field { name, number, shape }
}

/// The request of a signal.
pub(crate) fn request(signal: Signal) -> &'static Table {
    match signal {
        Signal::Traces => &REQUEST_TRACES,
        Signal::Metrics => &REQUEST_METRICS,
        Signal::Logs => &REQUEST_LOGS,
    }
}

static ANY_VALUE: Table = Table {
    fields: &[
        field("stringValue", 1, Shape::Text),
        field("boolValue", 2, Shape::Bool),
        field("intValue", 3, Shape::Varint),
        field("doubleValue", 4, Shape::Double),
        field("arrayValue", 5, Shape::Message(&ARRAY)),
        field("kvlistValue", 6, Shape::Message(&ATTRIBUTED)),
        field("bytesValue", 7, Shape::Bytes),
    ],
};
static ARRAY: Table = Table { fields: &[field("values", 1, Shape::Message(&ANY_VALUE))] };
static KEY_VALUE: Table =
    Table { fields: &[field("key", 1, Shape::Text), field("value", 2, Shape::Message(&ANY_VALUE))] };
/// KeyValueList.
static ATTRIBUTED: Table = Table { fields: &[field("values", 1, Shape::Message(&KEY_VALUE))] };
static RESOURCE: Table = Table { fields: &[field("attributes", 1, Shape::Message(&KEY_VALUE))] };
static SCOPE: Table = Table { fields: &[field("name", 1, Shape::Text), field("version", 2, Shape::Text)] };

static REQUEST_TRACES: Table =
    Table { fields: &[field("resourceSpans", 1, Shape::Message(&RESOURCE_SPANS))] };
static RESOURCE_SPANS: Table = Table {
    fields: &[
        field("resource", 1, Shape::Message(&RESOURCE)),
        field("scopeSpans", 2, Shape::Message(&SCOPE_SPANS)),
    ],
};
static SCOPE_SPANS: Table =
    Table { fields: &[field("scope", 1, Shape::Message(&SCOPE)), field("spans", 2, Shape::Message(&SPAN))] };
static SPAN: Table = Table {
    fields: &[
        field("traceId", 1, Shape::Hex),
        field("spanId", 2, Shape::Hex),
        field("parentSpanId", 4, Shape::Hex),
        field("name", 5, Shape::Text),
        field("kind", 6, Shape::Varint),
        field("startTimeUnixNano", 7, Shape::Fixed64),
        field("endTimeUnixNano", 8, Shape::Fixed64),
        field("attributes", 9, Shape::Message(&KEY_VALUE)),
        field("events", 11, Shape::Message(&EVENT)),
        field("status", 15, Shape::Message(&STATUS)),
    ],
};
static EVENT: Table = Table {
    fields: &[
        field("timeUnixNano", 1, Shape::Fixed64),
        field("name", 2, Shape::Text),
        field("attributes", 3, Shape::Message(&KEY_VALUE)),
    ],
};
static STATUS: Table = Table { fields: &[field("message", 2, Shape::Text), field("code", 3, Shape::Varint)] };

static REQUEST_METRICS: Table =
    Table { fields: &[field("resourceMetrics", 1, Shape::Message(&RESOURCE_METRICS))] };
static RESOURCE_METRICS: Table = Table {
    fields: &[
        field("resource", 1, Shape::Message(&RESOURCE)),
        field("scopeMetrics", 2, Shape::Message(&SCOPE_METRICS)),
    ],
};
static SCOPE_METRICS: Table = Table {
    fields: &[field("scope", 1, Shape::Message(&SCOPE)), field("metrics", 2, Shape::Message(&METRIC))],
};
static METRIC: Table = Table {
    fields: &[
        field("name", 1, Shape::Text),
        field("description", 2, Shape::Text),
        field("unit", 3, Shape::Text),
        field("gauge", 5, Shape::Message(&SUM)),
        field("sum", 7, Shape::Message(&SUM)),
        field("histogram", 9, Shape::Message(&HISTOGRAM)),
        field("exponentialHistogram", 10, Shape::Message(&EXPONENTIAL)),
        field("summary", 11, Shape::Message(&SUMMARY)),
    ],
};
static SUM: Table = Table {
    fields: &[
        field("dataPoints", 1, Shape::Message(&NUMBER_POINT)),
        field("aggregationTemporality", 2, Shape::Varint),
        field("isMonotonic", 3, Shape::Bool),
    ],
};
static HISTOGRAM: Table = Table {
    fields: &[
        field("dataPoints", 1, Shape::Message(&HISTOGRAM_POINT)),
        field("aggregationTemporality", 2, Shape::Varint),
    ],
};
static EXPONENTIAL: Table = Table {
    fields: &[
        field("dataPoints", 1, Shape::Message(&EXPONENTIAL_POINT)),
        field("aggregationTemporality", 2, Shape::Varint),
    ],
};
static SUMMARY: Table = Table { fields: &[field("dataPoints", 1, Shape::Message(&SUMMARY_POINT))] };
static NUMBER_POINT: Table = Table {
    fields: &[
        field("startTimeUnixNano", 2, Shape::Fixed64),
        field("timeUnixNano", 3, Shape::Fixed64),
        field("asDouble", 4, Shape::Double),
        field("asInt", 6, Shape::Fixed64),
        field("attributes", 7, Shape::Message(&KEY_VALUE)),
        field("flags", 8, Shape::Varint),
    ],
};
static HISTOGRAM_POINT: Table = Table {
    fields: &[
        field("startTimeUnixNano", 2, Shape::Fixed64),
        field("timeUnixNano", 3, Shape::Fixed64),
        field("count", 4, Shape::Fixed64),
        field("sum", 5, Shape::Double),
        field("bucketCounts", 6, Shape::Fixed64),
        field("explicitBounds", 7, Shape::Double),
        field("attributes", 9, Shape::Message(&KEY_VALUE)),
        field("flags", 10, Shape::Varint),
    ],
};
static EXPONENTIAL_POINT: Table = Table {
    fields: &[
        field("attributes", 1, Shape::Message(&KEY_VALUE)),
        field("startTimeUnixNano", 2, Shape::Fixed64),
        field("timeUnixNano", 3, Shape::Fixed64),
        field("count", 4, Shape::Fixed64),
        field("sum", 5, Shape::Double),
        field("scale", 6, Shape::Zigzag),
        field("zeroCount", 7, Shape::Fixed64),
        field("positive", 8, Shape::Message(&BUCKETS)),
        field("negative", 9, Shape::Message(&BUCKETS)),
        field("flags", 10, Shape::Varint),
    ],
};
static BUCKETS: Table =
    Table { fields: &[field("offset", 1, Shape::Zigzag), field("bucketCounts", 2, Shape::Varint)] };
static SUMMARY_POINT: Table = Table {
    fields: &[
        field("startTimeUnixNano", 2, Shape::Fixed64),
        field("timeUnixNano", 3, Shape::Fixed64),
        field("count", 4, Shape::Fixed64),
        field("sum", 5, Shape::Double),
        field("quantileValues", 6, Shape::Message(&QUANTILE)),
        field("attributes", 7, Shape::Message(&KEY_VALUE)),
        field("flags", 8, Shape::Varint),
    ],
};
static QUANTILE: Table =
    Table { fields: &[field("quantile", 1, Shape::Double), field("value", 2, Shape::Double)] };

static REQUEST_LOGS: Table = Table { fields: &[field("resourceLogs", 1, Shape::Message(&RESOURCE_LOGS))] };
static RESOURCE_LOGS: Table = Table {
    fields: &[
        field("resource", 1, Shape::Message(&RESOURCE)),
        field("scopeLogs", 2, Shape::Message(&SCOPE_LOGS)),
    ],
};
static SCOPE_LOGS: Table = Table {
    fields: &[field("scope", 1, Shape::Message(&SCOPE)), field("logRecords", 2, Shape::Message(&LOG_RECORD))],
};
static LOG_RECORD: Table = Table {
    fields: &[
        field("timeUnixNano", 1, Shape::Fixed64),
        field("severityNumber", 2, Shape::Varint),
        field("severityText", 3, Shape::Text),
        field("body", 5, Shape::Message(&ANY_VALUE)),
        field("attributes", 6, Shape::Message(&KEY_VALUE)),
        field("traceId", 9, Shape::Hex),
        field("spanId", 10, Shape::Hex),
        field("observedTimeUnixNano", 11, Shape::Fixed64),
        field("eventName", 12, Shape::Text),
    ],
};
