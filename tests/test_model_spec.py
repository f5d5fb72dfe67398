from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtfusion.errors import ModelError
from rtfusion.models import (
    ImageInput,
    MapInput,
    ModelSpec,
    Output,
    ScalarInput,
    StateInput,
    read_spec,
    shipping,
)
from rtfusion.models.onnx_file import graph_checksum
from rtfusion.models.spec import find_spec
from tests import onnx_models

IN_TMP = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_models.write(tmp_path / "tiny.onnx", onnx_models.average())


def metadata(**changes: Any) -> dict[str, str]:
    """A contract that holds for `onnx_models.average`, with some values replaced (None: left out)."""
    texts = onnx_models.contract(checksum=onnx_models.checksum(onnx_models.average())).metadata()
    for key, value in changes.items():
        texts[f"rtfusion.{key}"] = value if isinstance(value, str) else json.dumps(value)
        if value is None:
            del texts[f"rtfusion.{key}"]
    return texts


# --- what is written is read ---


def test_reads_what_the_file_says(tmp_path: Path) -> None:
    path = onnx_models.write(
        tmp_path / "dial.onnx", onnx_models.dial(), name="large", stride=8, scalars={"enhance": onnx_models.ENHANCE}
    )
    spec = read_spec(path)
    assert spec.name == "large"
    assert spec.stride == 8
    assert list(spec.inputs) == ["visible_y", "thermal", "enhance"]
    assert (spec.scalars["enhance"].default, spec.scalars["enhance"].fed_by) == (0.25, "user")
    assert spec.outputs == {"fused_y": Output(kind="image")}
    assert spec.value_range == (0, 1)
    assert spec.color_matrix == "bt601"
    assert spec.scores == {"tno": {"Qabf": 0.5}}
    assert spec.id == hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def test_the_keys_are_those_of_the_page(model: Path) -> None:
    stored = {entry.key: json.loads(entry.value) for entry in onnx.load(model).metadata_props}
    assert stored == {
        "rtfusion.schema": 1,
        "rtfusion.name": "tiny",
        "rtfusion.inputs": ["visible_y", "thermal"],
        "rtfusion.scalars": {},
        "rtfusion.output": "fused_y",
        "rtfusion.value_range": [0, 1],
        "rtfusion.stride": 1,
        "rtfusion.color_matrix": "bt601",
        "rtfusion.training_commit": "0123abc",
        "rtfusion.data": ["synthetic scene"],
        "rtfusion.teachers": [],
        "rtfusion.license": "Apache-2.0",
        "rtfusion.scores": {"tno": {"Qabf": 0.5}},
        "rtfusion.checksum": onnx_models.checksum(onnx_models.average()),
    }
    import rtfusion.models.spec as page

    assert all(key in (page.__doc__ or "") for key in stored)


def test_schema_1_leaves_unsaid_who_feeds_the_means(tmp_path: Path) -> None:
    half = ScalarInput(default=0.5, minimum=0, maximum=1)
    model = onnx_models.dial()
    path = onnx_models.write(
        tmp_path / "m.onnx", model, scalars={"enhance": half, "thermal_mean": half, "visible_mean": half}
    )
    assert json.loads(next(e.value for e in onnx.load(path).metadata_props if e.key == "rtfusion.schema")) == 1
    fed_by = {name: scalar.fed_by for name, scalar in read_spec(path).scalars.items()}
    assert fed_by == {"enhance": "user", "thermal_mean": "thermal_mean", "visible_mean": "visible_mean"}


def test_the_shipped_contracts_are_written_as_they_were_read() -> None:
    for path in sorted(shipping.FOLDER.glob("student-*.onnx")):
        stored = {
            entry.key: entry.value for entry in onnx.load(path).metadata_props if entry.key.startswith("rtfusion.")
        }
        assert read_spec(path).metadata() == stored


