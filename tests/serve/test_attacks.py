"""The server under what an attacker sends to the socket: smuggled, slow, too much, too odd."""

import contextlib
import random
import socket
import time

import pytest

from asked import ask, raw
from theodolite.serve import server as served

HEAD = b"Host: 127.0.0.1\r\n"
SMUGGLED = b"GET /live.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: %d\r\n" % len(SMUGGLED),
        b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(SMUGGLED),
        b"Content-Length: +5\r\n",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 7\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
def test_what_comes_with_a_body_is_refused_and_the_body_is_no_second_request(server, method, headers):
    said = raw(server, method + b" / HTTP/1.1\r\n" + HEAD + headers + b"\r\n" + SMUGGLED)
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.split(b" ")[1] in (b"400", b"501")
    assert b"Connection: close" in said


def test_two_requests_that_follow_each_other_are_two(server):
    assert raw(server, SMUGGLED + SMUGGLED).count(b"HTTP/1.1 200") == 2


def test_a_request_that_comes_byte_by_byte_is_given_up_at_its_time(server, monkeypatch):
    monkeypatch.setattr(served, "PATIENCE", 0.5)
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(OSError):  # it is closed
            while time.monotonic() < started + 15:
                connection.sendall(b"X: y\r\n")
                time.sleep(0.05)
    assert time.monotonic() - started < 10


def test_five_hundred_connections_that_say_nothing_keep_nobody_out_for_long(server, monkeypatch):
    monkeypatch.setattr(served, "PATIENCE", 0.5)
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            one = socket.create_connection(("127.0.0.1", server.server_port), timeout=20)
            stack.enter_context(contextlib.closing(one))
            with contextlib.suppress(OSError):  # there was no room
                one.sendall(b"GET / HTTP/1.1\r\nHost")
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError, Exception):
                if ask(server)[0].status == 200:
                    break
            assert time.monotonic() < deadline


def test_a_thousand_odd_requests_are_answered_in_a_line_or_not_at_all(server, capfd):
    chance = random.Random(23)
    words = [
        b"GET",
        b"HEAD",
        b"get",
        b"\xff\xfe",
        b"/",
        b"//[",
        b"/live.json",
        b"http://evil/",
        b"*",
        b"HTTP/1.1",
        b"HTTP/0.9",
    ]
    words += [
        b"HTTP/2.0",
        b"HTTP/1.1.1",
        b" ",
        b"\t",
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b"\x85",
        b"Host: 127.0.0.1",
        b"Host: [::1",
    ]
    words += [
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"Range: bytes=0-1,0-1",
        b"If-None-Match: *",
        b"Connection: close",
        b":",
    ]
    for _ in range(1000):
        request = b"".join(
            chance.choice(words) + chance.choice([b"", b" ", b"\r\n"]) for _ in range(chance.randint(1, 12))
        )
        with contextlib.suppress(ConnectionError):
            said = raw(server, request + b"\r\n\r\n")
            if b" 200 " not in said:
                assert b"evil" not in said
    assert ask(server)[0].status == 200
    assert capfd.readouterr().err == ""
