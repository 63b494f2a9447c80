"""A gRPC service without generated code, and a client of it: bytes in, bytes out, in all four kinds of call."""

import os
import signal
import sys
import time
from concurrent import futures

import grpc

SERVICE = "terrace.test.Greeter"


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Hang": grpc.unary_unary_rpc_method_handler(hang),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    }),))
    server.add_insecure_port("127.0.0.1:" + os.environ["PORT"])
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(5))
    server.wait_for_termination()


def unary(request, context):
    context.set_trailing_metadata((("x-length", str(len(request))),))
    return b"hello " + request


def down(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def up(requests, context):
    return b"+".join(requests)


def both(requests, context):
    for request in requests:
        yield request[::-1]


def hang(request, context):
    while context.is_active():
        time.sleep(0.01)


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such order: " + request.decode() + " \u20ac")


def call(address):
    with grpc.insecure_channel(address) as channel:
        check_unary(channel)
        check_streams(channel)
        check_failures(channel)
    print("all calls in order")


def check_unary(channel):
    for size in (0, 1, 100_000):
        request = b"x" * size
        answer, done = channel.unary_unary(f"/{SERVICE}/Unary").with_call(request, timeout=30)
        assert answer == b"hello " + request
        assert dict(done.trailing_metadata())["x-length"] == str(size)


def check_streams(channel):
    assert list(channel.unary_stream(f"/{SERVICE}/Down")(b"200", timeout=30)) == [b"%d" % n for n in range(200)]
    parts = [b"%d" % number for number in range(100)]
    assert channel.stream_unary(f"/{SERVICE}/Up")(iter(parts), timeout=30) == b"+".join(parts)
    # Each message is sent when the one before it has come back.
    answers = channel.stream_stream(f"/{SERVICE}/Both")
    sent, queue = [b"one", b"two", b"three"], Turns()
    stream = answers(queue, timeout=30)
    for message in sent:
        queue.push(message)
        assert next(stream) == message[::-1]
    queue.close()
    assert list(stream) == []


def check_failures(channel):
    try:
        channel.unary_unary(f"/{SERVICE}/Fail")(b"7", timeout=30)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
        assert error.details() == "no such order: 7 \u20ac", error
    else:
        raise AssertionError("it should have failed")
    try:
        channel.unary_unary(f"/{SERVICE}/Nothing")(b"", timeout=30)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def late(address):
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(f"/{SERVICE}/Hang")(b"", timeout=30)
        except grpc.RpcError as error:
            print(error.code().name, error.details())


class Turns:
    """An iterator that others push to."""

    def __init__(self):
        import queue
        self.queue = queue.Queue()

    def __iter__(self):
        return self

    def __next__(self):
        message = self.queue.get()
        if message is None:
            raise StopIteration
        return message

    def push(self, message):
        self.queue.put(message)

    def close(self):
        self.queue.put(None)


{"serve": serve, "call": lambda: call(sys.argv[2]), "late": lambda: late(sys.argv[2])}[sys.argv[1]]()