def test_the_example_of_the_page_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "model-contract.md").read_text(encoding="utf-8")
    contract = json.loads(page.split("```json\n")[1].split("```")[0])
    contract["checksum"] = onnx_models.checksum(onnx_models.average())
    metadata = {f"rtfusion.{key}": json.dumps(value) for key, value in contract.items()}
    spec = read_spec(onnx_models.write_metadata(tmp_path / "steady.onnx", onnx_models.average(), metadata=metadata))
    assert list(spec.states) == ["memory"]
    assert spec.contract() == {**contract, "inputs": spec.contract()["inputs"], "outputs": spec.contract()["outputs"]}


@pytest.fixture
def remembering(tmp_path: Path) -> Path:
    return onnx_models.write(tmp_path / "tiny.onnx", onnx_models.remembering(), **onnx_models.REMEMBERING)


def test_schema_2_names_every_port_with_its_kind(remembering: Path) -> None:
    stored = {entry.key: json.loads(entry.value) for entry in onnx.load(remembering).metadata_props}
    assert stored["rtfusion.schema"] == 2
    assert stored["rtfusion.inputs"]["memory"] == {
        "kind": "state", "channels": 2, "scale": 4, "initial": 0.5, "fed_from": "memory_next", "reset_after_s": 0.5,
    }  # fmt: skip
    assert {name: port["kind"] for name, port in stored["rtfusion.inputs"].items()} == {
        "visible_y": "image", "thermal": "image", "enhance": "scalar", "thermal_mean": "scalar", "trust": "map",
        "memory": "state",
    }  # fmt: skip
    assert {name: port["kind"] for name, port in stored["rtfusion.outputs"].items()} == {
        "fused_y": "image", "memory_next": "state", "warm": "mask"
    }  # fmt: skip
    spec = read_spec(remembering)
    assert spec.inputs == onnx_models.REMEMBERING["inputs"]
    assert spec.outputs == onnx_models.REMEMBERING["outputs"]
    assert spec.inputs["memory"].shape((64, 48)) == (1, 2, 12, 16)
    assert spec.padded_px((61, 42)) == (64, 48)


names = st.text(min_size=1).filter(lambda name: name not in {"visible_y", "thermal", "fused_y", "next"})
ranged = (
    st.lists(finite, min_size=3, max_size=3)
    .map(sorted)
    .map(lambda three: {"minimum": three[0], "default": three[1], "maximum": three[2]})
)
planes = st.fixed_dictionaries({"channels": st.integers(1, 9), "scale": st.sampled_from([1, 2, 4, 8])})
ports = st.one_of(
    st.builds(lambda numbers: ScalarInput(**numbers), ranged),
    st.builds(lambda numbers, plane: MapInput(**numbers, **plane), ranged, planes),
    st.builds(
        lambda plane, initial, gap: StateInput(**plane, initial=initial, fed_from="next", reset_after_s=gap),
        planes,
        finite,
        st.floats(1e-3, 1e3),
    ),
)


@IN_TMP
@given(inputs=st.dictionaries(names, ports, max_size=4), kind=st.sampled_from(["mask", "gain", "other"]), plane=planes)
def test_any_ports_that_hold_together_survive_the_file(
    tmp_path: Path, inputs: dict[str, Any], kind: str, plane: dict[str, int]
) -> None:
    outputs: dict[str, Output] = {"fused_y": Output(kind="image")}
    for number, (name, port) in enumerate(inputs.items()):
        if isinstance(port, StateInput):  # each is fed from an output of its own
            inputs[name] = port.model_copy(update={"fed_from": f"fused_y {number}"})
            outputs[f"fused_y {number}"] = Output(kind="state", channels=port.channels, scale=port.scale)
    if not {*outputs, "fused_y x"} & {*inputs}:
        outputs["fused_y x"] = Output(kind=kind, **plane)  # type: ignore[arg-type]
        images = {name: ImageInput() for name in ("visible_y", "thermal")}
        path = onnx_models.write(
            tmp_path / "any.onnx", onnx_models.average(), stride=8, inputs={**images, **inputs}, outputs=outputs
        )
        spec = read_spec(path)
        assert (spec.inputs, spec.outputs) == ({**images, **inputs}, outputs)
        assert spec.inputs["thermal"].shape((64, 48)) == (1, 1, 48, 64)


