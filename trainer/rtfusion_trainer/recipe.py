"""From a sentence to a student that ships: teacher, its pictures, student, model file, figures, card.

``rtfusion train recipe language`` calls `run_recipe`. Each stage goes on where it stopped. What is finished stands in
``recipe.json``, with the settings that decided it: the same folder with other settings is refused. After ten steps of a stage
that takes long, what the rest will cost is told.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rtfusion.errors import ConfigError
from rtfusion.evaluate import metrics
from rtfusion.files import write_whole
from rtfusion.types import Image8
from rtfusion_trainer import checkpoint
from rtfusion_trainer.card import card
from rtfusion_trainer.checkpoint import CHECKPOINT
from rtfusion_trainer.config import TrainingOptions, load_config
from rtfusion_trainer.distill import train_student
from rtfusion_trainer.encoders import EncoderFiles
from rtfusion_trainer.evaluate import evaluate, scores
from rtfusion_trainer.export import NOT_STATED, export, stamp_scores
from rtfusion_trainer.likeness import likeness
from rtfusion_trainer.losses.perceptual import Vgg19Features, load_vgg19
from rtfusion_trainer.pairs import image_sets, read_pair
from rtfusion_trainer.progress import Stopped, tell
from rtfusion_trainer.smoked import SET, write_smoked
from rtfusion_trainer.student import Student
from rtfusion_trainer.teach import ask, load_teacher_config, open_cache, teacher_prompts, train_teacher
from rtfusion_trainer.teachers.cache import CachedPictures, CachedTeacher
from rtfusion_trainer.teachers.ldfusion import LdFusion
from rtfusion_trainer.teachers.training import SCHEMA as TEACHER_SCHEMA
from rtfusion_trainer.teachers.training import steps_per_epoch
from rtfusion_trainer.workers import join

STATE = "recipe.json"
SCHEMA = 1
PROBE_STEPS = 10
STAGES = ("pairs", "teacher", "cache", "student", "export", "evaluate")


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """What the recipe is made of; everything but ``out``, ``device``, ``threads`` and ``stop`` decides the result."""

    pairs: Path
    """Folders SET/vi and SET/ir, or vi and ir themselves."""
    out: Path
    clip_weights: Path | None = None
    clip_model: str | None = None
    clip_test: bool = True
    stand_in: Path | None = None
    """The encoder of ``rtfusion train encoder``, where there is no CLIP."""
    goal: tuple[str, ...] = ()
    away_from: tuple[str, ...] = ()
    teacher_preset: str = "ours"
    student_preset: str = "language"
    init: Path | None = Path("small")
    """What the student begins as."""
    vgg_weights: Path | None = None
    """Without it, features are compared nowhere."""
    teacher_steps: int | None = None
    student_steps: int | None = None
    shifts: str = "few"
    smoke_every: int = 6
    """Every so many pairs are there again in smoke; 0: none."""
    eval_data: Path | None = None
    """Pairs to evaluate on; the training pairs if None, which the card says."""
    trained_on: tuple[str, ...] = ()
    license_id: str = NOT_STATED
    seed: int | None = None
    device: str = "auto"
    threads: int | None = None
    stop: Callable[[], bool] = lambda: False

    @property
    def encoder(self) -> EncoderFiles:
        """What judges by sentences."""
        return EncoderFiles(
            clip_weights=self.clip_weights,
            clip_model=self.clip_model,
            clip_test=self.clip_test,
            stand_in=self.stand_in,
        )

    @property
    def prompts(self) -> dict[str, Sequence[str]]:
        """Texts instead of the presets'."""
        return {"objective": self.goal, "away": self.away_from}

    def deciding(self) -> dict[str, str]:
        """The settings that decide the result, as text."""
        rest = ("out", "device", "threads", "stop")
        return {name: str(value) for name, value in vars(self).items() if name not in rest}


