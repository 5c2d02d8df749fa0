"""Objects at an address (``s3://``, ``gs://``, ``az://``, and whatever else fsspec knows): list, get, put, delete.

The only importer of obstore and of fsspec. Credentials come from the environment, as those libraries read it, and are
in no message: an address that holds any is refused.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, Protocol, TypeVar, runtime_checkable
from urllib.parse import urlsplit

from theodolite.errors import MissingExtra, StoreError, UsageError

T = TypeVar("T")
NATIVE = ("s3", "s3a", "gs", "az", "abfs", "abfss", "adl")  # by obstore; every other scheme by fsspec
PATIENCE = 120.0  # seconds that an address may be out of reach while a survey runs
PAUSES = (0.1, 5.0)  # seconds between two tries at first, and at most
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of this machine",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class Objects(Protocol):
    """What lies below an address, by key. Every method raises StoreError where the address does not answer."""

    address: str

    def list(self, folder: str = "") -> dict[str, int]:
        """Bytes of each object below a folder (``name/``), by key; all without one."""
        ...

    def get(self, key: str) -> bytes | None:
        """Its content; None where there is none."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write it whole: readers see the old object or the new one."""
        ...

    def delete(self, key: str) -> None:
        """Take it away, if it is there."""
        ...


Version = dict[str, str]  # what an object store says of one state of an object, and of no other


@runtime_checkable
class ConditionalObjects(Objects, Protocol):
    """Objects whose store has a conditional put. That its server heeds the condition remains to be seen."""

    def get_version(self, key: str) -> tuple[bytes, Version] | None:
        """Its content, and the version that this is; None where there is none."""
        ...

    def put_if(self, key: str, content: bytes, version: Version | None) -> Version | None:
        """Write it in one step, where it is still at this version (None: where there is none).

        Returns:
            The new version; None where it is at another one by now, and nothing was written.

        Raises:
            NotImplementedError: the server refuses conditions.
        """
        ...


def is_address(place: str) -> bool:
    """Whether a place for results is an address, and not a folder."""
    return "://" in place


def check(address: str) -> str:
    """The address without a slash at its end.

    Raises:
        UsageError: it is none, or holds credentials or options, which belong into the environment.
    """
    plain = address.rstrip("/")
    try:
        scheme, netloc, path, query, fragment = urlsplit(address)
    except ValueError:  # whose message would repeat credentials
        raise UsageError(
            "expected an address like s3://BUCKET/FOLDER, got one whose host has brackets, or signs for others."
        ) from None
    if "@" in netloc:  # not repeated: it may be a secret
        raise UsageError(
            f"expected an address without credentials, got one of '{scheme}://' with some. They come from the "
            f"environment: {_needed(scheme)}."
        )
    if query or fragment:
        raise UsageError(
            f"expected an address without options, got '{scheme}://{netloc}{path}?…'. They come from the environment, "
            "such as AWS_ENDPOINT_URL and AWS_REGION."
        )
    named = netloc or scheme not in NATIVE
    if not (re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) and named) or {"..", "."} & set(path.split("/")):
        raise UsageError(f"expected an address like s3://BUCKET/FOLDER, got '{address}'.")
    return plain


@lru_cache(maxsize=16)
def connect(address: str) -> Objects:
    """What lies below an address; asks nothing of it yet.

    Raises:
        UsageError: it is no address, or of a kind that no installed library knows.
    """
    address = check(address)
    return _Native(address) if address.partition("://")[0] in NATIVE else _Foreign(address)


class Patient:
    """Objects whose address is asked again, for two minutes, while it does not answer: servers come back."""

    def __init__(self, objects: Objects) -> None:
        self.address, self._objects = objects.address, objects

    def list(self, folder: str = "") -> dict[str, int]:
        """As the objects do."""
        return _again(lambda: self._objects.list(folder))

    def get(self, key: str) -> bytes | None:
        """As the objects do."""
        return _again(lambda: self._objects.get(key))

    def put(self, key: str, content: bytes) -> None:
        """As the objects do."""
        _again(lambda: self._objects.put(key, content))

    def delete(self, key: str) -> None:
        """As the objects do."""
        _again(lambda: self._objects.delete(key))


def _again(action: Callable[[], T]) -> T:
    deadline, pause = time.monotonic() + PATIENCE, PAUSES[0]
    while True:
        try:
            return action()
        except StoreError:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, PAUSES[1])


