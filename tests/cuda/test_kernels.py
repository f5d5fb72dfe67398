"""The kernels, their NumPy twin and a float64 reference, held against each other; compiled by nvcc where it is."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtfusion.cuda import device, twin
from tests.cuda.conftest import KERNELS

SHAPES = [((24, 32), (24, 32), 4), ((21, 37), (9, 16), 8), ((9, 33), (40, 13), 8), ((1, 1), (1, 1), 8)]


def images(shape: tuple[int, int], thermal_shape: tuple[int, int], *, bits: int, gray: bool, seed: int = 0):
    rng = np.random.default_rng(seed)
    visible = rng.integers(0, 256, shape if gray else (*shape, 3)).astype(np.uint8)
    thermal = rng.integers(0, 256 if bits == 8 else 65536, thermal_shape).astype(np.uint8 if bits == 8 else np.uint16)
    levels = rng.permutation(np.arange(2**bits) >> (bits - 8)).astype(np.uint8)
    scale = np.array([thermal_shape[1] / shape[1], thermal_shape[0] / shape[0]])
    x, y = np.meshgrid(np.arange(shape[1]) * scale[0] - 1.3, np.arange(shape[0]) * scale[1] + 0.7)
    return visible, thermal, levels, (x.astype(np.float32), y.astype(np.float32))


def pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


@pytest.mark.parametrize(("shape", "thermal_shape", "stride"), SHAPES)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_prepare_is_its_twin(
    kernels_on_host: ctypes.CDLL,
    shape: tuple[int, int],
    thermal_shape: tuple[int, int],
    stride: int,
    bits: int,
    gray: bool,
    mapped: bool,
) -> None:
    if not mapped:
        thermal_shape = shape
    visible, thermal, levels, source = images(shape, thermal_shape, bits=bits, gray=gray)
    padded = tuple(side + -side % stride for side in shape)
    planes = np.full((2, *padded), np.nan, np.float32)
    registered, sums = np.full(shape, 77, np.uint8), np.zeros(2, np.uint64)
    kernels_on_host.host_prepare(
        -(-padded[1] // 32), -(-padded[0] // 8), pointer(visible), 1 if gray else 3, pointer(thermal), bits // 8,
        thermal_shape[1], thermal_shape[0], pointer(levels), *(pointer(axis if mapped else None) for axis in source),
        shape[1], shape[0], padded[1], padded[0], pointer(planes[0]), pointer(planes[1]), pointer(registered),
        pointer(sums),
    )  # fmt: skip
    expected = twin.prepare(
        visible=visible,
        thermal=thermal,
        levels=levels,
        source=source if mapped else None,
        padded_shape=(padded[0], padded[1]),
    )
    np.testing.assert_array_equal(planes[0], expected[0])
    np.testing.assert_array_equal(planes[1], expected[1])
    np.testing.assert_array_equal(registered, expected[2])
    assert tuple(sums) == expected[3]


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_compose_is_its_twin(kernels_on_host: ctypes.CDLL, gray: bool, masked: bool) -> None:
    height, width, padded_width = 21, 37, 40
    visible = images((height, width), (4, 4), bits=8, gray=gray)[0]
    rng = np.random.default_rng(1)
    fused_y = rng.uniform(-0.3, 1.3, (24, padded_width)).astype(np.float32)
    fused_y[0, :3] = np.nan, np.inf, -np.inf
    inside = rng.random((height, width), dtype=np.float32) if masked else None
    image = np.zeros((height, width, 3), np.uint8)
    kernels_on_host.host_compose(
        2, 3, pointer(visible), 1 if gray else 3, pointer(fused_y), pointer(inside), width, height, padded_width,
        pointer(image),
    )  # fmt: skip
    np.testing.assert_array_equal(image, twin.compose(visible=visible, fused_y=fused_y, inside=inside))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255 * 9), st.floats(0, 1)), min_size=1, max_size=6))
def test_scene_is_its_twin_over_many_frames(kernels_on_host: ctypes.CDLL, frames: list[tuple[int, float]]) -> None:
    means, scalars = np.zeros(2, np.float32), np.zeros(3 * 64, np.float32)
    expected = means.copy()
    mean_of = np.array([1, -1, 0], np.int32)
    for total, share in frames:
        sums = np.array([total, 255 * 9 - total], np.uint64)
        wanted = np.array([share, 7, 0.5, 7], np.float32)
        expected = twin.scene(means=expected, sums=(int(sums[0]), int(sums[1])), pixels=9, share=float(wanted[0]))
        kernels_on_host.host_scene(
            1, 1, pointer(wanted), pointer(mean_of), 3, 9, pointer(sums), pointer(means), pointer(scalars)
        )
        assert tuple(sums) == (0, 0)
    np.testing.assert_array_equal(means, expected)
    np.testing.assert_array_equal(scalars[::64], [means[1], 0.5, means[0]])


def test_the_twins_luminance_is_opencvs() -> None:
    visible = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    np.testing.assert_array_equal(twin.luminance(visible), cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY))


def test_the_twin_rounds_what_float64_says() -> None:
    visible, thermal, levels, (x, y) = images((40, 50), (20, 30), bits=16, gray=False)
    registered = twin.prepare(visible=visible, thermal=thermal, levels=levels, source=(x, y), padded_shape=(40, 50))[2]
    toned = np.pad(levels[thermal].astype(np.float64), 4, mode="edge")
    column, row = np.clip(x.astype(np.float64), -2, 31) + 4, np.clip(y.astype(np.float64), -2, 21) + 4
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    a, b = column - left, row - top
    exact = (1 - b) * ((1 - a) * toned[top, left] + a * toned[top, left + 1])
    exact += b * ((1 - a) * toned[top + 1, left] + a * toned[top + 1, left + 1])
    assert np.abs(registered - exact).max() <= 0.5 + 1e-3


# --- compiled by nvcc ---


def nvcc() -> str:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("no nvcc: the kernels cannot be compiled for a GPU here")
    return compiler


@pytest.mark.parametrize("architecture", ["75", "87", "90", "110"])
def test_the_kernels_compile_to_ptx_with_the_arguments_they_are_launched_with(
    tmp_path: Path, architecture: str
) -> None:
    target = tmp_path / "kernels.ptx"
    command = [nvcc(), *device.COMPILER_FLAGS, "-Werror", "all-warnings", f"-arch=compute_{architecture}", "-ptx"]
    subprocess.run([*command, str(KERNELS), "-o", str(target)], check=True, timeout=100)
    entries = re.findall(r"\.entry (\w+)\((.*?)\)", target.read_text(), re.DOTALL)
    kinds = {"P": "u64", "i": "u32"}
    for name, parameters in entries:
        assert re.findall(r"\.param \.(u\d+)", parameters) == [kinds[kind] for kind in device.KERNELS[name]]
    assert {name for name, _ in entries} == device.KERNELS.keys()
    assert "fma.rn.f32" not in target.read_text()
