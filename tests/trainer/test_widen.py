from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.config import Network  # noqa: E402
from rtfusion_trainer.student import Student  # noqa: E402
from rtfusion_trainer.widen import widen  # noqa: E402

from rtfusion.errors import ConfigError  # noqa: E402

SMALL = Network(width=16, context=8)
WIDER = Network(name="wider", width=32, depth=1, context=24)


def inputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    images = [torch.rand(2, 1, 48, 64, generator=generator) for _ in range(2)]
    return [*images, *(torch.full((1, 1, 1, 1), value) for value in (0.7, 0.4, 0.6))]


def opinionated(network: Network) -> Student:
    """A student whose heads judge, as after training."""
    student = Student(network)
    with torch.no_grad():
        for head in student.heads():
            head.weight.normal_(std=0.3)
    return student


def test_a_widened_student_computes_the_same():
    torch.manual_seed(1)
    smaller = opinionated(SMALL)
    wider = widen(smaller, WIDER)
    with torch.no_grad():
        torch.testing.assert_close(wider(*inputs()), smaller(*inputs()), atol=2e-6, rtol=0)
    assert wider.network == WIDER


def test_every_weight_of_it_learns_after_two_steps():
    torch.manual_seed(1)
    wider = widen(opinionated(SMALL), WIDER)
    before = {name: weights.detach().clone() for name, weights in wider.named_parameters()}
    optimizer = torch.optim.SGD(wider.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (wider(*inputs()) - 0.5).square().mean().backward()
        optimizer.step()
    rows = {name: weights.detach() != before[name] for name, weights in wider.named_parameters()}
    assert all(changed.any() for changed in rows.values())
    assert rows["trunk.merge.weight"][32 // 2 :].any()
    assert rows["fine_visible.weight"][:, 32 // 2 :].any()


@pytest.mark.parametrize("network", [Network(width=8, context=8), Network(width=32, context=24, dilations=(1, 2))])
def test_it_cannot_become_smaller_or_see_otherwise(network: Network):
    with pytest.raises(ConfigError, match="at least as large"):
        widen(Student(SMALL), network)
