"""Stand-ins for what the node uses of ROS 2: messages by their published definitions, and rclpy as it is documented.

The fields, their order and their types are those of common_interfaces and rcl_interfaces (Jazzy); a test holds them against the
definitions that the package rosbags carries, and sends them through its serialization.
"""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np


@dataclass
class Time:
    sec: int = 0
    nanosec: int = 0


@dataclass
class Header:
    stamp: Time = field(default_factory=Time)
    frame_id: str = ""


@dataclass
class Image:
    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    encoding: str = ""
    is_bigendian: int = 0
    step: int = 0
    data: Any = b""


@dataclass
class CompressedImage:
    header: Header = field(default_factory=Header)
    format: str = ""
    data: Any = b""


@dataclass
class RegionOfInterest:
    x_offset: int = 0
    y_offset: int = 0
    height: int = 0
    width: int = 0
    do_rectify: bool = False


@dataclass
class CameraInfo:
    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    distortion_model: str = ""
    d: Any = field(default_factory=list)
    k: Any = field(default_factory=lambda: [0.0] * 9)
    r: Any = field(default_factory=lambda: [0.0] * 9)
    p: Any = field(default_factory=lambda: [0.0] * 12)
    binning_x: int = 0
    binning_y: int = 0
    roi: RegionOfInterest = field(default_factory=RegionOfInterest)


@dataclass
class KeyValue:
    key: str = ""
    value: str = ""


@dataclass
class DiagnosticStatus:
    level: bytes = b"\x00"
    name: str = ""
    message: str = ""
    hardware_id: str = ""
    values: list[KeyValue] = field(default_factory=list)

    OK: ClassVar[bytes] = b"\x00"
    WARN: ClassVar[bytes] = b"\x01"
    ERROR: ClassVar[bytes] = b"\x02"
    STALE: ClassVar[bytes] = b"\x03"


@dataclass
class DiagnosticArray:
    header: Header = field(default_factory=Header)
    status: list[DiagnosticStatus] = field(default_factory=list)


@dataclass
class ParameterDescriptor:
    description: str = ""
    dynamic_typing: bool = False


@dataclass
class SetParametersResult:
    successful: bool = False
    reason: str = ""


@dataclass
class Parameter:
    name: str
    value: Any


class Publisher:
    """Keeps what was published; ``heard`` says how many listen."""

    def __init__(self, kind: type, topic: str) -> None:
        self.kind, self.topic = kind, topic
        self.heard = 1
        self.messages: list[Any] = []

    def publish(self, message: Any) -> None:
        assert isinstance(message, self.kind)
        self.messages.append(message)

    def get_subscription_count(self) -> int:
        return self.heard


class Node:
    """As rclpy.node.Node, alone in its process; ``given`` are parameters that a launch file would set."""

    given: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str) -> None:
        self._name = name
        self.declared: dict[str, Parameter] = {}
        self.published: dict[str, Publisher] = {}
        self.subscribed: dict[str, tuple[type, Callable[[Any], None]]] = {}
        self.logged: list[tuple[str, str]] = []
        self.timers: list[Callable[[], None]] = []
        self.on_parameters: Callable[[list[Parameter]], SetParametersResult] | None = None
        self.is_destroyed = False

    def get_name(self) -> str:
        return self._name

    def declare_parameter(self, name: str, value: Any, descriptor: ParameterDescriptor) -> None:
        assert name not in self.declared and descriptor.dynamic_typing and descriptor.description
        assert isinstance(value, (bool, int, float, str))
        self.declared[name] = Parameter(name, self.given.get(name, value))

    def get_parameter(self, name: str) -> Parameter:
        return self.declared[name]

    def create_publisher(self, kind: type, topic: str, depth: int) -> Publisher:
        assert depth > 0
        return self.published.setdefault(topic, Publisher(kind, topic))

    def create_subscription(self, kind: type, topic: str, callback: Callable[[Any], None], qos: Any) -> None:
        self.subscribed[topic] = kind, callback

    def create_timer(self, period_s: float, callback: Callable[[], None]) -> None:
        self.timers.append(callback)

    def add_on_set_parameters_callback(self, callback: Any) -> None:
        self.on_parameters = callback

    def get_clock(self) -> Any:
        return types.SimpleNamespace(now=lambda: types.SimpleNamespace(nanoseconds=time.time_ns()))

    def get_logger(self) -> Any:
        def log(level: str) -> Callable[[str], None]:
            return lambda text: self.logged.append((level, text))

        return types.SimpleNamespace(info=log("info"), warning=log("warning"), error=log("error"))

    def destroy_node(self) -> None:
        self.is_destroyed = True


class ExternalShutdownException(Exception):  # noqa: N818 - rclpy's name
    pass


def modules() -> dict[str, types.ModuleType]:
    """The modules that the node imports, by their names."""
    made: dict[str, types.ModuleType] = {}

    def module(name: str, **members: Any) -> None:
        made[name] = types.ModuleType(name)
        made[name].__dict__.update(members)

    module("rclpy", init=lambda args=None: None, spin=lambda node: None, try_shutdown=lambda: None)
    module("rclpy.node", Node=Node)
    module("rclpy.executors", ExternalShutdownException=ExternalShutdownException)
    module("rclpy.qos", qos_profile_sensor_data=object())
    module("sensor_msgs")
    module("sensor_msgs.msg", Image=Image, CompressedImage=CompressedImage, CameraInfo=CameraInfo)
    module("diagnostic_msgs")
    module("diagnostic_msgs.msg", DiagnosticArray=DiagnosticArray, DiagnosticStatus=DiagnosticStatus, KeyValue=KeyValue)
    module("rcl_interfaces")
    module("rcl_interfaces.msg", ParameterDescriptor=ParameterDescriptor, SetParametersResult=SetParametersResult)
    return made


def picture(image: Any, *, encoding: str, stamp_ns: int, frame_id: str = "camera", padding: int = 0) -> Image:
    """A message as a camera driver sends it, with rows of so many more bytes."""
    rows = np.ascontiguousarray(image).view(np.uint8).reshape(image.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, padding)))
    stamp = Time(*divmod(stamp_ns, 1_000_000_000))
    return Image(
        header=Header(stamp, frame_id),
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=padded.shape[1],
        data=padded.tobytes(),
    )
