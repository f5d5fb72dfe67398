"""Train a student: on the direct objective alone, or guided by what teachers made of the same pairs.

`Run` is one training run, `train` its loop, `train_student` the whole job from a preset and folders to a checkpoint, which
``rtfusion train student`` and ``rtfusion distill`` call. Step n depends on the seed, n, the process and the data alone, so a run
that goes on from its checkpoint ends as if it had not stopped.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.nn import functional

from rtfusion.errors import ConfigError
from rtfusion.focus.yolox import PAD_GRAY
from rtfusion.models import find_model, read_spec
from rtfusion.models.shipping import is_name
from rtfusion_trainer import checkpoint
from rtfusion_trainer.affine import seeded
from rtfusion_trainer.checkpoint import CHECKPOINT
from rtfusion_trainer.config import Network, Schedule, TrainingConfig, TrainingOptions, config_from_dict, load_config
from rtfusion_trainer.curriculum import Curriculum
from rtfusion_trainer.data import Batch, make_batch
from rtfusion_trainer.encoders import EncoderFiles, load_encoder
from rtfusion_trainer.explained import Explained
from rtfusion_trainer.guidance import guidance, tutoring
from rtfusion_trainer.imitation import imitation
from rtfusion_trainer.labeled import Labeled, Scene, make_labeled, read_scenes
from rtfusion_trainer.losses import findable
from rtfusion_trainer.losses.fidelity import AROUND_PX
from rtfusion_trainer.losses.language import LanguageLoss
from rtfusion_trainer.losses.perceptual import Vgg19Features, load_vgg19
from rtfusion_trainer.mixed import MixedPrecision
from rtfusion_trainer.objective import objective
from rtfusion_trainer.pairs import Pair, Pictures, load_pairs
from rtfusion_trainer.progress import saved, shown
from rtfusion_trainer.restored import student_of_model
from rtfusion_trainer.student import STRIDE_PX, Student
from rtfusion_trainer.teachers.cache import CachedPictures
from rtfusion_trainer.widen import widen
from rtfusion_trainer.workers import ALONE, Workers, join

GRADIENT_LIMIT = 1.0
Log = Callable[[int, Mapping[str, float]], None]


class Run:
    """One training run: the student, its moving average and its optimizer; `step` at a time."""

    def __init__(
        self,
        config: TrainingConfig,
        *,
        device: torch.device,
        precision: str = "f32",
        teachers: Sequence[str] = (),
        features: Vgg19Features | None = None,
        detector: findable.Detector | None = None,
        tutor: Student | None = None,
        language: LanguageLoss | None = None,
        workers: Workers = ALONE,
    ) -> None:
        """Start at step 0. ``teachers`` are names for the record; the pictures come with the batches.

        ``detector`` judges labeled crops; ``tutor`` is another student, whose picture of every pair is wanted; ``language``
        judges the student's own picture where a language-driven teacher is followed.
        """
        torch.manual_seed(config.schedule.seed)
        self.config = config
        self.device = device
        self.workers = workers
        self.finished_steps = 0
        self.student = Student(config.network).to(device)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self._network = workers.wrap(self.student)
        self._teachers, self._features, self._detector = list(teachers), features, detector
        self._tutor = None if tutor is None else tutor.to(device).requires_grad_(False)
        self._language = language
        schedule = config.schedule
        self._optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self._mixed = MixedPrecision(precision, self._optimizer, device=device)
        self.curriculum = Curriculum(kind=config.imitation.curriculum, start=config.imitation.difficulty)

    def step(self, batch: Batch, labeled: Labeled | None = None) -> tuple[float, dict[str, float]]:
        """One step of the optimizer, on a batch and perhaps on a labeled crop; gives the loss and its terms.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        batch = batch.to(self.device)
        self._network.train()
        with self._mixed.autocast():
            fused = self._network(batch.visible, batch.thermal, batch.enhance, batch.means[:, :1], batch.means[:, 1:])
        loss, terms = self._loss(fused.float(), batch)
        if labeled is not None:
            unfound, found_terms = self._unfound(labeled.to(self.device))
            loss, terms = loss + unfound, {**terms, **found_terms}
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss)} at step {self.finished_steps}: {terms}")
        self._mixed.step(
            loss,
            self.student.parameters(),
            rate=learning_rate(self.config.schedule, self.finished_steps),
            gradient_limit=GRADIENT_LIMIT,
        )
        self.finished_steps += 1
        # the average follows fast at first, then with the memory of the configuration
        kept = min(self.config.schedule.ema, self.finished_steps / (self.finished_steps + 10))
        for slow, fast in zip(self.average.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast.detach(), 1 - kept)
        return float(loss.detach()), terms

    def _loss(self, fused: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        if batch.language_target is not None:
            return self._like_teacher(fused, batch)
        loss, terms = objective(fused, batch, self.config.weights)
        weights, guides = self.config.guidance, []
        if self._tutor is not None:
            guides.append(tutoring(fused, self._shown(self._tutor, batch), weights=weights))
        if batch.faithful_target is not None or batch.enhanced_target is not None:
            guides.append(guidance(fused, batch, weights=weights, features=self._features))
        if guides:
            loss = weights.objective * loss
        for guided, differences in guides:
            loss, terms = loss + guided, {**terms, **differences}
        return loss, terms

    def _shown(self, tutor: Student, seen: Batch | Labeled) -> torch.Tensor:
        """The tutor's picture of a pair as it is meant to be seen."""
        means = seen.means[:, :1], seen.means[:, 1:]
        with torch.no_grad(), self._mixed.autocast():
            fused: torch.Tensor = tutor(seen.wanted_visible, seen.wanted_thermal, seen.enhance, *means)
        return fused.float()

    def _like_teacher(self, fused: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss where a language-driven teacher is followed; the curriculum learns how far it is away."""
        stage, default = self.curriculum.stage(self.finished_steps), self.config.enhance_default
        compared = imitation(fused, batch, weights=self.config.imitation, default=default, features=self._features)
        loss, terms = objective(fused, batch, self.config.weights, followed=stage.weight * compared.followed)
        errors = self.workers.from_first(lambda: (compared.clean, compared.degraded))
        self.curriculum.see(finished_steps=self.finished_steps + 1, clean=errors[0], degraded=errors[1])
        terms = {**terms, **compared.terms, "difficulty": stage.difficulty, "teacher_weight": stage.weight}
        loss = loss + stage.weight * compared.loss
        if self._language is not None and self.config.imitation.language:
            said, of_language = self._language(
                fused=fused,
                visible=batch.wanted_visible,
                thermal=batch.wanted_thermal,
                generator=seeded(self.config.schedule.seed, self.finished_steps, self.workers.rank),
                share=compared.followed,
            )
            loss = loss + self.config.imitation.language * said
            terms |= {f"language_{name}": float(value.detach()) for name, value in of_language.items()}
        return loss, terms

    def _unfound(self, labeled: Labeled) -> tuple[torch.Tensor, dict[str, float]]:
        """The weighted loss of a labeled crop, and its terms."""
        settings, bands = self.config.findable, {"visible": labeled.visible, "thermal": labeled.thermal}
        with self._mixed.autocast():
            fused = self._network(*bands.values(), labeled.enhance, labeled.means[:, :1], labeled.means[:, 1:]).float()
        wanted_px = labeled.boxes[labeled.kinds >= 0]
        terms = {"contrast": findable.faint(fused, **bands, wanted=wanted_px)}
        if self._tutor is not None and settings.ring:
            terms["ring"] = findable.ring(fused, shown=self._shown(self._tutor, labeled), wanted=wanted_px)
        if self._detector is not None and settings.detected:
            shown_bgr = (fused + labeled.color).clamp(0, 1)
            # a picture smaller than a crop is put into a corner of a gray square, as the detector's user does
            missing_y, missing_x = (settings.crop_px - side for side in shown_bgr.shape[-2:])
            square = functional.pad(shown_bgr, (0, missing_x, 0, missing_y), value=PAD_GRAY / 255)
            size = settings.seen_px, settings.seen_px
            seen = functional.interpolate(square, size, mode="bilinear", align_corners=False)
            boxes, scores = self._detector(seen)
            wanted = labeled.boxes * (settings.seen_px / settings.crop_px)
            terms["detected"] = findable.missed(boxes, scores, wanted=wanted, kinds=labeled.kinds)
        loss = torch.stack([getattr(settings, name) * value for name, value in terms.items()]).sum()
        return loss, {f"findable_{name}": float(value.detach()) for name, value in terms.items()}

    def save(self, path: Path) -> None:
        """Write everything that `resume` needs; of several processes, the first one does.

        Raises:
            ConfigError: it cannot be written.
        """
        if self.workers.is_first:
            state = checkpoint.Checkpoint(
                step=self.finished_steps,
                config=asdict(self.config),
                model=self.student.state_dict(),
                average=self.average.state_dict(),
                teachers=self._teachers,
                curriculum=self.curriculum.state_dict(),
                **self._mixed.state_dict(),
            )
            checkpoint.write(path, {"schema": checkpoint.SCHEMA, **vars(state)})

    def start_from(self, path: Path) -> None:
        """Begin with the averaged weights of another run or of a float32 model; those of a smaller student are widened.

        Raises:
            ConfigError: it cannot be read, or its student is larger in some respect.
        """
        network = self.config.network
        weights = self.workers.from_first(lambda: widen(begun_as(path, network), network).state_dict())
        self.student.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def resume(self, path: Path) -> None:
        """Go on from ``path``, which only the first process has to see.

        Raises:
            ConfigError: it cannot be read, or is of a run with other settings; the number of steps may differ.
        """
        state = self.workers.from_first(lambda: checkpoint.load(path))
        ours, theirs = (_settings(config) for config in (self.config, config_from_dict(state.config)))
        changes = checkpoint.differences({**ours, "teachers": self._teachers}, {**theirs, "teachers": state.teachers})
        if changes:
            raise ConfigError(
                f"{path} is of a run with other settings ({', '.join(changes)}); use the same ones, or another --out and "
                f"--init {path} to begin with its weights"
            )
        self.student.load_state_dict(state.model)
        self.average.load_state_dict(state.average)
        self._mixed.load_state_dict({"optimizer": state.optimizer, "scaler": state.scaler})
        self.curriculum.load_state_dict(state.curriculum)
        self.finished_steps = state.step


def learning_rate(schedule: Schedule, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return schedule.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


def is_model(source: Path) -> bool:
    """Tell a model file, or the name of one that comes with rtfusion, from a checkpoint."""
    return is_name(source) or source.suffix == ".onnx"


def begun_as(source: Path, network: Network) -> Student:
    """The trained student of a checkpoint or of a float32 model; a model sees as far and cores as ``network`` says.

    Raises:
        ConfigError: it cannot be read, or is no student.
    """
    return student_of_model(source, network) if is_model(source) else load_average(source)


def load_average(path: Path) -> Student:
    """The trained student of a checkpoint, ready for use; of the settings that it was trained with, only its size counts.

    Raises:
        ConfigError: it cannot be read, or holds another network.
    """
    state = checkpoint.load(path)
    student = Student(config_from_dict({"network": state.config["network"]}).network)
    try:
        student.load_state_dict(state.average)
    except RuntimeError as error:
        raise ConfigError(f"{path} holds another network than this version's student: {error}") from error
    return student.eval()


def train(
    run: Run,
    pairs: list[Pair],
    *,
    out: Path,
    scenes: Sequence[Scene] = (),
    overfit: bool = False,
    stop: Callable[[], bool] = lambda: False,
    log: Log | None = None,
) -> None:
    """Train to the end of the schedule, or until ``stop`` says so between two steps; save now and then, and at the end.

    ``scenes`` are labeled; of one of them there is a crop in every `Findable.every`-th step.
    """
    schedule, findable_settings = run.config.schedule, run.config.findable
    with ThreadPoolExecutor(1) as pool:

        def made(step: int) -> tuple[Batch, Labeled | None]:
            difficulty = run.curriculum.stage(step).difficulty
            batch = make_batch(pairs, run.config, step=step, rank=run.workers.rank, difficulty=difficulty)
            if not scenes or step % findable_settings.every:
                return batch, None
            labeled = make_labeled(scenes, findable_settings, seed=schedule.seed, step=step, rank=run.workers.rank)
            return batch, labeled

        def prepare(step: int) -> Future[tuple[Batch, Labeled | None]]:
            return pool.submit(made, 0 if overfit else step)

        following = prepare(run.finished_steps)
        while run.finished_steps < schedule.steps and not run.workers.any(stop()):
            batch, labeled = following.result()
            following = prepare(run.finished_steps + 1)
            loss, terms = run.step(batch, labeled)
            if log is not None:
                log(run.finished_steps, {"loss": loss, **terms})
            if run.finished_steps % schedule.save_every == 0:
                run.save(out / CHECKPOINT)
    run.save(out / CHECKPOINT)


def train_student(
    options: TrainingOptions,
    *,
    init: Path | None = None,
    teacher_cache: Path | None = None,
    enhanced_cache: Path | None = None,
    language_cache: Path | None = None,
    encoder: EncoderFiles | None = None,
    prompts: Mapping[str, Sequence[str]] | None = None,
    labels: Path | None = None,
    detector: Path | None = None,
    tutor: Path | None = None,
    then: str = "",
) -> None:
    """Train, or go on training where ``options.out`` holds a checkpoint.

    Args:
        options: the preset (of `rtfusion_trainer.config.load_config`), the data, and how to train.
        init: a checkpoint, a float32 model or the name of one that comes with rtfusion, to begin with; a smaller student is
            widened (`rtfusion_trainer.widen`).
        teacher_cache: folder of a faithful teacher's pictures.
        enhanced_cache: folder of those of a teacher that shows the look of the dial at 1.
        language_cache: folder of those of a language-driven teacher, whose look is that of the default
            (`rtfusion_trainer.imitation`); it stands alone.
        encoder: beside it, what judges the student's own picture by sentences, where the preset's ``imitation.language`` says so.
        prompts: texts instead of the preset's, by ``visible``, ``thermal``, ``objective`` and ``away``.
        labels: people and cars of the training pairs (`rtfusion_trainer.labeled`), which are to be easy to find.
        detector: a YOLOX as an ONNX file, which says how easily.
        tutor: another student, named as `init` is, whose pictures are wanted: a larger one, or the one before.
        then: the command that comes next, for a person.

    Raises:
        ConfigError: a file, folder, setting or device is not as it should be.
    """
    config = _config(options, prompts=prompts or {})
    encoder = _wanted_encoder(encoder, config, followed=language_cache is not None)
    caches = {"faithful_target": teacher_cache, "enhanced_target": enhanced_cache}
    teachers: dict[str, Pictures] = {
        target: CachedPictures(folder) for target, folder in caches.items() if folder is not None
    }
    if language_cache is not None:
        if teachers or tutor is not None:
            raise ConfigError("--language-cache says what the whole dial leads to; name no other teacher beside it")
        teachers = {"language_target": Explained(CachedPictures(language_cache))}
    if detector is not None and labels is None:
        raise ConfigError("--detector judges labeled people: pass --labels too")
    scenes = [] if labels is None else read_scenes(labels, options.data)
    with join(options.device, threads=options.threads) as workers:
        language = None
        if encoder is not None:
            judge = load_encoder(encoder, device=workers.device, silent=not workers.is_first)
            language = LanguageLoss(judge, config.language)
        features = None
        judged = config.imitation if language_cache is not None else config.guidance
        if (teacher_cache or language_cache) is not None and judged.features:
            features = load_vgg19(options.vgg_weights, layers=judged.layers, device=workers.device)
        run = Run(
            config,
            device=workers.device,
            precision=options.precision,
            teachers=[pictures.identity for pictures in teachers.values()]
            + _judges(labels, detector, None if encoder is None else encoder.path)
            + ([] if tutor is None else [_name_of(tutor)]),
            features=features,
            detector=None
            if detector is None
            else findable.Detector(detector, side_px=config.findable.seen_px, device=workers.device),
            tutor=None if tutor is None else begun_as(tutor, config.network),
            language=language,
            workers=workers,
        )
        if workers.from_first((options.out / CHECKPOINT).exists):
            run.resume(options.out / CHECKPOINT)
        elif init is not None:
            run.start_from(init)
        pairs = load_pairs(options.data, limit=options.limit, part=(workers.rank, workers.count), teachers=teachers)
        total, silent = config.schedule.steps, not workers.is_first
        with shown(total=total, finished=run.finished_steps, curves=options.curves, silent=silent) as log:
            train(run, pairs, out=options.out, scenes=scenes, overfit=options.overfit, stop=options.stop, log=log)
        saved(options.out / CHECKPOINT, finished=run.finished_steps, total=total, then=then, silent=silent)


def _wanted_encoder(encoder: EncoderFiles | None, config: TrainingConfig, *, followed: bool) -> EncoderFiles | None:
    """The encoder if the preset has a use for it, None if it has none and there is none."""
    given = encoder is not None and encoder != EncoderFiles()
    if not given and not (followed and config.imitation.language):
        return None
    if not given:
        raise ConfigError(
            "the preset's imitation.language has a weight, and there is no encoder: pass --clip-weights PATH, or --stand-in FILE "
            "where there is no CLIP"
        )
    if not followed or not config.imitation.language:
        raise ConfigError(
            "the encoder judges the student where --language-cache is given and the preset's imitation.language is above 0; "
            "leave out --clip-weights and --stand-in, or see to both"
        )
    return encoder


def _judges(*files: Path | None) -> list[str]:
    """Names of files that a run learns from beside its pairs, for the record."""
    return [path.stem for path in files if path is not None]


def _name_of(student: Path) -> str:
    """The name of a student for the record, with the checksum of its graph where it is a model."""
    if not is_model(student):
        return student.stem
    spec = read_spec(find_model(student))
    return f"{spec.name}-{spec.checksum[:8]}"


def _config(options: TrainingOptions, *, prompts: Mapping[str, Sequence[str]]) -> TrainingConfig:
    config = load_config(options.preset)
    if config.imitation.language < 0:
        raise ConfigError(f"the preset: language of imitation is {config.imitation.language}; expected 0 or more")
    said = {name: tuple(texts) for name, texts in prompts.items() if texts}
    language = replace(config.language, prompts=replace(config.language.prompts, **said))
    config = replace(config, language=language)
    given = {name: value for name in ("steps", "seed") if (value := getattr(options, name)) is not None}
    config = replace(config, schedule=replace(config.schedule, **given))
    for table, crop_px in (("schedule", config.schedule.crop_px), ("findable", config.findable.crop_px)):
        if crop_px < STRIDE_PX or crop_px % STRIDE_PX:
            raise ConfigError(f"the preset: crop_px of {table} is {crop_px}; expected a multiple of {STRIDE_PX}")
    if config.schedule.crop_px < AROUND_PX:
        raise ConfigError(
            f"the preset: crop_px of schedule is {config.schedule.crop_px}; expected at least {AROUND_PX}"
        )
    if config.findable.every < 1:
        raise ConfigError(f"the preset: every of findable is {config.findable.every}; expected 1 or more")
    if options.with_features:
        return config
    guidance, imitation = replace(config.guidance, features=0.0), replace(config.imitation, features=0.0)
    return replace(config, guidance=guidance, imitation=imitation)


def _settings(config: TrainingConfig) -> dict[str, object]:
    """The settings that decide the course of a run; its length does not."""
    return asdict(replace(config, schedule=replace(config.schedule, steps=0, save_every=1)))