@IN_TMP
@given(
    name=st.text(min_size=1),
    stride=st.integers(1, 256),
    data=st.lists(st.text()).map(tuple),
    scores=st.dictionaries(st.text(), st.dictionaries(st.text(), finite)),
    default=finite,
)
def test_any_contract_survives_the_file(
    tmp_path: Path, name: str, stride: int, data: tuple[str, ...], scores: dict[str, dict[str, float]], default: float
) -> None:
    scalars = {"enhance": ScalarInput(default=default, minimum=default, maximum=default)}
    fields = {"name": name, "stride": stride, "data": data, "scores": scores}
    path = onnx_models.write(tmp_path / "any.onnx", onnx_models.average(), scalars=scalars, **fields)
    spec = read_spec(path)
    assert spec.model_dump(include=set(fields)) == fields
    assert spec.scalars == scalars


def test_other_metadata_is_nobodys_business(tmp_path: Path) -> None:
    path = onnx_models.write_metadata(
        tmp_path / "m.onnx", onnx_models.average(), metadata={**metadata(), "author": "not JSON"}
    )
    assert read_spec(path).name == "tiny"


def test_the_checksum_covers_the_graph_alone() -> None:
    model = onnx_models.average()
    before = graph_checksum(model.SerializeToString())
    model.producer_name = "somebody"
    model.metadata_props.add(key="a", value="b")
    assert graph_checksum(model.SerializeToString()) == before
    model.graph.name = "another"
    assert graph_checksum(model.SerializeToString()) != before


def test_needs_no_onnx_package(model: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rtfusion.models import read_spec; "
        f"print(read_spec(Path({str(model)!r})).name); "
        "print(sorted({'onnx', 'google.protobuf', 'openvino', 'onnxruntime', 'cv2'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["tiny", "[]"]


# --- what is not a model ---


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read the model .*gone\.onnx: No such file"):
        read_spec(tmp_path / "gone.onnx")


@pytest.mark.parametrize("path", [Path("/dev/zero"), Path("/")])
def test_not_a_file(path: Path) -> None:
    with pytest.raises(ModelError, match="not a regular file"):
        read_spec(path)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "no graph or no version"),
        (b"\x08\x08", "no graph or no version"),
        (b"\x3a\x00", "no graph or no version"),
        (b"\x08", "ends in the middle of a number"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\x08" + b"\xff" * 11, "more than 64 bits"),
        (b"\x3a\x05abc", "ends in the middle of a field"),
        (b"\x0d\x00\x00", "ends in the middle of a field"),
        (b"\x02\x00", "number 0"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x38\x01", "expected one graph"),
        (b"\x08\x08\x3a\x00\x3a\x00", "expected one graph"),
        (b"\x70\x01", "metadata entry is a number"),
        (b"\x72\x02\x08\x01", "not a pair of strings"),
        (b"\x72\x02\x1a\x00", "not a pair of strings"),
        (b"\x72\x03\x0a\x01\xff", "not UTF-8"),
        (b"\x72\x03\x0a\x01a" * 2, "'a' comes twice"),
        (b"\x89PNG\r\n\x1a\n", "not a whole ONNX model"),
    ],
)
def test_malformed_bytes_are_told_apart(tmp_path: Path, data: bytes, detail: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=rf"bad\.onnx is not a whole ONNX model: .*{detail}|{detail}"):
        find_spec(path)
    with pytest.raises(ModelError, match=detail):
        graph_checksum(data)


def test_unknown_fields_of_every_wire_type_are_skipped(tmp_path: Path, model: Path) -> None:
    newer = b"\xa0\x06\x2a" + b"\xa1\x06" + bytes(8) + b"\xa2\x06\x03abc" + b"\xa5\x06" + bytes(4)
    path = tmp_path / "newer.onnx"
    path.write_bytes(newer + model.read_bytes())
    assert read_spec(path).name == "tiny"


def test_every_truncation_is_refused(model: Path, tmp_path: Path) -> None:
    whole = model.read_bytes()
    path = tmp_path / "cut.onnx"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"cut\.onnx"):
            read_spec(path)


@IN_TMP
@given(data=st.binary(max_size=400))
def test_random_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "random.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError):
        read_spec(path)


