"""The Hugging Face Hub, through the ``datasets`` library; if it is out of reach, that is noticed before any retries."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from theodolite.data import cache, table
from theodolite.data.arrays import Arrays, Progress
from theodolite.data.transfer import Broken, retried
from theodolite.errors import DataCorrupt, DataUnavailable, UnknownName, require

T = TypeVar("T")

PREFIX = "hub:"
PATIENCE = 2.5  # seconds for an answer of any kind, name resolution included


def open_hub(source: str, progress: Progress) -> cache.Entry:
    """Any data set of the Hub with a training and a test split, by ``hub:OWNER/NAME``; kept once it is here.

    Raises:
        DataUnavailable: the Hub cannot be reached, has no such data set, or it has no columns that fit.
    """
    name = source.removeprefix(PREFIX)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name, re.ASCII):
        raise UnknownName("data set of the Hub (written hub:OWNER/NAME)", name, ["hub:OWNER/NAME"])

    def make() -> tuple[Arrays, str]:
        return from_hub(name, lambda splits: table.arrays(splits, f"'{source}'"), progress), f"the Hub, {name}"

    return cache.keep(f"hub--{name.replace('/', '--')}", make, progress=progress)


def from_hub(name: str, convert: Callable[[Mapping[str, Any]], T], progress: Progress) -> T:
    """Fetch a data set and convert its splits; the library resumes a transfer that breaks, and we try again after that.

    Raises:
        DataUnavailable: the Hub cannot be reached or does not have it; holds the library's own words.
        DataCorrupt: what it has cannot be converted.
        MissingExtra: the ``datasets`` library is not installed.
    """
    require("A data set of the Hub", "datasets")
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise DataUnavailable("the Hub is switched off by HF_HUB_OFFLINE; unset it to fetch")
    progress(0, None, "asking the Hub")
    reason = unreachable(constants.ENDPOINT)
    if reason:
        raise DataUnavailable(
            f"the Hub at {constants.ENDPOINT} cannot be reached: {reason}; connect, or set HF_ENDPOINT to a mirror"
        )
    progress(0, None, f"fetching {name} from the Hub")
    with cache.scratch() as folder, quiet():
        splits = retried(lambda: _load(name, folder), told=lambda text: progress(0, None, text))
        progress(0, None, f"decoding {name}")
        try:
            return convert(splits)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise DataCorrupt(f"the table {name} of the Hub is not as it was published: {_line(error)}") from error


def unreachable(endpoint: str, patience: float = PATIENCE) -> str:
    """Why an endpoint gives no answer within the patience; empty if it gives one.

    Asked in a thread of its own: no time limit of a socket covers name resolution, nor a server that trickles.
    """
    answer: list[str] = []

    def ask() -> None:
        try:
            with urlopen(Request(endpoint, method="HEAD"), timeout=patience):  # noqa: S310 - the user's own endpoint
                answer.append("")
        except HTTPError as error:  # an answer all the same, unless a gateway gives it for a server that is down
            answer.append(f"status {error.code}" if error.code >= 500 else "")
        except Exception as error:
            answer.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return answer[0] if answer else f"no answer within {patience:g} s"


def _load(name: str, folder: Path) -> Any:
    from datasets import load_dataset
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return load_dataset(name, cache_dir=str(folder))
    except LocalEntryNotFoundError as error:  # a kind of FileNotFoundError, but it means that the network failed
        raise Broken(f"fetching '{name}' from the Hub broke: {_line(error)}") from error
    except (FileNotFoundError, ValueError) as error:
        raise DataUnavailable(f"the Hub gave no data set '{name}': {_line(error)}") from error
    except HfHubHTTPError as error:
        final = error.response is not None and error.response.status_code < 500
        raise (DataUnavailable if final else Broken)(f"the Hub gave no data set '{name}': {_line(error)}") from error
    except Exception as error:  # the library's own kinds are many, and most mean a transfer that broke
        raise Broken(f"fetching '{name}' from the Hub broke: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' own progress bars; ours tells."""
    loud = [
        library
        for library in (import_module("datasets.utils"), import_module("huggingface_hub.utils"))
        if not library.are_progress_bars_disabled()
    ]
    for library in loud:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for library in loud:
            library.enable_progress_bars()
