"""The standard services of gRPC, health and reflection, and their standard clients."""

import os
import signal
import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

NAMES = (health.SERVICE_NAME, reflection.SERVICE_NAME)


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    servicer = health.HealthServicer()
    servicer.set("shop.Orders", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(NAMES, server)
    server.add_insecure_port("127.0.0.1:" + os.environ["PORT"])
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(5))
    server.wait_for_termination()


def call(address):
    with grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel)
        ask = health_pb2.HealthCheckRequest
        serving = health_pb2.HealthCheckResponse.SERVING
        assert check.Check(ask(service="shop.Orders"), timeout=30).status == serving
        watched = check.Watch(ask(service="shop.Orders"), timeout=30)
        assert next(watched).status == serving
        watched.cancel()
        try:
            check.Check(ask(service="nobody"), timeout=30)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
        else:
            raise AssertionError("nobody should not be known")
        asked = reflection_pb2.ServerReflectionRequest
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = stub.ServerReflectionInfo(iter([asked(list_services=""), asked(file_containing_symbol=NAMES[0])]), timeout=30)
        listed = next(answers).list_services_response.service
        assert {service.name for service in listed} == set(NAMES), listed
        assert next(answers).file_descriptor_response.file_descriptor_proto
    print("both services in order")


def refused(address):
    """What a client is told where it may not pass: its status, and the words."""
    with grpc.insecure_channel(address) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        except grpc.RpcError as error:
            print(error.code().name, error.details())


if __name__ == "__main__":
    {"serve": serve, "call": call, "refused": refused}[sys.argv[1]](*sys.argv[2:])
