"""Archives and pictures from the network: bombs, and what would start another program."""

import gzip
import io
import struct
import tarfile
import zlib

import datasets
import numpy as np
import pytest
from PIL import Image

from theodolite import machine
from theodolite.data import cifar10, npm, table
from theodolite.errors import DataCorrupt

WANTED = {"package/a": 1000}


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def zeros(size: int) -> bytes:
    """A gzip member of so many zeros, in a thousandth of the bytes, without ever holding them."""
    packer, block = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


ENDLESS = {  # and then half a gigabyte of zeros
    "an extended header of half a gigabyte": header("x", 1 << 29, tarfile.XHDTYPE),
    "a long name of half a gigabyte": header("x", 1 << 29, tarfile.GNUTYPE_LONGNAME),
    "another file of half a gigabyte": header("package/b", 1 << 29),
    "the file itself, larger than said": header("package/a", 1 << 29),
}
BROKEN = {
    "no archive": b"not one",
    "cut": gzip.compress(header("package/a", 1000) + bytes(1024))[:-20],
    "a size that is none": gzip.compress(header("package/a", 10).replace(b"00000000012", b"xxxxxxxxxxx")),
    "a link of the file's name": gzip.compress(header("package/a", 0, tarfile.SYMTYPE) + bytes(1024)),
}


@pytest.fixture(scope="module")
def half_a_gigabyte() -> bytes:
    return zeros(1 << 29)


@pytest.mark.parametrize("what", [*ENDLESS, *BROKEN])
def test_an_archive_that_is_a_bomb_or_none_is_refused_in_little_memory(what, half_a_gigabyte, tmp_path):
    bomb = gzip.compress(ENDLESS[what]) + half_a_gigabyte if what in ENDLESS else BROKEN[what]
    (tmp_path / "p.tgz").write_bytes(bomb)
    machine.forget_peak_memory()
    before = machine.peak_memory()
    with pytest.raises(DataCorrupt):
        npm.read_members(tmp_path / "p.tgz", WANTED)
    assert machine.peak_memory() - before < 50e6


def test_an_archive_with_extended_headers_and_other_files_is_read(tmp_path):
    with tarfile.open(tmp_path / "p.tgz", "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "é"}) as tar:
        for name, content in (("package/" + "long/" * 60 + "name", b"1" * 3000), ("package/a", b"right" * 200)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert npm.read_members(tmp_path / "p.tgz", WANTED) == {"package/a": b"right" * 200}


def png(width: int, height: int) -> bytes:
    """The beginning of a picture of one grey, a thousandth of its pixels in bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + bytes(width)
    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(row * 100)) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def split(content: bytes) -> datasets.Dataset:
    """A data set of one undecoded image."""
    return datasets.Dataset.from_dict({"image": [content]}).cast_column("image", datasets.Image(decode=False))


SMALL = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(8_000, 8_000), "at most 50000000 pixels"),
        (png(100_000, 100_000), "expected an image in row 0"),
        (encoded(SMALL, "EPS"), "cannot identify"),  # Pillow would start Ghostscript
        (encoded(SMALL, "PNG")[:-30], "expected an image in row 0"),
        (b"", "cannot identify"),
    ],
)
def test_a_picture_that_is_a_bomb_or_a_program_is_refused(content, words):
    machine.forget_peak_memory()
    before = machine.peak_memory()
    with pytest.raises(DataCorrupt, match=words):
        table.images(split(content), "image")
    assert machine.peak_memory() - before < 50e6


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_pictures_of_lossless_kinds_are_read_as_they_are(kind):
    found = table.images(split(encoded(SMALL, kind)), "image")
    assert np.array_equal(found[0, 0], np.asarray(SMALL))


def test_pictures_that_do_not_fit_into_memory_together_are_refused():
    class Endless(datasets.Dataset):
        def __len__(self) -> int:
            return 1 << 44

    one = split(encoded(SMALL, "PNG"))
    with pytest.raises(DataCorrupt, match="fit into memory"):
        table.images(Endless(one.data), "image")


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[256]", b"[-1]", b'{"a": 1}', b"[1e400]", b"\xff"])
def test_labels_that_are_none_are_refused(content):
    with pytest.raises(DataCorrupt, match="expected a list of labels"):
        cifar10._labels(content, "train_lables.json")


def test_a_sheet_of_another_size_is_refused_before_it_is_decoded():
    machine.forget_peak_memory()
    before = machine.peak_memory()
    with pytest.raises(DataCorrupt, match="expected a sheet"):
        cifar10._sheet(png(9000, 9000), "data_batch_1")
    assert machine.peak_memory() - before < 50e6
