"""Two real processes that train one student, over gloo on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer import checkpoint  # noqa: E402
from rtfusion_trainer.config import Schedule, TrainingConfig  # noqa: E402
from rtfusion_trainer.data import make_batch  # noqa: E402
from rtfusion_trainer.distill import Run, train  # noqa: E402
from rtfusion_trainer.pairs import load_pairs  # noqa: E402
from rtfusion_trainer.workers import ALONE, Workers, join  # noqa: E402

from rtfusion.errors import ConfigError  # noqa: E402
from tests.trainer.meeting import meet  # noqa: E402
from tests.training_data import write_pairs  # noqa: E402

TIMEOUT_S = 100
Processes = Callable[..., list[tuple[int, str]]]
PROGRAM = """
import os, signal, sys
from rtfusion.cli import main
from rtfusion_trainer import distill

step = distill.Run.step

def interrupted(self, *batches):
    if self.finished_steps == 1 and self.workers.rank == 1:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self, *batches)

if INTERRUPT:
    distill.Run.step = interrupted
main()
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text("[schedule]\nsteps = 4\nbatch = 3\ncrop_px = 64\nwarmup_steps = 8\n")
    return write_pairs(tmp_path / "data")


@pytest.fixture
def two_processes(tmp_path: Path, free_port: int, child_environment: dict[str, str]) -> Processes:
    """Runs ``rtfusion train student`` in two processes, as torchrun starts them: their exit codes and error streams."""

    def run(*arguments: str, interrupt: bool = False) -> list[tuple[int, str]]:
        options = ("train", "student", "--preset", "tiny.toml", "--data", "data", "--device", "cpu", "--threads", "1")
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", f"INTERRUPT = {interrupt}\n{PROGRAM}", *options, *arguments],
                cwd=tmp_path,
                env={**child_environment, **place(rank, free_port)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            errors = [process.communicate(timeout=TIMEOUT_S)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]

    return run


def place(rank: int, port: int) -> dict[str, str]:
    """What torchrun tells one of two processes."""
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {**here, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}


def weights(path: Path) -> torch.Tensor:
    return torch.cat([value.flatten() for value in checkpoint.load(path).model.values()])


@pytest.mark.timeout(3 * TIMEOUT_S)  # on a busy machine; the other process imports PyTorch
def test_two_processes_average_their_gradients_and_agree(
    free_port: int, child_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process is the first of two."""
    for name, value in place(0, free_port).items():
        monkeypatch.setenv(name, value)
    environment = {**child_environment, **place(1, free_port)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.trainer.meeting"], env=environment, stdout=subprocess.PIPE
    ) as other:
        ours = meet()
        theirs, _ = other.communicate(timeout=TIMEOUT_S)
    # the gradients of each alone are 1 and 2
    assert ours == json.loads(theirs) == [1.5, [True, False], "of the first", "the first cannot"]


@pytest.mark.slow  # ten seconds; six processes import PyTorch
@pytest.mark.timeout(6 * TIMEOUT_S)
def test_two_processes_train_one_student_stop_together_and_go_on_unchanged(
    tmp_path: Path, data: Path, two_processes: Processes
) -> None:
    whole = two_processes("--out", "whole")
    assert [code for code, _ in whole] == [0, 0], whole
    assert "step 4/4" in whole[0][1]
    assert whole[1][1] == ""  # the first one logs, and saves

    broken = two_processes("--out", "broken", interrupt=True)  # Ctrl-C in the second step of one
    assert [code for code, _ in broken] == [0, 130], broken
    assert checkpoint.load(tmp_path / "broken" / "checkpoint.pt").step == 2
    rest = two_processes("--out", "broken")
    assert [code for code, _ in rest] == [0, 0], rest
    ours, theirs = (weights(tmp_path / out / "checkpoint.pt") for out in ("broken", "whole"))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)

    config = TrainingConfig(schedule=Schedule(steps=4, batch=3, crop_px=64, warmup_steps=8))
    alone = Run(config, device=torch.device("cpu"))
    train(alone, load_pairs(data, part=(0, 2)), out=tmp_path / "alone")
    assert not torch.equal(weights(tmp_path / "alone" / "checkpoint.pt"), theirs)  # the other's gradients count


@pytest.mark.slow  # four seconds; two processes import PyTorch
@pytest.mark.timeout(3 * TIMEOUT_S)
@pytest.mark.usefixtures("data")
def test_an_error_of_the_first_is_raised_in_both(tmp_path: Path, two_processes: Processes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_text("damaged")
    ended = two_processes("--out", "run")
    assert [code for code, _ in ended] == [2, 2], ended
    assert all("cannot read the checkpoint" in error for _, error in ended)


def test_each_process_has_its_part_of_the_pairs_and_its_own_draws(data: Path) -> None:
    parts = [load_pairs(data, part=(index, 2)) for index in range(2)]
    assert [[pair.name for pair in part] for part in parts] == [["scene_0001", "scene_0002"], ["scene_0003", "a"]]
    assert [pair.next_pair for pair in parts[0]] == [1, None]
    with pytest.raises(ConfigError, match="fewer pairs than there are processes"):
        load_pairs(data, part=(0, 6))
    config = TrainingConfig(schedule=Schedule(batch=3, crop_px=64))
    batches = [make_batch(parts[0], config, step=0, rank=rank).visible for rank in (0, 0, 1)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_one_process_needs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join("cpu") as workers:
        assert workers == ALONE == Workers()
        assert workers.is_first
    network = torch.nn.Linear(1, 1)
    assert ALONE.wrap(network) is network
    assert [ALONE.any(value) for value in (False, True)] == [False, True]
    assert ALONE.from_first(lambda: 3) == 3


def test_a_device_that_is_not_there_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no device 'tpu'"), join("tpu"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="0 can be used"), join("cuda"):
            pass
