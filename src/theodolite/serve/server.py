"""HTTP for the live page: two addresses, reading only, on this machine only unless told otherwise."""

import errno
import io
import ipaddress
import math
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from html import unescape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from theodolite.errors import UsageError
from theodolite.serve.live_page import LivePage
from theodolite.serve.report import etag
from theodolite.store import records

CONNECTIONS = 256  # at a time; a page has one or two
PATIENCE = 30.0  # seconds for a request, and between two of one connection
WAIT = 0.5  # seconds between two looks for a survey that has not begun
LOWEST = 19  # priority: a survey goes first
HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+))(?::\d{1,5})?")
POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]*)"')
NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class Server(ThreadingHTTPServer):
    """Serves the live page of one results folder.

    No file is ever served by its path: there are two addresses, and what they give is made in memory.

    Args:
        directory: the results folder.
        host: to listen on.
        port: the same; 0 takes a free one.

    Raises:
        UsageError: the address cannot be listened on.
        StoreError: not a results folder.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, directory: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        records.check_folder(directory)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise UsageError(_advice(host, port, error)) from None
        try:
            self.live = LivePage(directory, [_script()])
        except BaseException:
            self.server_close()
            raise

    def server_bind(self) -> None:
        """Without the look-up of the host's name that http.server makes, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: object, client_address: object) -> None:
        """In a thread of its own, while there is room for one."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no error; anything else is one of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def address(self) -> str:
        """What to type into a browser."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    wbufsize = -1  # an answer goes out in one piece,
    disable_nagle_algorithm = True  # and at once: in two pieces it waited 40 ms for the browser's word on the first

    def setup(self) -> None:
        """Reads by a clock: a request that comes byte by byte would hold its place for ever."""
        super().setup()
        self._clocked = Clocked(self.connection)
        self.rfile = io.BufferedReader(self._clocked)

    def handle_one_request(self) -> None:
        """One request, within its time as a whole."""
        self._clocked.deadline = time.monotonic() + PATIENCE
        super().handle_one_request()

    def do_GET(self) -> None:
        """The page, or the state of things."""
        self.connection.settimeout(PATIENCE)  # for the answer
        if self._has_body():
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if not trusted_host(self.headers.get_all("Host") or []):
            self._say(HTTPStatus.MISDIRECTED_REQUEST, "This page is served by its address only, such as 127.0.0.1.")
            return
        path = urlsplit(self.path).path if self.path.startswith("/") else ""
        if path == "/":
            content = self.server.live.page()
            self._send(content, "text/html; charset=utf-8", _policy(content))
        elif path == "/live.json":
            self._send(self.server.live.state(), "application/json", NOTHING)
        else:
            self._say(HTTPStatus.NOT_FOUND, "There is nothing here. The page is at /.")

    do_HEAD = do_GET  # noqa: N815 - as above

    def _has_body(self) -> bool:
        """Whether a request says that it has a body, or may say so in headers that are none.

        Nothing here takes one; it would be read as the next request, which a proxy in front has not seen.
        """
        lengths = self.headers.get_all("Content-Length", ["0"])
        return lengths != ["0"] or "Transfer-Encoding" in self.headers or bool(self.headers.defects)

    def version_string(self) -> str:
        """Nothing about the machine."""
        return "theodolite"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Nothing: fifty pages ask every few seconds."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """In plain text, and without what the request held."""
        self.close_connection = True
        self._say(HTTPStatus(code), HTTPStatus(code).phrase)

    def _send(self, content: bytes, kind: str, policy: str) -> None:
        tag = f'"{etag(content)}"'
        if self.headers.get("If-None-Match") == tag:
            self._answer(HTTPStatus.NOT_MODIFIED, b"", kind, policy, tag)
        else:
            self._answer(HTTPStatus.OK, content, kind, policy, tag)

    def _say(self, status: HTTPStatus, words: str) -> None:
        self._answer(status, f"{words}\n".encode(), "text/plain; charset=utf-8", NOTHING, "")

    def _answer(self, status: HTTPStatus, content: bytes, kind: str, policy: str, tag: str) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", policy)
        if tag:
            self.send_header("ETag", tag)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD" and status != HTTPStatus.NOT_MODIFIED:
            self.wfile.write(content)


class Clocked(io.RawIOBase):
    """What a connection gives until a point of time; TimeoutError after it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = math.inf

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As many bytes as there are."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def serve(directory: Path, *, host: str, port: int, said: Callable[[str], None]) -> None:
    """Serve until Ctrl-C, at the lowest priority.

    Args:
        directory: the results folder.
        host: to listen on.
        port: the same; 0 takes a free one.
        said: told the address once it answers, and before that what is waited for.

    Raises:
        UsageError, StoreError: see :class:`Server`.
    """
    try:
        _wait(directory, said)
    except KeyboardInterrupt:
        return
    with Server(directory, host, port) as server:
        if hasattr(os, "nice"):  # not on Windows
            os.nice(LOWEST)  # the first page is there; from now on a survey goes first
        said(f"Live at {server.address}  (Ctrl-C ends it)")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return


def _wait(directory: Path, said: Callable[[str], None]) -> None:
    """Until a survey has begun in a folder that is empty or not there yet; any other is left to be refused."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        return
    said(f"Waiting for a survey or a recording in {directory}  (Ctrl-C ends it)")
    while not (directory / records.MARK).exists():
        time.sleep(WAIT)


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def trusted_host(given: list[str]) -> bool:
    """Whether a request names its server by number, or as localhost.

    A page from elsewhere can point a name of its own at 127.0.0.1 and then read what is served there ("DNS
    rebinding"), but its requests carry that name. A number cannot be pointed elsewhere.

    >>> [trusted_host([host]) for host in ("127.0.0.1:8000", "localhost", "[::1]:80", "evil.example", "127.0.0.1.nip")]
    [True, True, True, False, False]
    """
    found = HOST.fullmatch(given[0]) if len(given) == 1 else None
    if found is None:
        return False
    name = found[1] or found[2]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    return True


@lru_cache(maxsize=1)
def _policy(content: bytes) -> str:
    """The page's own policy as a header too, where it can also forbid frames."""
    found = POLICY.search(content[:20_000].decode(errors="replace"))
    return f"{unescape(found[1])}; frame-ancestors 'none'" if found else NOTHING


def _script() -> str:
    return resources.files("theodolite.serve").joinpath("live.js").read_text(encoding="utf-8")


def _advice(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"expected a free port, but {port} is in use on {host}. Stop what uses it, or take any free one: --port 0."
        )
    if error.errno == errno.EACCES:
        return f"expected a port that you may use, got {port}. Take one above 1023, or any free one: --port 0."
    return f"expected an address of this machine, got '{host}' ({error.strerror or error}). Leave --host out."
