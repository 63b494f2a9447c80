"""A shop's service with OpenTelemetry's own SDK. Where its telemetry goes, and who it is, its environment alone says."""

import logging
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

tracers = TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(tracers)
meters = MeterProvider(metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter(), 3_600_000)])
metrics.set_meter_provider(meters)
loggers = LoggerProvider()
loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
set_logger_provider(loggers)
log = logging.getLogger("orders")
log.addHandler(LoggingHandler(logger_provider=loggers))
placed = metrics.get_meter("orders").create_counter("orders.placed", unit="{order}")
tracer = trace.get_tracer("orders")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        parent = TraceContextTextMapPropagator().extract({"traceparent": self.headers["traceparent"]})
        with tracer.start_as_current_span("place order", context=parent, kind=trace.SpanKind.SERVER) as span:
            span.set_attribute("order.total", 12.5)
            placed.add(1, {"kind": "card"})
            log.error("payment %s failed", "p-1", extra={"attempt": 2})
            context = span.get_span_context()
        # A test does not wait for the batches of the SDK.
        for provider in (tracers, meters, loggers):
            provider.force_flush()
        self.answer(201, {"X-Trace": f"{context.trace_id:032x}"})

    def answer(self, status, more=None):
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
