"""``rtfusion batch``: fuse an archive of recordings; ``batch status``: how that stands; ``batch index``: a page of it."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtfusion.cli.options import ConfigFile, Debug, takes_settings
from rtfusion.portable import needs, usable_cores

if TYPE_CHECKING:
    from rtfusion.batch.rules import Rule
    from rtfusion.batch.run import Workers
    from rtfusion.batch.storage import Store
    from rtfusion.config import Loaded, Settings

NOMINAL_SIZE_PX = 640, 480
"""Size at which the precision of a batch is chosen: its recordings may have any."""
STATUS, INDEX = "status", "index"
DEFAULT_SPLIT_MIN = 10.0
SCRATCH_SHARE = 0.5
"""Part of what is free on the disk that recordings on their way may take, unless that is said."""

_option = functools.partial(typer.Option, rich_help_panel="Batch")


@takes_settings(decider="batch")
def batch(
    flags: Mapping[str, object],
    *,
    archive: Annotated[
        str,
        typer.Argument(
            metavar="ARCHIVE", help="Folder or URL of the recordings; or status, or index.", show_default=False
        ),
    ],
    results: Annotated[
        str | None,
        typer.Argument(
            metavar="[OUT]", help="With status and index: folder or URL of the results.", show_default=False
        ),
    ] = None,
    out: Annotated[str | None, _option("--out", metavar="DIR|URL", help="Folder or URL of the results.")] = None,
    jobs: Annotated[
        int | None,
        _option(
            "--jobs", metavar="N", min=1, help="Recordings at a time: the cores; on a cluster, as many as have room."
        ),
    ] = None,
    vis_name: Annotated[
        list[str] | None, _option("--vis-name", metavar="NAME", help="Name of visible ones (repeatable).")
    ] = None,
    ir_name: Annotated[
        list[str] | None, _option("--ir-name", metavar="NAME", help="Name of thermal ones (repeatable).")
    ] = None,
    ray: Annotated[
        str | None, _option("--ray", metavar="ADDRESS", help="On a Ray cluster: auto, local, HOST:PORT.")
    ] = None,
    cores: Annotated[
        int | None,
        _option("--cores", metavar="N", min=1, help="Cores that each recording reserves on a cluster, and uses: 1."),
    ] = None,
    split_min: Annotated[
        float,
        _option(
            "--split-min",
            metavar="MINUTES",
            min=0,
            help="Fuse longer recordings in pieces of about this length; 0: never.",
        ),
    ] = DEFAULT_SPLIT_MIN,
    rules: Annotated[
        Path | None,
        _option("--rules", metavar="FILE", help="TOML: settings of a part of the archive, by a pattern of names."),
    ] = None,
    write: Annotated[
        str | None,
        _option(
            "--write",
            metavar="WHAT",
            help="Of the pictures: video, images or nothing; a video of videos, images of images.",
        ),
    ] = None,
    detect: Annotated[
        str | None,
        _option("--detect", metavar="FILE|URL", help="A YOLOX (ONNX) whose boxes are written, as COCO's JSON."),
    ] = None,
    detect_hz: Annotated[
        int | None, _option("--detect-hz", metavar="N", min=1, max=1000, help="It looks at N pictures a second: all.")
    ] = None,
    overwrite: Annotated[bool, _option("--overwrite", metavar="", help="Fuse anew what has other settings.")] = False,
    retry: Annotated[str | None, _option("--retry", metavar="failed", help="Try what failed before once more.")] = None,
    scratch: Annotated[
        str | None, _option("--scratch", metavar="DIR", help="Folder for what is copied from and to URLs.")
    ] = None,
    scratch_gb: Annotated[
        float | None,
        _option(
            "--scratch-gb",
            metavar="GB",
            min=0.001,
            help="No more than this lies there at a time: half of what is free.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, _option("--dry-run", metavar="", help="Only say how much there is, and what it will cost.")
    ] = False,
    as_json: Annotated[bool, _option("--json", metavar="", help="Show the end, or the status, as JSON.")] = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Fuse every recording of an archive; go on where an earlier batch was interrupted.

    A recording is a folder that holds a visible and a thermal video, or two
    folders of images, named vi and ir (vis, rgb, thermal ...), or two in one
    folder that differ in such a word (walk_T.mp4, walk_V.mp4). Its result appears
    under the same name in --out when it is whole: fused.mp4 or fused/, and
    done.json, which tells of what was read, paired and dropped. batch.jsonl
    there is the account of all recordings. With --detect, detections.json holds
    the boxes of a detector.

      rtfusion batch archive/ --out fused/ --jobs 4
      rtfusion batch archive/ --out fused/ --fuser learned --model small
      rtfusion batch archive/ --out fused/ --rules rigs.toml
      rtfusion batch s3://bucket/archive --out s3://bucket/fused --ray auto
      rtfusion batch s3://bucket/archive --out s3://bucket/fused --dry-run
      rtfusion batch status s3://bucket/fused
      rtfusion batch index fused/

    Give it the settings of [bold]run[/bold] that say how to pair, register and fuse. Files may be named by URL.
    """
    from rtfusion.batch import Told, by_rules, find_recordings, make_jobs, read_rules, run
    from rtfusion.batch.archive import THERMAL_NAMES, VISIBLE_NAMES
    from rtfusion.batch.estimate import estimate
    from rtfusion.batch.storage import open_store
    from rtfusion.batch.work import VIDEO_OF_VIDEOS
    from rtfusion.cli.batch_status import BatchStatus, show_index, show_status, tell, tell_estimate
    from rtfusion.cli.job import tell_found
    from rtfusion.cli.stopping import Stopping
    from rtfusion.errors import ConfigError

    needs("linux", "macos", what="rtfusion batch", instead="fuse the recordings one by one with rtfusion run")
    if archive in (STATUS, INDEX):
        place = _place_of_results(results, out, asked=archive)
        sys.exit(show_status(place, as_json=as_json) if archive == STATUS else show_index(place))
    if results is not None:
        raise ConfigError(f"one archive at a time, and {results!r} is a second one; name the results with --out")
    if out is None:
        raise ConfigError("--out is missing: name the folder or URL of the results")
    _refuse_surprises(retry=retry, write=write, detect=detect, detect_hz=detect_hz, cores=cores, ray=ray)
    source, target = open_store(archive), open_store(out)
    if "?" in target.place(""):
        raise ConfigError(f"--out is {target.shown!r}; a place with a question mark in its name cannot be written to")
    with tempfile.TemporaryDirectory(prefix="rtfusion-batch-") as folder:
        copied = functools.cache(lambda url: _copied(url, Path(folder)))
        loaded, _ = _loaded(flags, config=config, copied=copied)
        tell_found(loaded)
        detector = _detector(detect)
        told_of = () if rules is None else read_rules(rules)
        recordings = find_recordings(
            source.place(""),
            visible=vis_name or VISIBLE_NAMES,
            thermal=ir_name or THERMAL_NAMES,
            leave_out=target.place(""),
        )
        made = []
        for matching, some in by_rules(recordings, told_of).items():
            loaded, urls = _loaded(flags, config=config, copied=copied, rules=matching)
            settings = _with_precision(loaded.settings, out=target, names={recording.name for recording in some})
            made += make_jobs(
                some,
                out=target.place(""),
                settings={**_plain(settings), **urls},
                split_s=round(split_min * 60) or None,
                writes=write or VIDEO_OF_VIDEOS,
                detector=detector,
                detect_hz=detect_hz,
                scratch=scratch,
                scratch_bytes=_scratch_bytes(scratch, scratch_gb),
            )
        made.sort(key=lambda job: job.name)
        if dry_run:
            tell_estimate(estimate(made, out=target.place("")), jobs=jobs or len(usable_cores()), as_json=as_json)
            return
    workers = _workers(jobs, ray=ray, cores=cores)
    started_s = time.monotonic()
    with Stopping() as stopping, BatchStatus() as status:
        summary, before = run(
            made,
            out=target.place(""),
            workers=workers,
            stop=stopping.event,
            overwrite=overwrite,
            retry_failed=retry is not None,
            head={"archive": source.shown, "workers": "processes" if ray is None else "ray"},
            told=Told(say=status.say, stands=status.show),
        )
    tell(target, summary, before=before, elapsed_s=time.monotonic() - started_s, as_json=as_json)
    sys.exit(stopping.exit_code or summary.exit_code)


