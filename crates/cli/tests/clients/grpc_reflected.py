"""grpcio: a stock client that knows nothing of the ledger but its address. All else it learns by reflection.

Arguments: HOST:PORT, then `submit` and a signed transaction in hexadecimal, or `read` of the stream `notes`, which has
nine events in transactions of two.
"""

import json
import sys
import urllib.request

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from people import same

ADDRESS, TASK, *MORE = sys.argv[1:]
NAME = "quipu.v1.Ledger"
SECONDS_MAX = 60


class Ledger:
    """The methods that reflection shows, with the messages that it describes."""

    def __init__(self, channel):
        self.channel = channel
        database = ProtoReflectionDescriptorDatabase(channel)
        same(NAME in database.get_services(), True, "services")
        self.service = descriptor_pool.DescriptorPool(database).FindServiceByName(NAME)

    def __getattr__(self, name):
        method = self.service.methods_by_name[name]
        question, answer = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
        make = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        call = make(f"/{NAME}/{name}", question.SerializeToString, answer.FromString)
        return lambda **fields: call(question(**fields), timeout=SECONDS_MAX)


def by_http(path):
    with urllib.request.urlopen(f"http://{ADDRESS}{path}", timeout=SECONDS_MAX) as answer:
        return answer.read()


def refused(call, status, code):
    """The call must fail so; a hint says what to do."""
    try:
        list(call())
    except grpc.RpcError as error:
        told = dict(error.trailing_metadata())
        same((error.code(), told["quipu-code"]), (status, code), "refusal")
        same(bool(told["quipu-hint"] and error.details()), True, "hint")
        return
    sys.exit(f"not refused: {code}")


def reflected(channel, ledger):
    methods = sorted(method.name for method in ledger.service.methods)
    same(methods, ["Complain", "Feed", "Follow", "GetEpochs", "GetHeader", "GetStatus", "GetTransaction", "Prove", "Submit"], "methods")
    # The newer version of the protocol has the same messages under another name.
    ask = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = ask(iter([question]), timeout=SECONDS_MAX)
    names = sorted(service.name for service in answer.list_services_response.service)
    same(names, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", NAME], "services by v1")


def healthy(channel):
    health = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", NAME):
        asked = health_pb2.HealthCheckRequest(service=service)
        same(health.Check(asked, timeout=SECONDS_MAX).status, serving, "health")
        same(next(health.Watch(asked, timeout=SECONDS_MAX)).status, serving, "watched")


def submit(ledger, transaction):
    answer = ledger.Submit(transaction=transaction)
    committed = answer.DESCRIPTOR.enum_types_by_name["State"].values_by_name["STATE_COMMITTED"].number
    same((answer.state, answer.applied), (committed, True), "submitted")
    same(ledger.Submit(transaction=transaction).position, answer.position, "submitted again")
    same(ledger.GetTransaction(tx=answer.tx).height, answer.height, "found")
    same(json.loads(by_http(f"/v1/transactions/{answer.tx}"))["position"], answer.position, "found by HTTP")
    bundle = json.loads(ledger.Prove(tx=answer.tx).bundle)
    same(isinstance(bundle, dict), True, "proof")
    status, header = ledger.GetStatus(), ledger.GetHeader(height=answer.height)
    same(header.time_us, answer.time_us, "time")
    same(json.loads(by_http("/v1/status"))["chain"], status.chain, "chain")
    refused(lambda: [ledger.Submit(transaction=transaction[:-1])], grpc.StatusCode.INVALID_ARGUMENT, "QP0001")
    refused(lambda: [ledger.Submit(transaction=bytes(2_000_000))], grpc.StatusCode.RESOURCE_EXHAUSTED, "QP0002")
    refused(lambda: [ledger.Prove(tx="00" * 32)], grpc.StatusCode.NOT_FOUND, "QP0404")
    refused(lambda: [ledger.GetHeader(height=2**40)], grpc.StatusCode.NOT_FOUND, "QP0703")


def read(ledger):
    events = list(ledger.Follow(stream="notes"))
    same([json.loads(event.data) for event in events], [{"n": n, "what": f"é {n}"} for n in range(9)], "rows")
    lines = [json.loads(line) for line in by_http("/v1/streams/notes/events").splitlines()]
    same([event.tx for event in events], [line["tx"] for line in lines], "order")
    same([event.action for event in events], [line["action"] for line in lines], "actions")
    same([bool(event.cursor) for event in events], [False, True] * 4 + [True], "cursors")
    # A reader that is cut off anywhere goes on with the last cursor, and never stops.
    for stop in range(1, len(events)):
        following = ledger.Follow(stream="notes", follow=True)
        taken = [next(following) for _ in range(stop)]
        following.cancel()
        cursors = [place for place, event in enumerate(taken) if event.cursor]
        whole = taken[: cursors[-1] + 1] if cursors else []
        following = ledger.Follow(stream="notes", follow=True, cursor=whole[-1].cursor if whole else "")
        rest = [next(following) for _ in range(len(events) - len(whole))]
        following.cancel()
        same(whole + rest == events, True, f"resumed after {stop}")
    refused(lambda: ledger.Follow(stream="nothing"), grpc.StatusCode.NOT_FOUND, "QP0203")
    refused(lambda: ledger.Follow(stream="notes", cursor="x"), grpc.StatusCode.INVALID_ARGUMENT, "QP0702")
    refused(lambda: ledger.Feed(request=bytes(40)), grpc.StatusCode.INVALID_ARGUMENT, "QP0720")


with grpc.insecure_channel(ADDRESS) as channel:
    ledger = Ledger(channel)
    reflected(channel, ledger)
    healthy(channel)
    if TASK == "submit":
        submit(ledger, bytes.fromhex(MORE[0]))
    else:
        read(ledger)
print(f"grpcio {grpc.__version__} ({TASK})")
