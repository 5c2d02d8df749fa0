"""What a PNG says of itself, before anybody draws it. Imports nothing that draws."""

import struct

HEAD = struct.Struct(">8sI4sII")  # of a PNG: signature, length and name of its first chunk, width and height
LARGEST = 25_000_000  # pixels: a picture of few bytes may claim more than memory holds
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG in pixels.

    Raises:
        ValueError: it is none, or one that is too large to be drawn.
    """
    if len(content) < HEAD.size:
        raise ValueError("expected a PNG, got fewer bytes than the head of one")
    signature, _, first, width, height = HEAD.unpack_from(content)
    if signature != SIGNATURE or first != b"IHDR" or not (width and height):
        raise ValueError("expected a PNG, got another file")
    if width * height > LARGEST:
        raise ValueError(f"expected a PNG of at most {LARGEST:,} pixels, got {width:,} x {height:,}")
    return width, height