def _place_of_results(results: str | None, out: str | None, *, asked: str) -> str:
    from rtfusion.errors import ConfigError

    if (results is None) == (out is None):
        raise ConfigError(
            f"{asked} wants one place of results: rtfusion batch {asked} OUT (an archive in a folder named {asked} is ./{asked})"
        )
    return results or out or ""


def _refuse_surprises(
    *,
    retry: str | None,
    write: str | None,
    detect: str | None,
    detect_hz: int | None,
    cores: int | None,
    ray: str | None,
) -> None:
    """Refuse options that are none, or that say nothing without another one."""
    from rtfusion.batch.work import WRITES
    from rtfusion.errors import ConfigError
    from rtfusion.text import did_you_mean

    if retry not in (None, "failed"):
        raise ConfigError(f"--retry is {retry!r}; expected failed")
    if write not in (None, *WRITES):
        raise ConfigError(
            f"--write is {write!r}; expected one of {', '.join(WRITES)}{did_you_mean(write or '', WRITES)}"
        )
    if detect_hz is not None and detect is None:
        raise ConfigError("--detect-hz says how often a detector looks; name one with --detect")
    if cores is not None and ray is None:
        raise ConfigError("--cores is for a cluster (--ray); processes of this machine share its cores by --jobs")


def _loaded(
    flags: Mapping[str, object], *, config: Path | None, copied: Callable[[str], str], rules: Sequence[Rule] = ()
) -> tuple[Loaded, dict[str, str]]:
    """The settings, with files that are named by URL copied to this machine, and those URLs by the names of the settings."""
    from rtfusion.batch.storage import is_url
    from rtfusion.config import Settings, load

    declared = Settings.declared()

    def is_far(name: str, value: object) -> bool:
        return isinstance(value, str) and declared[name].path in ("file", "model") and is_url(value)

    def local(values: Mapping[str, object]) -> dict[str, object]:
        return {name: copied(str(value)) if is_far(name, value) else value for name, value in values.items()}

    given = {**flags, **{name: value for rule in rules for name, value in rule.values.items()}}
    urls = {name: str(value) for name, value in given.items() if is_far(name, value)}
    told = [(rule.origin, local(rule.values)) for rule in rules]
    return load(local(flags), file=config, environ=os.environ, told=told), urls