@IN_TMP
@given(data=st.data())
def test_a_changed_byte_never_escapes_as_another_error(model: Path, tmp_path: Path, data: st.DataObject) -> None:
    changed = bytearray(model.read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "changed.onnx"
    path.write_bytes(changed)
    try:
        spec = read_spec(path)
    except ModelError:
        return
    assert isinstance(spec, ModelSpec), "a letter of a name may change unnoticed"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.sampled_from(["state", "map"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=9), values, max_size=3),
    max_leaves=6,
)


@IN_TMP
@given(data=st.data())
def test_any_change_of_one_value_of_schema_2_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    spec = onnx_models.contract(checksum=onnx_models.checksum(onnx_models.average()), **onnx_models.REMEMBERING)
    ports = spec.contract()[side := data.draw(st.sampled_from(["inputs", "outputs"]))]
    port = ports[data.draw(st.sampled_from(sorted(ports)))]
    port[data.draw(st.sampled_from([*sorted(port), "extra"]))] = data.draw(json_values)
    path = onnx_models.write_metadata(
        tmp_path / "value.onnx",
        onnx_models.average(),
        metadata={**spec.metadata(), f"rtfusion.{side}": json.dumps(ports)},
    )
    try:
        assert isinstance(read_spec(path), ModelSpec)
    except ModelError as error:
        assert "value.onnx" in str(error)


@IN_TMP
@given(key=st.sampled_from(sorted(metadata())), text=st.one_of(st.text(max_size=30), st.just("[" * 100_000)))
def test_any_text_for_a_value_is_read_or_refused(tmp_path: Path, key: str, text: str) -> None:
    path = onnx_models.write_metadata(
        tmp_path / "value.onnx", onnx_models.average(), metadata={**metadata(), key: text}
    )
    try:
        assert isinstance(read_spec(path), ModelSpec)
    except ModelError as error:
        assert "value.onnx" in str(error)


# --- contracts that do not hold ---


