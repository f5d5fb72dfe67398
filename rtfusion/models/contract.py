"""Contracts that are stored in a model file as JSON, and hold only for the graph that they were written for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import ValidationError

from rtfusion.errors import ModelError
from rtfusion.models import onnx_file


class Contract(Protocol):
    """What a model gives, and the graph that gives it."""

    @property
    def checksum(self) -> str:
        """SHA-256 of the serialized graph: see `rtfusion.models.onnx_file.graph_checksum`."""
        ...


ContractT = TypeVar("ContractT", bound=Contract)


def read_contract(path: Path, *, key: str, parse: Callable[[str], ContractT], what: str) -> ContractT:
    """The contract under one key of the metadata of ``path``; ``what`` a model with such a one is called.

    Raises:
        ModelError: there is no such file, it is no ONNX model, it has no such contract, or its graph is another one.
    """
    file = onnx_file.load(path)
    if key not in file.metadata:
        raise ModelError(f"{path} is no {what} (no {key} in its metadata)")
    return checked_contract(file.metadata[key], parse=parse, file=file, path=path)


def checked_contract(
    text: str, *, parse: Callable[[str], ContractT], file: onnx_file.OnnxFile, path: Path, prefix: str = ""
) -> ContractT:
    """The contract that ``parse`` makes of ``text``, checked against the graph that it is stored with.

    ``prefix`` is put before the names of its values in messages.

    Raises:
        ModelError: the contract does not hold, or the graph is another one.
    """
    try:
        contract = parse(text)
    except ValidationError as error:
        problems = "; ".join(f"{prefix}{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ModelError(f"{path} has a contract that does not hold: {problems}") from error
    if hashlib.sha256(file.graph).hexdigest() != contract.checksum:
        raise ModelError(
            f"{path} is damaged or was edited: its graph has not the checksum of its contract; get it again"
        )
    return contract
