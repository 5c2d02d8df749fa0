"""Servers on 127.0.0.1 that speak for the Hub and for an npm registry, and a cache of each test's own."""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest

from theodolite.data import DataSpec, load

COMMIT = "a" * 40


class Server:
    """A server in a thread: subclasses answer ``reply_to(request, path, body)``."""

    def __init__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path = unquote(urlsplit(self.path).path)
                outer.seen[f"{self.command} {path}"] += 1
                outer.reply_to(self, path, body)

            do_GET = do_HEAD = do_POST = answer  # noqa: N815

            def log_message(self, *args):
                pass

        self.seen = Counter()
        self.cuts = 0  # downloads still to be broken half way
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def send(self, request, content, status=200, **headers):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    def send_json(self, request, value):
        self.send(request, json.dumps(value).encode(), Content_Type="application/json")

    def send_file(self, request, content, **headers):
        """With ranges, and cut half way as often as ``cuts`` says."""
        wanted = re.match(r"bytes=(\d+)-(\d*)", request.headers.get("range") or "")
        if request.command == "GET" and self.cuts > 0:
            self.cuts -= 1
            request.send_response(200)
            for name, value in headers.items():
                request.send_header(name.replace("_", "-"), value)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content[: len(content) // 2])
            request.wfile.flush()
            request.close_connection = True
            return
        if wanted and request.command == "GET":
            first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
            extent = f"bytes {first}-{last}/{len(content)}"
            self.send(request, content[first : last + 1], 206, Content_Range=extent, **headers)
            return
        self.send(request, content, **headers)


class Hub(Server):
    """As much of the Hub as ``datasets.load_dataset`` asks for: one repository of plain files, at one commit."""

    def __init__(self, name, files):
        self.name, self.files = name, files
        super().__init__()

    def reply_to(self, request, path, body):
        api = f"/api/datasets/{self.name}"
        file = re.fullmatch(rf"/datasets/{self.name}/resolve/[^/]+/(.*)", path)
        tree = re.fullmatch(rf"{api}/tree/[^/]+(?:/(.*))?", path)
        if file and file[1] in self.files:
            content = self.files[file[1]]
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            self.send_file(request, content, ETag=tag, X_Repo_Commit=COMMIT, Accept_Ranges="bytes")
        elif path == api or path.startswith(f"{api}/revision/"):
            siblings = [{"rfilename": path} for path in self.files]
            self.send_json(
                request, {"_id": "0", "id": self.name, "sha": COMMIT, "private": False, "siblings": siblings}
            )
        elif tree:
            self.send_json(request, self.below(f"{tree[1]}/" if tree[1] else ""))
        elif path.startswith(f"{api}/paths-info/"):
            wanted = parse_qs(body.decode()).get("paths") if b"=" in body else json.loads(body)["paths"]
            self.send_json(request, [self.entry(path) for path in wanted if path in self.files])
        elif path == "/":
            self.send(request, b"")
        else:
            self.send(request, b"{}", 404, X_Error_Code="EntryNotFound")

    def entry(self, path):
        content = self.files[path]
        return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}

    def below(self, base):
        rest = {path: path.removeprefix(base) for path in self.files if path.startswith(base)}
        folders = sorted({base + part.split("/")[0] for part in rest.values() if "/" in part})
        files = [self.entry(path) for path, part in rest.items() if "/" not in part]
        return [*files, *({"type": "directory", "oid": "0", "size": 0, "path": folder} for folder in folders)]


class Registry(Server):
    """An npm registry with one package of one version."""

    def __init__(self, name, version, tarball):
        self.name, self.version, self.tarball = name, version, tarball
        super().__init__()

    @property
    def downloads(self):
        return self.seen[f"GET /{self.name}.tgz"]

    def reply_to(self, request, path, body):
        if path == f"/{self.name}":
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(self.tarball).digest()).decode()
            dist = {"tarball": f"{self.url}/{self.name}.tgz", "integrity": integrity}
            version = {"name": self.name, "version": self.version, "dist": dist}
            tags = {"latest": self.version}
            self.send_json(request, {"name": self.name, "dist-tags": tags, "versions": {self.version: version}})
        elif path == f"/{self.name}.tgz":
            self.send_file(request, self.tarball)
        else:
            self.send(request, b'{"error":"not_found"}', 404)


def _tarball(files):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=0) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


@pytest.fixture
def tarball():
    return _tarball


def picture_table(column, images, labels):
    """A table of the ``datasets`` library: images as PNG, labels as classes a, b, c …"""
    import datasets
    from PIL import Image

    names = [chr(ord("a") + number) for number in range(int(labels.max()) + 1)]
    features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(names=names)})
    cells = []
    for image in images:
        content = io.BytesIO()
        Image.fromarray(image).save(content, "PNG", compress_level=1)
        cells.append({"bytes": content.getvalue(), "path": None})
    return datasets.Dataset.from_dict({column: cells, "label": labels}, features=features)


@pytest.fixture
def table():
    return picture_table


@pytest.fixture
def parquet():
    def write(column, images, labels):
        content = io.BytesIO()
        picture_table(column, images, labels).to_parquet(content)
        return content.getvalue()

    return write


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """A cache of this test's own, and no local folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("THEODOLITE_CACHE", str(folder))
    monkeypatch.delenv("THEODOLITE_DATA", raising=False)
    return folder


@pytest.fixture(scope="session")
def mnist_set():
    """The real set, from the cache that all sessions share; fetched the first time."""
    return load(DataSpec(source="mnist"))


@pytest.fixture(scope="session")
def cifar10_set():
    return load(DataSpec(source="cifar10"))


@pytest.fixture(scope="session")
def idx_files(mnist_set):
    """The four published files, written by the format's description."""
    files = {}
    for prefix, images, labels in (
        ("train", mnist_set.train_inputs, mnist_set.train_targets),
        ("t10k", mnist_set.test_inputs, mnist_set.test_targets),
    ):
        header = (2051).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (len(images), 28, 28))
        files[f"{prefix}-images-idx3-ubyte"] = header + images.tobytes()
        header = (2049).to_bytes(4, "big") + len(labels).to_bytes(4, "big")
        files[f"{prefix}-labels-idx1-ubyte"] = header + labels.astype(np.uint8).tobytes()
    return files


@pytest.fixture
def hub_server():
    started = []

    def start(name, files):
        started.append(Hub(name, files))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def npm_registry():
    started = []

    def start(name, version, tarball):
        started.append(Registry(name, version, tarball))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def python(tmp_path):
    """Start a Python of its own, warnings as errors: the Hub's libraries read their settings once, when imported."""

    def start(code, **environment):
        settings = {"HF_HOME": str(tmp_path / "hf"), "THEODOLITE_CACHE": str(tmp_path / "cache"), **environment}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "THEODOLITE_"))}
        command = [sys.executable, "-W", "error", "-c", code]
        return subprocess.Popen(
            command, env={**kept, **settings}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(code, **environment):
        process = start(code, **environment)
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        return out

    run.start = start
    return run
