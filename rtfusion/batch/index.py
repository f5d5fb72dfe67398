"""The results of a batch as one HTML page, with a picture of every recording."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rtfusion import __version__
from rtfusion.batch.account import ALL_FILES, Account, Entry, summarize
from rtfusion.batch.storage import Store
from rtfusion.batch.work import DETECTIONS, IMAGES, THUMBNAIL, VIDEO
from rtfusion.page import filled

NAME = "index.html"
_TEMPLATE = Path(__file__).with_name("index.html")


def write_index(store: Store, account: Account) -> str:
    """Write `NAME` beside the results: the account of every recording, its thumbnail in the page, and links to its files.

    Returns:
        Where it is, as it is shown to a person.

    Raises:
        StorageError: the storage does not answer.
    """
    entries = [account.entries[name] for name in sorted(account.entries)]
    page = filled(
        _TEMPLATE,
        version=__version__,
        place=store.shown,
        summary=summarize(account.entries),
        recordings=[_told(store, entry) for entry in entries],
    )
    store.write(NAME, page.encode())
    return f"{store.shown}/{NAME}"


def _told(store: Store, entry: Entry) -> Mapping[str, Any]:
    picture = store.read(f"{entry.recording}/{THUMBNAIL}") if entry.state == "done" else None
    return {
        "entry": entry,
        "dropped": sum(sum(causes.values()) for causes in entry.drops.values()),
        "picture": None if picture is None else f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}",
        "links": _links(entry) if entry.state == "done" else {},
    }


def _links(entry: Entry) -> Mapping[str, str]:
    """What can be opened of a result, by what it is called."""
    folder = quote(entry.recording)
    found = {"video": VIDEO, "boxes": DETECTIONS}
    links = {called: f"{folder}/{name}" for called, name in found.items() if name in entry.outputs}
    if ALL_FILES in entry.outputs or any(name.startswith(f"{IMAGES}/") for name in entry.outputs):
        links["files"] = f"{folder}/"
    return links