def _copied(url: str, folder: Path) -> str:
    """The path of what a URL names, copied into a folder beside what is there."""
    from rtfusion.batch.storage import fetch_url

    return str(fetch_url(url, Path(tempfile.mkdtemp(dir=folder)) / "file"))


def _detector(named: str | None) -> str | None:
    """The detector by its whole path, or its URL, once it was seen to be one."""
    from rtfusion.batch.storage import fetch_url, is_url
    from rtfusion.focus.detector import read_detector_spec

    if named is None:
        return None
    if not is_url(named):
        read_detector_spec(Path(named))
        return str(Path(named).resolve())
    with tempfile.TemporaryDirectory(prefix="rtfusion-batch-") as folder:
        read_detector_spec(fetch_url(named, Path(folder) / "detector.onnx"))
    return named


def _scratch_bytes(scratch: str | None, scratch_gb: float | None) -> int:
    from rtfusion.batch.work import default_scratch
    from rtfusion.errors import ConfigError

    if scratch_gb is not None:
        return int(scratch_gb * 1e9)
    folder = Path(scratch or default_scratch()).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        return int(shutil.disk_usage(there).free * SCRATCH_SHARE)
    except OSError as error:
        raise ConfigError(f"--scratch is {scratch!r}: {error.strerror}") from error


def _with_precision(settings: Settings, *, out: Store, names: Collection[str]) -> Settings:
    """Decide on one precision for these recordings: the one that their results have, or the fastest on this machine."""
    from rtfusion.batch import Account
    from rtfusion.batch.account import precision_of
    from rtfusion.engines import choose_precision

    if settings.fuser != "learned" or settings.precision != "auto":
        return settings
    precision = (
        precision_of({name: entry for name, entry in Account(out).entries.items() if name in names})
        or choose_precision(
            settings.model, precision="auto", engine=settings.engine, size_px=NOMINAL_SIZE_PX, threads=settings.threads
        ).precision
    )
    return settings.model_copy(update={"precision": precision})


def _plain(settings: Settings) -> dict[str, Any]:
    """Give the settings that a job carries: those that a batch leaves open and the fuser takes, files by their whole path."""
    from rtfusion.config import ONLY_OF
    from rtfusion.models.shipping import is_name

    plain: dict[str, Any] = {}
    other_fusers = {taker for taker, fusers in ONLY_OF.items() if settings.fuser not in fusers}
    for name, value in settings.model_dump(mode="json", exclude_none=True).items():
        setting = settings.declared()[name]
        if "batch" not in setting.decided_by and setting.taker not in other_fusers:
            named = setting.path == "model" and is_name(Path(value))
            is_file = setting.path is not None and not named and Path(value).exists()
            plain[name] = str(Path(value).resolve()) if is_file else value
    return plain


def _workers(jobs: int | None, *, ray: str | None, cores: int | None) -> Workers:
    if ray is not None:
        from rtfusion.batch.on_ray import RayWorkers

        return RayWorkers(address=ray, count=jobs, cores=cores)
    from rtfusion.batch.processes import Processes

    return Processes(jobs or len(usable_cores()))
