"""Thousands of results folders, each changed in one place under checksums that fit, read by every command.

    python benchmarks/fuzz.py [--count 5000] [--seed 0] FOLDER

FOLDER is a smoke survey of all studies; recordings and studies of one's own are made beside it. Prints each fault once,
by its place in the source, and ends with 1 where there was any (`tests/fuzzed.py` says what may be).
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import fuzzed
import fuzzed_folders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a smoke survey")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names of folders, separated by commas")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        root = Path(scratch)
        sources = [*fuzzed_folders.parts(options.folder, root / "parts"), *fuzzed_folders.made(root / "made")]
        if options.only:
            sources = [source for source in sources if source.name in options.only.split(",")]
        (root / "work").mkdir()
        seen = fuzzed.run(sources, root / "work", options.seed, options.count)
    print(seen.words())
    return 1 if seen.faults else 0


if __name__ == "__main__":
    sys.exit(main())
