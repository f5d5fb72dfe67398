"""The fuser of the device, whole, on a device that runs on the processor: values, order, changes, failures, leaks."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from rtfusion.cuda import device as device_module
from rtfusion.cuda.device import Device
from rtfusion.cuda.renderer import CudaRenderer
from rtfusion.errors import CalibrationError, ConfigError, EngineError, EngineUnavailable
from rtfusion.fusion import open_method
from rtfusion.fusion.base import Change
from rtfusion.fusion.fuser import PairFuser
from rtfusion.fusion.host import HostReady
from rtfusion.fusion.tone import GainControl
from rtfusion.models import FILES, file_name, read_spec, shipping
from rtfusion.registration import Calibration
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FramePair
from tests import onnx_models
from tests.cuda import fake
from tests.support import MS, host_fuser, make_frame

SCALARS = {
    "enhance": onnx_models.ENHANCE,
    "thermal_mean": onnx_models.ScalarInput(default=0.4, minimum=0, maximum=1),
    "visible_mean": onnx_models.ScalarInput(default=0.4, minimum=0, maximum=1),
}
Arithmetic = Callable[[Mapping[str, np.ndarray]], np.ndarray]


class Network:
    """Does on the stream of the fake what it was given to do; with the contract of a network of the device."""

    description = "Arithmetic 1.0"

    def __init__(
        self, cuda: fake.FakeCuda, size_px: tuple[int, int], arithmetic: Arithmetic, *, capturable: bool
    ) -> None:
        self.capturable = capturable
        self.refuses = False
        self.closed = False
        self.runs = 0
        self._cuda, self._pixels, self._arithmetic = cuda, size_px[0] * size_px[1], arithmetic

    def bind(self, addresses: Mapping[str, int]) -> None:
        assert all(address % 256 == 0 for address in addresses.values())
        self._addresses = addresses

    def enqueue(self, stream: int) -> None:
        self._cuda.own()
        assert not self.closed
        if self.refuses:
            raise EngineError("the network refused to be enqueued")
        self._cuda.streams[stream].put("network", self._run)

    def close(self) -> None:
        self.closed = True

    def _run(self) -> None:
        planes = {name: fake.floats(at, self._pixels if name in PLANES else 1) for name, at in self._addresses.items()}
        self.runs += 1
        planes["fused_y"][:] = self._arithmetic(planes)


PLANES = ("visible_y", "thermal", "fused_y")


def dial(planes: Mapping[str, np.ndarray]) -> np.ndarray:
    return planes["visible_y"] + planes["enhance"] * (planes["thermal"] - planes["visible_y"])


def means(planes: Mapping[str, np.ndarray]) -> np.ndarray:
    """A picture of one level: the mean of the two means."""
    return np.full_like(planes["fused_y"], (planes["visible_mean"][0] + planes["thermal_mean"][0]) / 2)


class Bench:
    """A fuser on a fake device, and what it was made of."""

    def __init__(
        self, cuda: fake.FakeCuda, model: Path, *, capturable: bool = True, arithmetic: Arithmetic = dial
    ) -> None:
        self.cuda, self.networks, self.arithmetic, self.capturable = cuda, [], arithmetic, capturable
        self.networks: list[Network] = []
        self.telemetry = Telemetry()
        self.device = Device()
        self.renderer = CudaRenderer(
            device=self.device, open_network=self.open_network, model=model, telemetry=self.telemetry
        )
        self.fuse = PairFuser(self.renderer, gain=GainControl(), telemetry=self.telemetry)

    def open_network(self, path: Path, size_px: tuple[int, int]) -> Network:
        self.networks.append(Network(self.cuda, size_px, self.arithmetic, capturable=self.capturable))
        return self.networks[-1]


@pytest.fixture
def cuda(kernels_on_host: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> fake.FakeCuda:
    module = fake.FakeCuda(kernels_on_host)
    monkeypatch.setattr(device_module, "_pycuda", lambda: (module, module))
    monkeypatch.setattr(device_module, "_driver", lambda: module)
    return module


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_models.write(tmp_path / "dial.onnx", onnx_models.dial(), scalars=SCALARS, stride=8)


@pytest.fixture(params=[True, False], ids=["graph", "no graph"])
def bench(request: pytest.FixtureRequest, cuda: fake.FakeCuda, model: Path) -> Iterator[Bench]:
    made = Bench(cuda, model, capturable=request.param)
    yield made
    made.fuse.close()
    assert cuda.live == {}
    assert all(network.closed for network in made.networks)


def pair(sequence: int = 0, *, shape: tuple[int, int] = (20, 36), bits: int = 8, gray: bool = False) -> FramePair:
    rng = np.random.default_rng(sequence)
    visible = rng.integers(0, 256, shape if gray else (*shape, 3)).astype(np.uint8)
    thermal = rng.integers(0, 256, (shape[0] // 2, shape[1] // 2)).astype(np.uint8)
    if bits == 16:
        thermal = thermal.astype(np.uint16) * 8 + 7000
    return FramePair(
        visible=make_frame(Band.VISIBLE, sequence * 33 * MS, image=visible),
        thermal=make_frame(Band.THERMAL, sequence * 33 * MS, image=thermal),
        sequence=sequence,
    )


def shifted(dx: float) -> Calibration:
    return Calibration.from_homography(
        visible_from_thermal_px=np.array([[2.0, 0.0, 0.5 + dx], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]]),
        visible_size_px=(36, 20),
        thermal_size_px=(18, 10),
    )


def on_the_host(path: Path, *, calibration: Calibration | None = None) -> PairFuser[HostReady]:
    onnx_models.write(path, onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    return host_fuser(
        "learned",
        method=open_method("learned", still=False, model=path, threads=1, trust=False),
        calibration=calibration,
        upsample="off",  # the device magnifies by bilinear interpolation, and keeps all colors
        color="everywhere",
    )


# --- values ---


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("calibrated", [False, True])
def test_it_gives_what_the_fuser_of_the_host_gives(
    bench: Bench, tmp_path: Path, bits: int, gray: bool, calibrated: bool
) -> None:
    calibration = shifted(8.0) if calibrated else None
    host = on_the_host(tmp_path / "host.onnx", calibration=calibration)
    if calibration is not None:
        bench.fuse.change(Change(calibration=calibration))
    for sequence in range(4):
        here, there = (fuse(pair(sequence, bits=bits, gray=gray)) for fuse in (host, bench.fuse))
        assert np.abs(here.thermal.astype(int) - there.thermal).max() <= 2  # OpenCV's remap has 5 bits of position
        assert np.abs(here.image.astype(int) - there.image).max() <= 2
        assert np.abs(here.image.astype(int) - there.image).mean() < 0.3
        assert (there.sequence, there.calibration_id) == (sequence, here.calibration_id)
        assert dict(there.thermal_state) == pytest.approx(dict(here.thermal_state))
    host.close()


def test_the_means_of_the_scene_follow_as_on_the_host(cuda: fake.FakeCuda, model: Path) -> None:
    bench = Bench(cuda, model, arithmetic=means)
    followed = None
    for sequence in range(5):
        frames = pair(sequence)
        fused = bench.fuse(frames)
        present = (luminance(frames.visible.image).mean() + fused.thermal.mean()) / 2
        share = 1 - np.exp(-0.033)
        followed = present if followed is None else followed + share * (present - followed)
        assert np.abs(np.median(luminance(fused.image)) - followed) <= 1.5
    bench.fuse.close()


def luminance(image: np.ndarray) -> np.ndarray:
    return image.astype(float) @ [0.114, 0.587, 0.299]


# --- order ---


@pytest.mark.parametrize("seed", range(8))
def test_frames_do_not_mix_whatever_overtakes_on_the_device(
    kernels_on_host: ctypes.CDLL, model: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    module = fake.FakeCuda(kernels_on_host, seed=seed)
    monkeypatch.setattr(device_module, "_pycuda", lambda: (module, module))
    monkeypatch.setattr(device_module, "_driver", lambda: module)
    bench = Bench(module, model)
    alone = [bench.fuse(pair(sequence)).image for sequence in range(7)]
    held = [bench.fuse(pair(sequence)) for sequence in range(7)]
    assert [frame.sequence for frame in held] == list(range(7))
    for one, frame in zip(alone, held, strict=True):
        np.testing.assert_array_equal(one, frame.image)
    bench.fuse.close()


def test_a_frame_crosses_the_bus_once_each_way_and_the_rest_is_one_graph(bench: Bench) -> None:
    bench.fuse(pair(0))
    bench.cuda.log.clear()
    bench.fuse(pair(1))
    log = [entry for entry in bench.cuda.log if entry not in ("record", "wait")]
    middle = ["graph"] if bench.capturable else ["prepare", "scene", "network", "compose"]
    assert log == ["up", *middle, "down"]


def test_it_may_be_made_run_and_closed_by_different_threads(cuda: fake.FakeCuda, model: Path) -> None:
    bench = Bench(cuda, model)
    for step in (lambda: bench.fuse(pair()), bench.fuse.close):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    assert cuda.live == {}


def test_stages_are_timed_by_the_device(bench: Bench) -> None:
    bench.fuse(pair())
    stages = bench.telemetry.snapshot()["stages_ms"]
    assert {name: stages[name]["count"] for name in ("upload", "compute", "download")} == dict.fromkeys(stages, 1)
    assert bench.fuse.engine == "Arithmetic 1.0 on Fake GPU (compute capability 9.0)"


# --- changes ---


def test_dials_model_calibration_and_size_change_between_two_frames(bench: Bench, tmp_path: Path) -> None:
    other = onnx_models.write(tmp_path / "other.onnx", onnx_models.average(), stride=4)

    def changing() -> Iterator[FramePair]:
        yield pair(0)
        bench.fuse.change(Change(inputs={"enhance": 0.0}))
        yield pair(1)
        bench.fuse.change(Change(calibration=shifted(0.0), inputs={"enhance": 1.0}))
        yield pair(2)
        bench.arithmetic = lambda planes: (planes["visible_y"] + planes["thermal"]) / 2
        bench.fuse.change(Change(model=other))
        yield pair(3)
        yield pair(4, shape=(40, 72))
        yield pair(5, shape=(40, 72), bits=16)

    bench.fuse.change(Change(inputs={"enhance": 0.5}))
    frames = [bench.fuse(frames) for frames in changing()]
    assert [frame.sequence for frame in frames] == list(range(6))
    np.testing.assert_array_equal(frames[1].image, pair(1).visible.image)
    assert [frame.calibration_id for frame in frames[:4]] == [None, None, *[shifted(0.0).id] * 2]
    assert len({frame.model_id for frame in frames[:3]}) == 1
    assert len({frame.model_id for frame in frames[3:]}) == 1
    assert frames[4].image.shape == (40, 72, 3)
    assert bench.fuse.inputs == {}


def test_a_live_change_keeps_the_precision_and_may_change_it(
    cuda: fake.FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "FOLDER", tmp_path)
    ids = {}
    for name in ("one", "two"):
        for precision in FILES:
            file = tmp_path / file_name(name, precision=precision)
            onnx_models.write(file, onnx_models.dial(), scalars=SCALARS, license=file.stem)
            ids[name, precision] = read_spec(file).id
    device, telemetry = Device(), Telemetry()
    renderer = CudaRenderer(
        device=device,
        open_network=lambda path, size_px: Network(cuda, size_px, dial, capturable=True),
        model=Path("one"),
        precision="f16",
        telemetry=telemetry,
    )
    fuse = PairFuser(renderer, gain=GainControl(), telemetry=telemetry)
    seen = []
    for change in (Change(), Change(model=Path("two")), Change(precision="f32")):
        fuse.change(change)
        seen.append(fuse(pair()).model_id)
    assert seen == [ids["one", "gpu-f16"], ids["two", "gpu-f16"], ids["two", "f32"]]
    fuse.close()
    assert cuda.live == {}


def test_another_calibration_keeps_the_network(bench: Bench) -> None:
    bench.fuse(pair())
    bench.fuse.change(Change(calibration=shifted(3.0)))
    bench.fuse.change(Change(calibration=shifted(4.0)))
    bench.fuse(pair())
    assert len(bench.networks) == 1
    assert not bench.networks[0].closed


def test_what_cannot_be_done_changes_nothing(bench: Bench) -> None:
    before = bench.fuse(pair()).image
    with pytest.raises(ConfigError, match="did you mean enhance"):
        bench.fuse.change(Change(inputs={"enhanse": 1.0}))
    with pytest.raises(ConfigError, match="thermal_mean follows the scene"):
        bench.fuse.change(Change(inputs={"thermal_mean": 0.5}))
    other = Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=(100, 48), thermal_size_px=(64, 48)
    )
    with pytest.raises(CalibrationError, match="another aspect"):
        bench.fuse.change(Change(calibration=other, inputs={"enhance": 1.0}))
    np.testing.assert_array_equal(bench.fuse(pair()).image, before)


# --- failures ---


def test_a_refused_run_is_found_before_it_is_captured(bench: Bench) -> None:
    opened = bench.open_network

    def refusing(path: Path, size_px: tuple[int, int]) -> Network:
        network = opened(path, size_px)
        network.refuses = True
        return network

    bench.renderer._open_network = refusing
    with pytest.raises(EngineError, match="refused to be enqueued"):
        bench.fuse(pair())
    bench.renderer._open_network = opened
    assert bench.fuse(pair()).image.shape == (20, 36, 3)


def test_a_model_that_does_not_fit_in_memory_leaves_the_running_one(bench: Bench, tmp_path: Path) -> None:
    model = onnx_models.write(tmp_path / "other.onnx", onnx_models.average(), stride=8)
    before = bench.fuse(pair()).image
    bench.cuda.memory_bytes = sum(bench.cuda.live.values()) + 1000
    with pytest.raises(EngineError, match="out of device memory"):
        bench.fuse.change(Change(model=model))
    np.testing.assert_array_equal(bench.fuse(pair()).image, before)


def test_a_device_lost_in_mid_run_ends_it_with_exit_code_4_and_hangs_nowhere(cuda: fake.FakeCuda, model: Path) -> None:
    bench = Bench(cuda, model)
    bench.fuse(pair())
    cuda.failing = fake.Error("cuEventSynchronize failed: an illegal memory access was encountered")
    with pytest.raises(EngineError, match=r"the CUDA device failed: .*illegal memory access") as caught:
        bench.fuse(pair())
    assert caught.value.exit_code == 4
    with pytest.raises(EngineError, match="was lost"):
        bench.fuse(pair())
    bench.fuse.close()
    bench.fuse.close()


def test_a_device_that_does_not_answer(cuda: fake.FakeCuda, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(cuda, model)
    monkeypatch.setattr(device_module, "CALL_TIMEOUT_S", 0.05)
    gate = threading.Event()
    with pytest.raises(EngineError, match="does not answer"):
        bench.device.call(gate.wait, 20)
    bench.fuse.close()
    gate.set()


def test_a_size_that_the_calibration_is_not_for_ends_the_run_in_order(bench: Bench) -> None:
    bench.fuse.change(Change(calibration=shifted(0.0)))
    with pytest.raises(CalibrationError, match="another aspect"):
        for frames in (pair(0), pair(1), pair(2, shape=(28, 44))):
            bench.fuse(frames)


def test_counts_in_the_visible_stream_are_refused(bench: Bench) -> None:
    wrong = FramePair(
        visible=make_frame(Band.VISIBLE, 0, image=np.zeros((20, 36), np.uint16)),
        thermal=make_frame(Band.THERMAL, 0, image=np.zeros((20, 36), np.uint16)),
        sequence=0,
    )
    with pytest.raises(ConfigError, match="exchanged"):
        bench.fuse(wrong)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (fake.Error("cuInit failed: no CUDA-capable device is detected"), "CUDA does not start: cuInit failed"),
        (fake.Error("cuInit failed: forward compatibility was attempted"), "check the driver with nvidia-smi"),
    ],
)
def test_a_driver_that_does_not_start(cuda: fake.FakeCuda, error: fake.Error, message: str) -> None:
    cuda.failing = error
    with pytest.raises(EngineUnavailable, match=message):
        Device()


def test_no_device(kernels_on_host: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake.FakeCuda(kernels_on_host, devices=0)
    monkeypatch.setattr(device_module, "_pycuda", lambda: (module, module))
    with pytest.raises(EngineUnavailable, match="no CUDA device; choose a CPU engine"):
        Device()


def test_kernels_that_do_not_compile(cuda: fake.FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(source: str, **options: object) -> None:
        raise OSError("nvcc was not found")

    monkeypatch.setattr(cuda, "SourceModule", no_compiler)
    with pytest.raises(EngineUnavailable, match=r"nvcc was not found.*has to be on the PATH"):
        Device()


def test_pycuda_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycuda", None)
    with pytest.raises(EngineUnavailable, match=r"pip install .*\[cuda\]"):
        Device()
