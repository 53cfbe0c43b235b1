"""The proxy does to connections what it says, and to nothing else."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tools.chaos.http_faults import FAULTS, HttpFaults
from tools.chaos.proxy import Proxy


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets."""

    def handle(self) -> None:
        """Serve one connection."""
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)


class Store(BaseHTTPRequestHandler):
    """Takes objects and counts them."""

    taken = 0

    def do_PUT(self) -> None:
        """Take one."""
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).taken += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Give a proxy before an echo."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Proxy(server.server_address[1])
        yield made
        made.close()
        server.shutdown()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    answer = b""
    while len(answer) < len(data):
        answer += connection.recv(1 << 16)
    return answer


def test_bytes_pass_both_ways(proxy: Proxy) -> None:
    """Undisturbed, the proxy is not there."""
    with connect(proxy) as connection:
        assert ask(connection, b"ab" * 50_000) == b"ab" * 50_000


def test_a_proxy_leads_to_another_server_when_it_is_told(proxy: Proxy) -> None:
    """What is open stays with the old one until it is cut."""
    with socket.create_server(("127.0.0.1", 0)) as other, connect(proxy) as old:
        assert ask(old, b"old") == b"old"
        proxy.redirect(other.getsockname()[1])
        assert ask(old, b"old") == b"old"
        with connect(proxy) as new:
            new.sendall(b"new")
            reached, _ = other.accept()
            with reached:
                assert reached.recv(3) == b"new"


def test_a_cut_resets_what_is_open_and_lets_new_connections_through(proxy: Proxy) -> None:
    """As a restarted server does."""
    with connect(proxy) as connection:
        ask(connection, b"before")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with connect(proxy) as connection:
        assert ask(connection, b"after") == b"after"


def test_frozen_connections_are_silent_and_then_go_on(proxy: Proxy) -> None:
    """Open ones and new ones; nothing is lost, and nobody is told."""
    with connect(proxy) as old:
        ask(old, b"before")
        proxy.freeze()
        with connect(proxy) as new:
            for connection in (old, new):
                connection.sendall(b"kept")
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.settimeout(5)
            proxy.thaw()
            assert old.recv(4) == new.recv(4) == b"kept"


def test_a_connection_that_was_closed_a_moment_ago_is_no_obstacle_to_a_cut(proxy: Proxy) -> None:
    """A scenario that ends while a worker hangs up must end by its figures; any other fault reaches who asked."""
    with connect(proxy) as connection:
        ask(connection, b"open")
        proxy._in_loop(lambda: [writer.get_extra_info("socket")._sock.close() for writer in proxy._writers])
        proxy.cut()
        with pytest.raises(ZeroDivisionError):
            proxy._in_loop(lambda: 1 / 0)


def test_a_slow_proxy_is_as_slow_as_it_says(proxy: Proxy) -> None:
    """50 kB there and back at 200 kB/s, by two connections that share it, take a second at least; delays add up."""
    with connect(proxy) as one, connect(proxy) as other:
        proxy.bytes_per_s = 200_000
        began = time.monotonic()
        one.sendall(bytes(50_000))
        ask(other, bytes(50_000))
        ask(one, b"")
        assert time.monotonic() - began > 0.7
    proxy.bytes_per_s, proxy.delay_s = None, 0.2
    with connect(proxy) as connection:
        began = time.monotonic()
        ask(connection, b"there and back")
        assert time.monotonic() - began >= 0.4


def test_a_share_of_requests_meets_every_fault() -> None:
    """Half of 100 requests fail, in each of the ways; what was cut after the server saw it, the server has."""
    Store.taken = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy = HttpFaults(server.server_address[1], seed=1)
        proxy.share = 0.5
        answers = [put(proxy.port) for _ in range(100)]
        met = proxy.met
        proxy.close()
        server.shutdown()
    assert set(met) == set(FAULTS) and 35 < met.total() < 65
    assert (answers.count(500), answers.count(503)) == (met["500"], met["503"])
    seen = met["cut within"] + met["cut after"]
    assert answers.count(None) == met["cut before"] + seen
    assert answers.count(200) == 100 - met.total() == Store.taken - seen


def put(port: int) -> int | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("PUT", "/object", body=b"x" * 1000)
        answer = connection.getresponse()
        answer.read()
    except (HTTPException, ConnectionError):
        return None
    finally:
        connection.close()
    return answer.status