class Recipe:
    """The stages, in the folder ``options.out``."""

    def __init__(self, options: RecipeOptions) -> None:
        """Take up what is there.

        Raises:
            ConfigError: the folder was made with other settings.
        """
        self.options = options
        self.data = options.out / "pairs"
        self._state = options.out / STATE
        self.finished: list[str] = []
        if self._state.exists():
            self._take_up()

    def run(self) -> Path | None:
        """Do what is not done; gives the card, or None where ``stop`` ended it before."""
        self._save()
        for line in self._without_features():
            tell(line)
        stages: Mapping[str, Callable[[], bool]] = {name: getattr(self, f"_{name}") for name in STAGES}
        for number, (name, make) in enumerate(stages.items(), 1):
            if name in self.finished:
                tell(f"stage {number}/{len(stages)} {name}: done before")
                continue
            tell(f"stage {number}/{len(stages)} {name}")
            if not make() or self.options.stop():
                return None
            self.finished.append(name)
            self._save()
        return self.options.out / "card.md"

    # ---- the stages: each gives True if it came to its end -------------------------------------------------------------

    def _pairs(self) -> bool:
        given = self.options.pairs
        sets = {given.name: given} if (given / "vi").is_dir() else {name: given / name for name in image_sets(given)}
        if SET in sets:
            raise ConfigError(f"{given} has a set of the name {SET}, which the recipe makes; rename it")
        self.data.mkdir(parents=True, exist_ok=True)
        for name, folder in sets.items():
            if not (self.data / name).exists():
                (self.data / name).symlink_to(folder.resolve(), target_is_directory=True)
        count = sum(len(pairs) for name, pairs in image_sets(self.data).items() if name != SET)
        every = self.options.smoke_every
        smoked = write_smoked(self.data, self.data, every=every) if every else 0
        tell(f"{count} pairs, and {smoked} of them again in smoke")
        return True

    def _teacher(self) -> bool:
        options, config = self.options, load_teacher_config(self.options.teacher_preset)
        pairs = sum(map(len, image_sets(self.data).values()))
        total = config.schedule.epochs * steps_per_epoch(config.schedule, pairs=pairs)
        steps = total if options.teacher_steps is None else min(total, options.teacher_steps)

        def train(stop: Callable[[], bool]) -> None:
            training = self._training(options.teacher_preset, "teacher", steps=steps, stop=stop)
            train_teacher(training, encoder=options.encoder, prompts=options.prompts)

        # weights, two moments of the optimizer, and the weights in the published layout
        size = 4 * _bytes_of(LdFusion())
        return self._train(train, folder="teacher", steps=steps, schema=TEACHER_SCHEMA, size=size)

    def _cache(self) -> bool:
        stop = self.options.stop
        with self._cached() as cached:
            missing = [
                pair for pair in self._seen_pairs() if not cached.path(visible=pair[0], thermal=pair[1]).exists()
            ]
            first, rest = missing[:1], missing[1:]
            for visible, thermal in first if not stop() else ():
                began_s = time.monotonic()
                cached(visible=visible, thermal=thermal)
                took_s = time.monotonic() - began_s
                size = cached.path(visible=visible, thermal=thermal).stat().st_size
                self._cost(len(rest), per_step_s=took_s, disk=size * len(rest), what="pictures")
            ask(rest, cached, stop=stop)
        return not stop()

    def _student(self) -> bool:
        options = self.options
        config = load_config(options.student_preset)
        steps = options.student_steps or config.schedule.steps
        with self._cached() as cached:
            folder = cached.folder
        judge = options.encoder if config.imitation.language else None

        def train(stop: Callable[[], bool]) -> None:
            training = self._training(options.student_preset, "student", steps=steps, stop=stop)
            train_student(training, init=options.init, language_cache=folder, encoder=judge, prompts=options.prompts)

        # weights, their moving average, and two moments of the optimizer
        size = 4 * _bytes_of(Student(config.network))
        return self._train(train, folder="student", steps=steps, schema=checkpoint.SCHEMA, size=size)

    def _export(self) -> bool:
        trained_on = self.options.trained_on or (NOT_STATED,)
        student = self.options.out / "student" / CHECKPOINT
        differences = export(
            student, self.options.out / "models", trained_on=trained_on, license_id=self.options.license_id
        )
        for path, difference in differences.items():
            tell(f"{path}: {difference:.5f} from PyTorch")
        return True

    def _evaluate(self) -> bool:
        options, (model,) = self.options, sorted((self.options.out / "models").glob("*.onnx"))
        data = options.eval_data or self.data
        with self._cached() as cached:
            pictures = CachedPictures(cached.folder)
        features = None
        if options.vgg_weights is not None:
            features = load_vgg19(options.vgg_weights, layers=load_config(options.student_preset).imitation.layers)
        self._evaluation_cost([files for pairs in image_sets(data).values() for files in pairs], features)
        try:
            result = evaluate(
                model,
                data=data,
                threads=options.threads,
                teacher=pictures,
                features=features,
                log=tell,
                stop=options.stop,
            )
        except Stopped:
            return False
        stamp_scores(model, scores(result))
        prompts = teacher_prompts(load_teacher_config(options.teacher_preset), options.prompts)
        notes = [f"The goal of its teacher: {'; '.join(prompts.objective)}."]
        if prompts.away:
            notes.append(f"Away from: {'; '.join(prompts.away)}.")
        notes += self._without_features()
        if options.eval_data is None:
            notes.append("Evaluated on the pairs that it was trained on: no measure of what it does on others.")
        if options.stand_in is not None:
            notes.append("Its teacher was trained with the stand-in encoder of this domain, not with CLIP.")
        write_whole(options.out / "result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
        write_whole(options.out / "card.md", card(result, notes=notes))
        return True

    def _without_features(self) -> list[str]:
        """A sentence where a preset compares features and there is no VGG-19 to do so."""
        if self.options.vgg_weights is not None:
            return []
        wanting = {
            "teacher": load_teacher_config(self.options.teacher_preset).loss.perceptual_weight,
            "student": load_config(self.options.student_preset).imitation.features,
        }
        left_out = [f"the {name}'s preset" for name, weight in wanting.items() if weight]
        if not left_out:
            return []
        return [f"Without --vgg-weights, the term of features of VGG-19 is left out of {' and '.join(left_out)}."]

    # ---- what they share -------------------------------------------------------------------------------------------------

    def _training(self, preset: str, folder: str, *, steps: int, stop: Callable[[], bool]) -> TrainingOptions:
        options = self.options
        return TrainingOptions(
            preset=preset,
            data=self.data,
            out=options.out / folder,
            vgg_weights=options.vgg_weights,
            with_features=options.vgg_weights is not None,
            steps=steps,
            seed=options.seed,
            device=options.device,
            threads=options.threads,
            stop=stop,
        )

    def _train(
        self, train: Callable[[Callable[[], bool]], None], *, folder: str, steps: int, schema: int, size: int
    ) -> bool:
        """Ten steps, what the rest will cost, and the rest; gives True at the end of the schedule."""
        path = self.options.out / folder / CHECKPOINT
        finished = _finished_steps(path, schema=schema) if path.exists() else 0
        asked, began_s = 0, 0.0

        def asked_to_stop() -> bool:
            """Asked before every step."""
            nonlocal asked, began_s
            if asked == 0:
                began_s = time.monotonic()
            elif asked == PROBE_STEPS:
                per_step_s = (time.monotonic() - began_s) / PROBE_STEPS
                self._cost(steps - finished - PROBE_STEPS, per_step_s=per_step_s, disk=size, what="steps")
            asked += 1
            return self.options.stop()

        train(asked_to_stop)
        return _finished_steps(path, schema=schema) >= steps

    @contextmanager
    def _cached(self) -> Iterator[CachedTeacher]:
        """The trained teacher, with the folder of its pictures."""
        options = self.options
        with join(options.device, threads=options.threads) as workers:
            yield open_cache(
                teacher="ldfusion",
                out=options.out / "caches",
                weights=options.out / "teacher",
                shifts=options.shifts,
                device=workers.device,
            )

    def _seen_pairs(self) -> list[tuple[Image8, Image8]]:
        """The pairs that the teacher has to see: those to learn from, and those to evaluate on."""
        folders = [self.data, *filter(None, [self.options.eval_data])]
        return [read_pair(*files) for folder in folders for pairs in image_sets(folder).values() for files in pairs]

    def _evaluation_cost(self, files: Sequence[tuple[Path, Path]], features: Vgg19Features | None) -> None:
        """Measure one pair: the metrics of student, reference and teacher, and how like the teacher the first two are."""
        visible, thermal = read_pair(*files[0])
        bands = {"visible": visible, "thermal": thermal}
        began_s = time.monotonic()
        metrics.image_metrics(fused=visible, **bands)
        measured_s = time.monotonic()
        likeness(fused=visible, teacher=thermal, features=features, **bands)
        per_pair_s = 3 * (measured_s - began_s) + 2 * (time.monotonic() - measured_s)
        self._cost(len(files), per_step_s=per_pair_s, disk=0, what="pairs to measure")

    def _cost(self, count: int, *, per_step_s: float, disk: float, what: str) -> None:
        if count <= 0:
            return
        minutes = count * per_step_s / 60
        memory = "" if (peak := _peak_memory_gb()) is None else f", {peak:.1f} GB of memory"
        tell(f"{count} {what} of {per_step_s:.2f} s: about {minutes:.0f} min{memory}, {disk / 1e6:.0f} MB of disk")

    def _take_up(self) -> None:
        try:
            state: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8"))
            schema, known, self.finished = state["schema"], state["settings"], list(state["finished"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._state} is no record of a recipe: {error}; name another --out") from error
        if schema != SCHEMA:
            raise ConfigError(f"{self._state} is of schema {schema}, not {SCHEMA}; name another --out")
        changes = checkpoint.differences(dict(self.options.deciding()), known)
        if changes:
            raise ConfigError(
                f"{self.options.out} was made with other settings ({', '.join(changes)}); name another --out"
            )

    def _save(self) -> None:
        state = {"schema": SCHEMA, "settings": self.options.deciding(), "finished": self.finished}
        write_whole(self._state, json.dumps(state, indent=1) + "\n")


def run_recipe(options: RecipeOptions) -> Path | None:
    """Run the recipe to its end; gives the card, or None where ``options.stop`` ended it before.

    Raises:
        ConfigError: a file, folder or setting is not as it should be, or the folder was made with other settings.
        ModelError: weights that cannot be read, or an encoder that cannot tell what the loss is about.
    """
    if (options.clip_weights is None) == (options.stand_in is None):
        raise ConfigError(
            "the loss needs one encoder: --clip-weights PATH, or, where there is no CLIP, --stand-in FILE, which "
            "rtfusion train encoder makes"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    return Recipe(options).run()


def _finished_steps(path: Path, *, schema: int) -> int:
    return int(checkpoint.read(path, schema=schema)["step"])


def _bytes_of(network: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def _peak_memory_gb() -> float | None:
    """The most that this process has held so far; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9
