"""Proxies in front of a server that fail by plan, over real sockets.

A plan is a list of faults: each request to a watched path takes the next one, and none once it is used up.

    pass            go through
    400 ... 599     this HTTP status; or, for gRPC, a status code by its name, e.g. UNAVAILABLE
    ...Exception    the HTTP status 400 with this type of error, as AWS answers it
    reset           the connection ends before the server has the request
    lost            the server has the request and answers, but the connection ends before the answer
    silence         the request is swallowed and never answered
"""

import contextlib
import http.client
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

_DROPPED = {"connection", "content-length", "transfer-encoding", "host", "date"}


class Plan:
    """The faults still to come, and the requests that met one; `ahead`: seconds that the server's clock is;
    `change` changes what it answers."""

    def __init__(self):
        self._lock = threading.Lock()
        self._left: list[str] = []
        self.met: list[str] = []
        self.requests = 0
        self.ahead = 0.0
        self.change: Callable[[bytes], bytes] = bytes

    def set(self, *faults: str) -> None:
        """Plan these, and forget those that are left."""
        with self._lock:
            self._left, self.met, self.requests = list(faults), [], 0

    @property
    def left(self) -> list[str]:
        return self._left

    def next(self) -> str:
        with self._lock:
            self.requests += 1
            fault = self._left.pop(0) if self._left else "pass"
            if fault != "pass":
                self.met.append(fault)
            return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass  # a client that goes away is part of the plan


@contextlib.contextmanager
def faulty_http(target: str, watched: str = "/insertAll") -> Iterator[tuple[str, Plan]]:
    """(URL, plan) of a proxy in front of the URL `target`; the plan is for paths, or operations of AWS, that hold
    `watched`."""
    plan, host = Plan(), urllib.parse.urlsplit(target).netloc
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            operation = self.headers.get("X-Amz-Target", "")
            fault = plan.next() if watched in f"{self.path} {operation}" else "pass"
            if fault.isdigit():
                self._send(int(fault), [("Content-Type", "application/json")], _error(int(fault)))
            elif fault.endswith("Exception"):
                told = b'{"__type":"%s","message":"by plan"}' % fault.encode()
                self._send(400, [("Content-Type", "application/x-amz-json-1.1")], told)
            elif fault == "silence":
                ended.wait()
            elif fault == "reset":
                self._reset()
            else:
                status, headers, answer = _forward(host, self.command, self.path, self.headers, body)
                if fault == "lost":
                    self._reset()
                else:
                    is_changed = status == 200 and watched in f"{self.path} {operation}"
                    self._send(status, headers, plan.change(answer) if is_changed else answer)

        def _send(self, status, headers, body):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _reset(self):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def date_time_string(self, timestamp=None):
            return super().date_time_string((timestamp or time.time()) + plan.ahead)

        def log_message(self, *_):
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", plan
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _error(status: int) -> bytes:
    reason = b"accessDenied" if status == 403 else b"backendError"
    return b'{"error": {"code": %d, "message": "by plan", "errors": [{"reason": "%s"}]}}' % (status, reason)


def _forward(host, method, path, headers, body):
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        kept = {name: value for name, value in headers.items() if name.lower() not in _DROPPED}
        connection.request(method, path, body, kept)
        answer = connection.getresponse()
        return (
            answer.status,
            [pair for pair in answer.getheaders() if pair[0].lower() not in _DROPPED],
            answer.read(),
        )
    finally:
        connection.close()


@contextlib.contextmanager
def faulty_grpc(target: str) -> Iterator[tuple[str, Plan]]:
    """(host:port, plan) of a proxy in front of host:port `target`; each request takes a fault of the plan, also each of
    a stream."""
    plan = Plan()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(target, options) as channel:
        server = grpc.server(ThreadPoolExecutor(16), [_Passing(channel, plan)], options=options)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}", plan
        finally:
            server.stop(None).wait()


class _Passing(grpc.GenericRpcHandler):
    """Every method as a stream of requests and answers, one answer to each request."""

    def __init__(self, channel: grpc.Channel, plan: Plan):
        self._channel, self._plan = channel, plan

    def service(self, details):
        call = self._channel.stream_stream(details.method)
        routing = [pair for pair in details.invocation_metadata if pair[0].startswith("x-goog")]

        def passed(requests, context):
            onward, ended = _Onward(), threading.Event()
            answers = call(onward, metadata=routing)
            context.add_callback(ended.set)
            try:
                for request in requests:
                    fault = self._plan.next()
                    if fault == "silence":
                        ended.wait()
                        return
                    if fault in ("pass", "lost"):
                        onward.put(request)
                        answer = next(answers)
                    if fault != "pass":
                        code = "UNAVAILABLE" if fault in ("reset", "lost") else fault
                        context.abort(grpc.StatusCode[code], "by plan")
                    yield answer
            except grpc.RpcError as problem:
                if isinstance(problem, grpc.Call):  # what the server answered; else the client is gone
                    context.abort(problem.code(), problem.details())
            finally:
                onward.end()

        return grpc.stream_stream_rpc_method_handler(passed)


class _Onward:
    """The requests that go on to the server."""

    def __init__(self):
        self._ready = threading.Condition()
        self._requests: list[bytes | None] = []

    def put(self, request: bytes | None) -> None:
        with self._ready:
            self._requests.append(request)
            self._ready.notify()

    def end(self) -> None:
        self.put(None)

    def __iter__(self):
        return self

    def __next__(self) -> bytes:
        with self._ready:
            self._ready.wait_for(lambda: self._requests)
            request = self._requests.pop(0)
        if request is None:
            raise StopIteration
        return request
