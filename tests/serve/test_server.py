"""What the live page's server gives, to whom, and what it refuses."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import tiny as survey_of
from asked import ask, raw
from commands import called
from theodolite.errors import StoreError, UsageError
from theodolite.serve import Server, is_local
from theodolite.store import records

SECRET = "the reviewer's name"


def test_the_page_is_the_reports_own_with_one_more_script(server, directory):
    from theodolite import survey
    from theodolite.report import page

    answer, content = ask(server, "/")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    plain = page.html(survey.findings(directory))
    body = plain.partition("<body>")[2].partition('<script type="application/json"')[0]
    assert body in content.decode()
    assert content.decode().count("<script>") == plain.count("<script>") + 1


def test_the_policy_allows_this_server_alone_and_no_code_but_the_pages_scripts(server):
    answer, content = ask(server, "/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    for part in ("connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
        assert part in policy
    scripts = policy.partition("script-src ")[2].partition(";")[0]
    assert "unsafe" not in scripts
    assert scripts.count("'sha256-") == content.decode().count("<script>")
    for path in ("/live.json", "/nothing"):
        answer, _ = ask(server, path)
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; frame-ancestors 'none'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Server"] == "theodolite"


def test_the_state_counts_what_the_records_say(server):
    state = json.loads(ask(server)[1])
    (study,) = state["studies"]
    assert {key: study[key] for key in ("total", "done", "running", "failed", "left", "diverged")} == {
        "total": 6, "done": 6, "running": 0, "failed": 0, "left": 0, "diverged": 0,
    }  # fmt: skip
    assert state["running"] is False
    assert [v["row"] for v in state["verdicts"]] == ["tiny-learns"]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil", "localhost.evil", "evil@127.0.0.1", "", "[::1", ["127.0.0.1", "evil"], []],
)  # fmt: skip
def test_a_name_that_somebody_else_may_point_here_is_refused(server, host):
    for path in ("/", "/live.json"):
        answer, content = ask(server, path, host=host)
        assert answer.status == 421
        assert b"127.0.0.1" in content
        assert len(content) < 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "localhost:1", "LOCALHOST", "[::1]:8765", "192.168.0.7"])
def test_a_number_or_localhost_is_served(server, host):
    assert ask(server, host=host)[0].status == 200


PATHS = [
    "/../secret", "/../../../../etc/passwd", "//etc/passwd", "/%2e%2e/secret", "/..%2fsecret", "/%2e%2e%2fsecret",
    "/..%5csecret", "/%252e%252e/secret", "/.%00/secret", "/tiny/../../secret", "/tiny/%2e%2e/%2e%2e/secret", "/link",
    "/tiny/plan.json", "/theodolite.json", "/.lock", "/report.html", "/live.json/", "/live.json/../../secret",
    "/LIVE.JSON", "/..;/secret", "/%c0%ae%c0%ae/secret", "/....//secret", "/file:///etc/passwd", "/proc/self/environ",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_address_gives_a_file(server, directory, path):
    (directory.parent / "secret").write_text(SECRET)
    (directory / "link").symlink_to(directory.parent / "secret")
    answer, content = ask(server, path)
    assert answer.status == 404
    assert content == b"There is nothing here. The page is at /.\n"


@pytest.mark.parametrize(
    "request_line", [b"GET http://127.0.0.1/../secret HTTP/1.1", b"GET ../secret HTTP/1.1", b"GET secret HTTP/1.1"]
)
def test_nor_does_an_address_that_is_no_path(server, request_line):
    said = raw(server, request_line + b"\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert said.split(b" ")[1] in (b"404", b"400")
    assert SECRET.encode() not in said


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "<b>"])
def test_nothing_can_be_written(server, method):
    answer, content = ask(server, "/", method)
    assert answer.status == 501
    assert content == b"Not Implemented\n"


def test_a_head_request_says_the_same_without_the_content(server):
    answer, content = ask(server, "/", "HEAD")
    assert (answer.status, content) == (200, b"")
    assert int(answer.headers["Content-Length"]) == len(ask(server, "/")[1])


def test_what_a_browser_has_already_is_not_sent_again(server):
    first, content = ask(server)
    second, nothing = ask(server, If_None_Match=first.headers["ETag"])
    assert (second.status, nothing) == (304, b"")
    assert len(content) > 100


def test_an_answer_goes_out_in_one_piece_and_at_once(server):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        for _ in range(3):
            connection.sendall(b"GET /live.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            head, _, content = connection.recv(65536).partition(b"\r\n\r\n")
            assert f"Content-Length: {len(content)}".encode() in head
    handler = server.RequestHandlerClass
    assert handler.disable_nagle_algorithm  # else the second piece of a long one waits for a word on the first


@pytest.mark.parametrize(
    "request_text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(200)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_a_request_that_is_none_is_answered_in_a_line_or_not_at_all(server, request_text, capfd):
    said = raw(server, request_text)
    assert said == b"" or said.split(b"\r\n\r\n")[-1].count(b"\n") <= 1
    assert b"<" not in said
    assert ask(server)[0].status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_browsers_that_go_away_leave_no_thread_and_no_word(server, capfd):
    before = threading.active_count()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before
    assert capfd.readouterr().err == ""


def test_more_connections_than_there_is_room_for_are_closed_and_later_ones_served(server):
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", server.server_port))))
        time.sleep(0.2)
        assert threading.active_count() < 280
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ask(server)[0].status == 200:
                break
        assert time.monotonic() < deadline


def test_a_port_in_use_is_one_clear_error(server, directory):
    with pytest.raises(UsageError, match=rf"{server.server_port} is in use on 127\.0\.0\.1.*--port 0"):
        Server(directory, port=server.server_port)


def test_an_address_of_another_machine_is_one_clear_error(directory):
    with pytest.raises(UsageError, match=r"expected an address of this machine, got '192\.0\.2\.1'"):
        Server(directory, host="192.0.2.1")


def test_a_folder_of_something_else_is_refused(tiny, tmp_path):
    with pytest.raises(StoreError, match="expected a results folder"):
        Server(tmp_path)


def test_only_addresses_of_this_machine_count_as_local():
    local = ("127.0.0.1", "127.3.2.1", "::1", "localhost")
    assert [is_local(host) for host in (*local, "0.0.0.0", "::", "192.168.0.1", "example.org")] == [True] * 4 + [
        False
    ] * 4


def test_the_folder_is_not_written_to(server, directory):
    def seen():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [directory, *directory.rglob("*")]}

    before = seen()
    for path in ("/", "/live.json", "/", "/nothing"):
        ask(server, path)
    server.live.report.make(server.live.folder.look())
    assert seen() == before


def command(*arguments):
    return [sys.executable, "-m", "theodolite", "serve", *map(str, arguments)]


def test_ctrl_c_ends_it_cleanly_while_a_page_is_open(directory):
    started = subprocess.Popen(
        command(directory, "--port", "0"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    line = started.stdout.readline()
    assert line.startswith("Live at http://127.0.0.1:")
    port = int(line.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as page:
        page.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert page.recv(12) == b"HTTP/1.1 200"
        began = time.monotonic()
        os.kill(started.pid, signal.SIGINT)
        _, errors = started.communicate(timeout=10)
    assert started.returncode == 0
    assert time.monotonic() - began < 5  # it does not wait for the page
    assert errors == "Stopped.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--host", "0.0.0.0"], 2, "Add --expose if that is meant"),
        (["--host", "192.0.2.1", "--expose"], 2, "Warning: whoever reaches 192.0.2.1 can read this page"),
        (["--port", "70000"], 2, "65535"),
    ],
)
def test_wrong_use_is_said(directory, arguments, code, said):
    done = called("serve", str(directory), *arguments)
    assert done.returncode == code
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_failed_run_is_told_with_its_reason(server, directory):
    spec = next(survey_of.expand(survey_of.STUDY.presets["smoke"]))
    records.write_failure(directory, spec, "the barometer <b>fell</b>")
    server.live.expire()
    (study,) = json.loads(ask(server)[1])["studies"]
    assert (study["failed"], study["done"], study["left"]) == (1, 5, 0)
    assert study["errors"] == [{"reason": "the barometer <b>fell</b>", "runs": [spec.fingerprint()]}]


def test_started_before_the_survey_it_waits_and_then_serves(directory, tmp_path):
    later = tmp_path / "later"
    with subprocess.Popen(command(later, "--port", "0"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith(f"Waiting for a survey or a recording in {later}")
        directory.rename(later)
        assert process.stdout.readline().startswith("Live at http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
