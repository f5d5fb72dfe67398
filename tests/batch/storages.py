"""Storages for tests: an S3 server of this machine, and one that fails as it is told."""

from __future__ import annotations

import http.client
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

BUCKET = "archive-bucket"


class S3Server:
    """An S3 server on a port of the loopback interface that can be stopped and started again, with what it holds."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: Any = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        self._server = None


@contextmanager
def s3_server(port: int) -> Iterator[S3Server]:
    """A server with one empty bucket, known to this process and its children by their environment."""
    server = S3Server(port)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        server.start()
        # what another test left in this process
        reset = http.client.HTTPConnection("127.0.0.1", port)
        reset.request("POST", "/moto-api/reset")
        reset.getresponse().read()
        reset.close()
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of another server
        fsspec.filesystem("s3").mkdir(BUCKET)
        try:
            yield server
        finally:
            server.stop()


def upload(folder: Path, url: str) -> None:
    """Put every file of a folder below a URL."""
    fs, root = fsspec.url_to_fs(url)
    for path in folder.rglob("*"):
        if path.is_file():
            fs.put_file(str(path), f"{root}/{path.relative_to(folder).as_posix()}")


def download(url: str, folder: Path) -> Path:
    """Get every file below a URL."""
    fs, root = fsspec.url_to_fs(url)
    fs.invalidate_cache()
    for name in fs.find(root):
        path = folder / name.strip("/").removeprefix(root.strip("/")).strip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(name, str(path))
    return folder


class Faulty(LocalFileSystem):
    """The file system of this machine as ``faulty:///path``, whose calls go wrong as ``plan`` says.

    The plan takes the name of the call and the path, and gives ``error``, ``slow``, ``cut`` (half of the file, and no word of
    it), ``broken`` (half of it, and an error), or None.
    """

    protocol = "faulty"
    cachable = False
    plan: ClassVar[Callable[[str, str], str | None]] = staticmethod(lambda call, path: None)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return LocalFileSystem._strip_protocol(str(path).removeprefix("faulty://"))

    def _fault(self, call: str, path: str) -> str | None:
        fault = type(self).plan(call, str(path))
        if fault == "error":
            raise ConnectionResetError(f"{call} was reset")
        if fault == "slow":
            time.sleep(0.05)
        return fault

    def find(self, path: str, **more: Any) -> Any:
        self._fault("find", path)
        return super().find(path, **more)

    def cat_file(self, path: str, **more: Any) -> bytes:
        self._fault("cat", path)
        return super().cat_file(path, **more)

    def pipe_file(self, path: str, value: bytes, **more: Any) -> Any:
        self._fault("pipe", path)
        return super().pipe_file(path, value, **more)

    def get_file(self, path1: str, path2: str, **more: Any) -> None:
        self._copy("get", path1, path2)

    def put_file(self, path1: str, path2: str, **more: Any) -> None:
        self._copy("put", path1, path2)

    def _copy(self, call: str, source: str, target: str) -> None:
        fault = self._fault(call, source if call == "get" else target)
        content = Path(self._strip_protocol(source)).read_bytes()
        if fault in ("cut", "broken"):
            content = content[: len(content) // 2]
        Path(self._strip_protocol(target)).write_bytes(content)
        if fault == "broken":
            raise ConnectionResetError(f"{call} was cut off")


def register_faulty() -> None:
    """Make fsspec know it."""
    fsspec.register_implementation("faulty", Faulty, clobber=True)
