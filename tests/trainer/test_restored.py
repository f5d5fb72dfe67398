from __future__ import annotations

from pathlib import Path

import onnx
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.config import Network, load_config  # noqa: E402
from rtfusion_trainer.export import to_onnx  # noqa: E402
from rtfusion_trainer.restored import student_of_model  # noqa: E402
from rtfusion_trainer.student import Student  # noqa: E402

from rtfusion.errors import ConfigError  # noqa: E402

NETWORK = Network(name="tiny", width=16, depth=1, context=8, coring=2.0)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Student, Path]:
    """A student with opinions, and its float32 file."""
    torch.manual_seed(2)
    student = Student(NETWORK)
    with torch.no_grad():
        for weights in student.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    path = tmp_path_factory.mktemp("models") / "student-tiny.onnx"
    onnx.save(to_onnx(student), path)
    return student, path


def test_every_parameter_comes_back(file: tuple[Student, Path]) -> None:
    student, path = file
    restored = student_of_model(path, Network(coring=2.0))
    assert (restored.network.width, restored.network.depth, restored.network.context) == (16, 1, 8)
    for name, weights in student.named_parameters():
        torch.testing.assert_close(dict(restored.named_parameters())[name], weights, atol=1e-6, rtol=1e-6)


def test_other_coring_is_told(file: tuple[Student, Path]) -> None:
    with pytest.raises(ConfigError, match="otherwise than a student with coring 9"):
        student_of_model(file[1], Network(coring=9.0))


def test_the_models_that_ship_can_be_begun_with() -> None:
    student = student_of_model(Path("small"), load_config("small").network)
    assert student.network == load_config("small").network


def test_another_network_is_refused() -> None:
    from rtfusion.models import shipped

    with pytest.raises(ConfigError, match="no float32 student"):
        student_of_model(shipped("small", precision="f16"), Network())
