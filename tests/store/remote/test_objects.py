"""Objects at addresses of several kinds, and what is said of addresses that do not answer."""

import sys
import time
from pathlib import Path

import pytest

from s3 import BUCKET, SECRET, Server, server
from theodolite.errors import MissingExtra, StoreError, UsageError
from theodolite.store.remote import objects
from theodolite.store.remote.objects import check, connect, is_address

__all__ = ["server"]


@pytest.mark.parametrize("kind", ["s3", "memory", "file"])
def test_objects_are_listed_read_written_and_taken_away(server: Server, tmp_path: Path, kind: str):
    found = connect({"s3": f"s3://{BUCKET}/a/b", "memory": "memory://a/b", "file": f"file://{tmp_path}/a/b"}[kind])
    assert found.list() == {}
    assert found.get("x") is None
    found.delete("x")
    written = {"x": b"1", "one/two": bytes(range(256)), "one/three": b"", ".own/four.json": b"{}"}
    for key, content in written.items():
        found.put(key, content)
    assert {key: found.get(key) for key in written} == written
    assert found.list() == {key: len(content) for key, content in written.items()}
    assert found.list("one/") == {"one/two": 256, "one/three": 0}
    found.put("x", b"another")
    found.delete("one/two")
    assert found.get("x") == b"another"
    assert found.list() == {"x": 7, "one/three": 0, ".own/four.json": 2}


def test_an_object_of_many_parts_arrives_whole(server: Server):
    content = bytes(range(256)) * (1 << 16)  # 16 MiB
    found = connect(f"s3://{BUCKET}/large")
    found.put("weights", content)
    assert found.get("weights") == content


@pytest.mark.parametrize(
    ("place", "address"),
    [("s3://b/p", True), ("gs://b", True), ("memory://x", True), ("results/quick", False), ("/a:b", False)],
)
def test_an_address_is_told_from_a_folder(place: str, address: bool):
    assert is_address(place) == address


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("s3://key:hidden@bucket/x", "without credentials.*AWS_ACCESS_KEY_ID"),
        ("sftp://me:hidden@host/x", "without credentials"),
        ("s3://bucket/x?secret_access_key=hidden", "without options.*AWS_ENDPOINT_URL"),
        ("gs://bucket/x#hidden", "without options"),
        ("s3:///x", "expected an address like s3://BUCKET/FOLDER, got"),
        ("s3://bucket/../other", "expected an address like"),
        ("https://[", "expected an address like"),
        ("https://me:hidden@[", "expected an address like"),
        ("https://me:hidden@a\u2100b/x", "expected an address like"),
        ("://bucket", "expected an address like"),
        ("what://bucket/x", "fsspec cannot open an address of 'what://'"),
    ],
)
def test_what_is_no_address_is_refused_and_its_secrets_are_not_repeated(given: str, said: str):
    with pytest.raises(UsageError, match=said) as error:
        connect(given)
    assert "hidden" not in str(error.value)


def test_a_slash_at_the_end_changes_nothing():
    assert check("s3://bucket/folder/") == "s3://bucket/folder"


CREDENTIALS = r"Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


@pytest.mark.parametrize(
    ("environment", "bucket", "said"),
    [
        ({}, "absent", "there is no such bucket"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, BUCKET, rf"do not allow it \(SignatureDoesNotMatch\)\. {CREDENTIALS}"),
        ({"AWS_ACCESS_KEY_ID": "stranger"}, BUCKET, rf"do not allow it \(\w+\)\. {CREDENTIALS}"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, BUCKET, "does not answer. Check the network and AWS_ENDPOINT_URL"),
        (
            {"AWS_ENDPOINT_URL": "https://nowhere.invalid"},
            BUCKET,
            "does not answer. Check the network and AWS_ENDPOINT",
        ),
    ],
)
def test_an_address_that_does_not_answer_is_said_soon_and_says_why(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment, bucket: str, said: str
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = connect(f"s3://{bucket}/{tmp_path.name}")
    started = time.monotonic()
    for act in (found.list, lambda: found.get("x"), lambda: found.put("x", b"1")):
        with pytest.raises(StoreError, match=f"s3://{bucket}/{tmp_path.name}.* cannot be .*: .*{said}") as error:
            act()
        assert SECRET not in str(error.value)
        assert "\n" not in str(error.value)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://bucket/x", "no credentials were found in the environment. Set AWS_ACCESS_KEY_ID"),
        ("gs://bucket/x", "no credentials were found in the environment. Set GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://container/x", "no credentials were found in the environment. Set AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
def test_without_credentials_it_says_which_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match=said):
        connect(f"{address}/{tmp_path.name}").list()


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    for address in ("s3://bucket/missing", "memory://missing"):
        with pytest.raises(MissingExtra, match=r"pip install 'theodolite\[remote\]'"):
            connect(address)


def test_who_is_patient_asks_again_until_it_answers_but_not_for_ever(monkeypatch: pytest.MonkeyPatch):
    found, asked = connect("memory://patience"), []

    def at_the_third(key: str) -> bytes:
        asked.append(key)
        if len(asked) < 3:
            raise StoreError("it does not answer")
        return b"there"

    monkeypatch.setattr(objects, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(found, "get", at_the_third)
    assert objects.Patient(found).get("x") == b"there"
    assert asked == ["x"] * 3
    monkeypatch.setattr(objects, "PATIENCE", 0.05)
    monkeypatch.setattr(found, "get", lambda key: asked.clear() or at_the_third(key))
    with pytest.raises(StoreError, match="does not answer"):
        objects.Patient(found).get("x")