class _Native:
    """By obstore: one request an object, and one for a thousand names."""

    def __init__(self, address: str) -> None:
        try:
            import obstore
            import obstore.exceptions
            from obstore.store import from_url
        except ImportError:
            raise MissingExtra("obstore", "remote", f"the address {address}") from None
        scheme = address.partition("://")[0]
        options: dict[str, Any] = {}
        http = False
        if scheme.startswith("s3"):
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            if endpoint:
                options["endpoint"] = endpoint
                http = endpoint.startswith("http://")  # whoever names such an address means it
        self.address, self._obstore = address, obstore
        with _said(address, "reached"):
            self._store: Any = from_url(
                address,
                client_options={"connect_timeout": "5s", "timeout": "60s", "allow_http": http},
                retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=5)},  # patience is above
                **options,
            )

    def list(self, folder: str = "") -> dict[str, int]:
        with _said(self.address, "listed"):
            chunks = self._obstore.list(self._store, prefix=folder.rstrip("/") or None, chunk_size=1000)
            return {item["path"]: item["size"] for chunk in chunks for item in chunk}

    def get(self, key: str) -> bytes | None:
        with _said(f"{self.address}/{key}", "read"):
            try:
                return bytes(self._obstore.get(self._store, key).bytes())
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def put(self, key: str, content: bytes) -> None:
        with _said(f"{self.address}/{key}", "written"):
            self._obstore.put(self._store, key, content)

    def get_version(self, key: str) -> tuple[bytes, Version] | None:
        with _said(f"{self.address}/{key}", "read"):
            try:
                found = self._obstore.get(self._store, key)
                return bytes(found.bytes()), _version(found.meta)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def put_if(self, key: str, content: bytes, version: Version | None) -> Version | None:
        errors = self._obstore.exceptions
        refused = ""
        with _said(f"{self.address}/{key}", "written"):
            try:
                mode = "create" if version is None else version
                return _version(self._obstore.put(self._store, key, content, mode=mode))
            except (errors.AlreadyExistsError, errors.PreconditionError):
                return None
            except (errors.NotSupportedError, errors.GenericError) as error:
                refused = str(error)
                if isinstance(error, errors.GenericError) and "501 Not Implemented" not in refused:
                    raise
        raise NotImplementedError(refused)

    def delete(self, key: str) -> None:
        with _said(f"{self.address}/{key}", "deleted"):
            try:
                self._obstore.delete(self._store, key)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise


class _Foreign:
    """By fsspec, which knows dozens of places, each with a library of its own."""

    def __init__(self, address: str) -> None:
        scheme = address.partition("://")[0]
        try:
            import fsspec
        except ImportError:
            raise MissingExtra("fsspec", "remote", f"the address {address}") from None
        self.address = address
        with _said(address, "reached"):
            try:
                found, root = fsspec.core.url_to_fs(address)
            except (ImportError, ValueError) as error:
                raise UsageError(f"fsspec cannot open an address of '{scheme}://': {error}.") from None
        self._files: Any = found
        self._root = root.rstrip("/")

    def list(self, folder: str = "") -> dict[str, int]:
        with _said(self.address, "listed"):
            self._files.invalidate_cache()
            try:
                found = self._files.find(f"{self._root}/{folder}".rstrip("/"), detail=True)
            except FileNotFoundError:
                return {}
            start = len(self._root) + 1
            return {path[start:]: int(facts["size"] or 0) for path, facts in found.items()}

    def get(self, key: str) -> bytes | None:
        with _said(f"{self.address}/{key}", "read"):
            try:
                return bytes(self._files.cat_file(f"{self._root}/{key}"))
            except FileNotFoundError:
                return None

    def put(self, key: str, content: bytes) -> None:
        path = f"{self._root}/{key}"
        with _said(f"{self.address}/{key}", "written"):
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(path, content)

    def delete(self, key: str) -> None:
        with _said(f"{self.address}/{key}", "deleted"):
            try:
                self._files.rm_file(f"{self._root}/{key}")
            except FileNotFoundError:
                return


def _version(said: Mapping[str, Any]) -> Version:
    return {name: said[name] for name in ("e_tag", "version") if said.get(name)}


@contextmanager
def _said(what: str, done: str) -> Iterator[None]:
    """Whatever a library of others raises, as one sentence that says what to do."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # dozens of libraries, each with errors of its own
        raise StoreError(f"{what} cannot be {done}: {_reason(what.partition('://')[0], error)}") from None


def _reason(scheme: str, error: Exception) -> str:
    text = str(error)
    code = next(iter(re.findall(r"<Code>(\w+)</Code>", text)), "")
    first = re.sub(r"\?\S*", "", (text.splitlines() or [type(error).__name__])[0])[:300]  # a query may hold a signature
    if code == "NoSuchBucket" or "NoSuchBucket" in text:
        return "there is no such bucket. Make it first, or choose another address with --out."
    if "169.254.169.254" in text or "metadata.google.internal" in text or "Account must be specified" in text:
        return f"no credentials were found in the environment. Set {_needed(scheme)}."
    denied = ("403 Forbidden", "401 Unauthorized", "AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId")
    if code in denied or any(word in text for word in denied[:2]) or isinstance(error, PermissionError):
        return (
            f"the credentials in the environment do not allow it{f' ({code})' if code else ''}. Set {_needed(scheme)}."
        )
    if "error sending request" in text:
        where = " and AWS_ENDPOINT_URL" if scheme.startswith("s3") else ""
        return f"it does not answer. Check the network{where}, and run the same command again: finished runs are kept."
    return f"{first}. Run the same command again: finished runs are kept."


def _needed(scheme: str) -> str:
    return CREDENTIALS.get(scheme[:2] if scheme[:2] != "ab" else "az", "what its library reads")
