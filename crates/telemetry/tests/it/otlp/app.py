"""An app with OpenTelemetry's own SDK, as its users set it up; it does one thing and flushes. The trace that its span
belongs to comes in as a traceparent, as from Terrace."""

import logging
import sys

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

protocol, endpoint, traceparent = sys.argv[1:]
if protocol == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    def to(_):
        return {"endpoint": endpoint, "insecure": True, "compression": Compression.Gzip}
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    def to(path):
        return {"endpoint": f"{endpoint}/v1/{path}", "compression": Compression.Gzip}


resource = Resource.create({"service.name": "orders", "service.instance.id": "orders-1"})
tracers = TracerProvider(resource=resource)
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(**to("traces"))))
trace.set_tracer_provider(tracers)

delta = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.CUMULATIVE}
exporter = OTLPMetricExporter(preferred_temporality=delta, **to("metrics"))
exponential = View(instrument_name="basket.size", aggregation=ExponentialBucketHistogramAggregation())
meters = MeterProvider(
    resource=resource,
    metric_readers=[PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)],
    views=[exponential],
)
metrics.set_meter_provider(meters)

loggers = LoggerProvider(resource=resource)
loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(**to("logs"))))
set_logger_provider(loggers)
log = logging.getLogger("shop")
log.addHandler(LoggingHandler(logger_provider=loggers))

meter = metrics.get_meter("shop")
placed = meter.create_counter("orders.placed", unit="{order}")
waited = meter.create_histogram("payment.duration", unit="s")
basket = meter.create_histogram("basket.size", unit="{item}")
parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
tracer = trace.get_tracer("shop")
with tracer.start_as_current_span("place order", context=parent, kind=trace.SpanKind.SERVER) as span:
    span.set_attribute("order.total", 12.5)
    placed.add(3, {"kind": "card"})
    waited.record(0.3)
    basket.record(5)
    log.error("payment %s failed", "p-1", extra={"attempt": 2})
with tracer.start_as_current_span("nightly"):
    pass

# What came first is a counter's beginning; the second time it has grown.
oks = [tracers.force_flush(), meters.force_flush(), loggers.force_flush()]
print("first", flush=True)
sys.stdin.readline()
placed.add(4, {"kind": "card"})
oks.append(meters.force_flush())
print(oks, flush=True)
