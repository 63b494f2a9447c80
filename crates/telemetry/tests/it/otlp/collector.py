"""A collector of OTLP: over gRPC by grpcio's own server, over HTTP by Python's own. Tells each request that it takes as a
line of JSON, and behaves as its second argument says:

ok          takes everything
away:N      tells the first N requests to come later
refuse      refuses everything for good
partial     takes all but one item of each request
hang        never answers
close:N     breaks off within the answers of the first N requests (HTTP only)
"""

import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

protocol, behaviour = sys.argv[1:]
behaviour, _, count = behaviour.partition(":")
left = int(count or 0)
lock = threading.Lock()
for_ever = threading.Event()


def tell(line):
    with lock:
        print(json.dumps(line), flush=True)


def is_one_of_the_first():
    global left
    with lock:
        left -= 1
        return left >= 0


def partial(signal, response):
    field = {"traces": "rejected_spans", "metrics": "rejected_data_points", "logs": "rejected_log_records"}[signal]
    if behaviour == "partial":
        setattr(response.partial_success, field, 1)
        response.partial_success.error_message = "one was not to my taste"
    return response


def serve_grpc():
    def servicer(base, signal, response):
        class Servicer(base):
            def Export(self, request, context):
                fields = {key: value for key, value in context.invocation_metadata()}
                if behaviour == "hang":
                    for_ever.wait()
                if behaviour == "refuse":
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
                if behaviour == "away" and is_one_of_the_first():
                    tell({"told": "later"})
                    context.abort(grpc.StatusCode.UNAVAILABLE, "later")
                tell({"signal": signal, "request": MessageToDict(request), "fields": fields})
                return partial(signal, response())

        return Servicer()

    server = grpc.server(futures.ThreadPoolExecutor(8))
    add = traces_grpc.add_TraceServiceServicer_to_server
    add(servicer(traces_grpc.TraceServiceServicer, "traces", traces.ExportTraceServiceResponse), server)
    add = metrics_grpc.add_MetricsServiceServicer_to_server
    add(servicer(metrics_grpc.MetricsServiceServicer, "metrics", metrics.ExportMetricsServiceResponse), server)
    add = logs_grpc.add_LogsServiceServicer_to_server
    add(servicer(logs_grpc.LogsServiceServicer, "logs", logs.ExportLogsServiceResponse), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    tell({"port": port})
    server.wait_for_termination()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    messages = {
        "/v1/traces": ("traces", traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse),
        "/v1/metrics": ("metrics", metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse),
        "/v1/logs": ("logs", logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse),
    }

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        signal, request, response = self.messages[self.path]
        if behaviour == "hang":
            for_ever.wait()
        if behaviour == "refuse":
            return self.answer(400, b"")
        if behaviour == "away" and is_one_of_the_first():
            tell({"told": "later"})
            return self.answer(503, b"", {"Retry-After": "1"})
        if behaviour == "close" and is_one_of_the_first():
            tell({"told": "half"})
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            self.close_connection = True
            return None
        fields = {key.lower(): value for key, value in self.headers.items()}
        tell({"signal": signal, "request": MessageToDict(request.FromString(body)), "fields": fields})
        return self.answer(200, partial(signal, response()).SerializeToString())

    def answer(self, status, body, more=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def serve_http():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tell({"port": server.server_port})
    server.serve_forever()


serve_grpc() if protocol == "grpc" else serve_http()