def test_a_model_without_a_contract(tmp_path: Path) -> None:
    path = onnx_models.write_metadata(tmp_path / "plain.onnx", onnx_models.average(), metadata={"author": "x"})
    find_spec(path)
    with pytest.raises(ModelError, match=r"plain\.onnx carries no contract"):
        read_spec(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 3}, "contract schema 3, this version reads 1 and 2"),
        ({"schema": 2}, r"rtfusion\.inputs: Input should be an object"),
        ({"schema": 1.0}, r"contract schema 1\.0"),
        ({"schema": True}, "contract schema True"),
        ({"schema": None}, "contract schema None"),
        ({"name": "no quotes"}, r"rtfusion\.name is not JSON"),
        ({"scores": '{"tno": {"Qabf": NaN}}'}, r"rtfusion\.scores is not JSON: NaN"),
        ({"scores": '{"tno": {"Qabf": 1e999}}'}, r"rtfusion\.scores\.tno\.Qabf"),
        ({"stride": None}, r"rtfusion\.stride: Field required"),
        ({"stride": 0}, r"rtfusion\.stride"),
        ({"stride": "4.5"}, r"rtfusion\.stride"),
        ({"stride": '"4"'}, r"rtfusion\.stride"),
        ({"inputs": ["thermal", "visible_y"]}, r"rtfusion\.inputs\.0"),
        ({"inputs": ["visible_y"]}, r"rtfusion\.inputs"),
        ({"output": '"fused"'}, r"rtfusion\.output"),
        ({"value_range": [0, 255]}, r"expected \[0, 1\]"),
        ({"color_matrix": '"bt709"'}, r"rtfusion\.color_matrix"),
        ({"scalars": {"thermal": {"default": 0, "minimum": 0, "maximum": 1}}}, "may not be named 'thermal'"),
        ({"scalars": {"enhance": {"default": 2, "minimum": 0, "maximum": 1}}}, r"default 2.* is outside \[0.*, 1.*\]"),
        ({"scalars": {"enhance": 0.5}}, r"rtfusion\.scalars\.enhance"),
        ({"checksum": '"abc"'}, r"rtfusion\.checksum"),
        ({"checksum": json.dumps("0" * 64)}, "damaged or was edited"),
        ({"id": '"0123456789abcdef"'}, r"stores rtfusion\.id"),
        ({"extra": 1}, r"rtfusion\.extra: Extra inputs are not permitted"),
    ],
)
def test_a_contract_that_does_not_hold(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = onnx_models.write_metadata(tmp_path / "odd.onnx", onnx_models.average(), metadata=metadata(**changes))
    with pytest.raises(ModelError, match=message) as caught:
        read_spec(path)
    assert "odd.onnx" in str(caught.value)


IMAGES = {"visible_y": {"kind": "image"}, "thermal": {"kind": "image"}}
FUSED = {"fused_y": {"kind": "image"}}
MEMORY = {"kind": "state", "channels": 2, "scale": 4, "initial": 0, "fed_from": "next", "reset_after_s": 1}
TRUST = {"kind": "map", "channels": 1, "scale": 4, "default": 1, "minimum": 0, "maximum": 1}
NEXT = {"kind": "state", "channels": 2, "scale": 4}


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"visible_y": {"kind": "image"}}, FUSED, "images among the inputs are visible_y; expected visible_y and thermal"),
        ({**IMAGES, "depth": {"kind": "image"}}, FUSED, "images among the inputs are visible_y, thermal, depth"),
        (IMAGES, {}, "images among the outputs are none; expected fused_y"),
        (IMAGES, {"fused_y": {"kind": "image", "scale": 2}}, "expected fused_y, of 1 channel and scale 1"),
        (IMAGES, {**FUSED, "second": {"kind": "image"}}, "images among the outputs are fused_y, second"),
        ({**IMAGES, "trust": TRUST}, {**FUSED, "trust": {"kind": "mask"}}, "the name 'trust' is empty, or that of an input and"),
        ({**IMAGES, "": TRUST}, FUSED, "the name '' is empty"),
        ({**IMAGES, "trust": {**TRUST, "scale": 3}}, FUSED, "trust has the scale 3, which does not divide the stride 8"),
        (IMAGES, {**FUSED, "people": {"kind": "mask", "scale": 16}}, "people has the scale 16, which does not divide"),
        ({**IMAGES, "trust": {**TRUST, "default": 2}}, FUSED, r"default 2\.0 is outside \[0\.0, 1\.0\]"),
        ({**IMAGES, "trust": {**TRUST, "fed_by": "thermal_mean"}}, FUSED, r"rtfusion\.inputs\.trust\.map\.fed_by"),
        ({**IMAGES, "memory": MEMORY}, FUSED, "memory is fed from 'next', which is no output of kind state; there are none"),
        ({**IMAGES, "memory": MEMORY}, {**FUSED, "next": {**NEXT, "kind": "mask"}}, "which is no output of kind state"),
        (
            {**IMAGES, "memory": MEMORY},
            {**FUSED, "next": {**NEXT, "channels": 3}},
            "memory has 2 channels at scale 4, but next, which feeds it, has 3 at scale 4",
        ),
        (IMAGES, {**FUSED, "next": NEXT}, "the output next of kind state feeds 0 states; expected one"),
        ({**IMAGES, "a": MEMORY, "b": MEMORY}, {**FUSED, "next": NEXT}, "next of kind state feeds 2 states"),
        ({**IMAGES, "memory": {**MEMORY, "reset_after_s": 0}}, {**FUSED, "next": NEXT}, "reset_after_s"),
        ({**IMAGES, "prompt": {"kind": "text"}}, FUSED, r"rtfusion\.inputs\.prompt: .*'image', 'scalar', 'map'"),
    ],
)  # fmt: skip
def test_ports_that_do_not_hold_together(
    tmp_path: Path, inputs: dict[str, Any], outputs: dict[str, Any], message: str
) -> None:
    changes = {"schema": 2, "inputs": inputs, "outputs": outputs, "stride": 8, "scalars": None, "output": None}
    path = onnx_models.write_metadata(tmp_path / "odd.onnx", onnx_models.average(), metadata=metadata(**changes))
    with pytest.raises(ModelError, match=message):
        read_spec(path)
