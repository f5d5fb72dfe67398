"""The node. Not run with ROS 2 yet: written by rclpy's documentation, and held by tests against stand-ins of its classes.

ROS's executor only hands messages over; a thread of its own fuses, and each output has one, as in any run of rtfusion.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rtfusion import Band, EndOfStream, FusedFrame, FusionError, Pipeline, build
from rtfusion.registration import load_calibration
from rtfusion_ros import conversions as convert
from rtfusion_ros.parameters import CHANGEABLE, change_of, check_own, parameters, settings_of
from rtfusion_ros.topics import RosTime, Topic, check_topics, open_topics

QUEUE = 2
"""Messages that a publisher keeps for subscribers; more would only be older."""
AGAIN_S = 2.0
"""Pause before fusing begins anew after it broke."""
END_S = 5.0
NS_PER_MS = 1_000_000


class FusionNode(Node):  # type: ignore[misc,unused-ignore]
    """Fuses two topics, or two sources of rtfusion's own, and publishes what comes of it."""

    def __init__(self) -> None:
        """Declare the parameters, subscribe and begin.

        Raises:
            ConfigError: a parameter is wrong.
        """
        super().__init__("rtfusion")
        for name, default, description in parameters():
            self.declare_parameter(name, default, ParameterDescriptor(description=description, dynamic_typing=True))
        check_own(self._parameter)
        self._settings = settings_of(self._parameter)
        self._subscribes = check_topics(self._settings)
        self._calibration = load_calibration(self._settings.calibration, distance_m=self._settings.distance_m)
        self._ros_time = RosTime(lambda: int(self.get_clock().now().nanoseconds))
        self._stop = threading.Event()
        self._pipeline: Pipeline | None = None
        self._problem = "waiting for both topics" if self._subscribes else "opening both sources"
        self._camera_info: Any = None
        self._told: set[str] = set()
        self._outputs = {
            "fused": self.create_publisher(Image, "~/fused", QUEUE),
            "compressed": self.create_publisher(CompressedImage, "~/fused/compressed", QUEUE),
            "thermal": self.create_publisher(Image, "~/thermal_registered", QUEUE),
            "camera_info": self.create_publisher(CameraInfo, "~/camera_info", QUEUE),
        }
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._topics = {band: self._subscribe(band) for band in Band} if self._subscribes else {}
        self.create_timer(1.0, self._diagnose)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._thread = threading.Thread(target=self._work, name="fusion", daemon=True)
        self._thread.start()

    def destroy_node(self) -> None:
        """End the fusing, finish its outputs, and let go of the topics."""
        self._stop.set()
        for topic in self._topics.values():
            topic.wake()
        self._thread.join(END_S)
        super().destroy_node()

    # -- topics -----------------------------------------------------------------------------------------------------

    def _parameter(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _subscribe(self, band: Band) -> Topic:
        is_compressed = self._parameter(f"{band.value}_transport") == "compressed"
        read = convert.read_compressed if is_compressed else convert.read_image
        name = f"{band.value}/image_raw" + ("/compressed" if is_compressed else "")
        topic = Topic(name, band=band, read=read, ros_time=self._ros_time)
        kind = CompressedImage if is_compressed else Image
        self.create_subscription(kind, name, topic.receive, qos_profile_sensor_data)
        if band.value == self._settings.grid:
            self.create_subscription(
                CameraInfo, f"{band.value}/camera_info", self._keep_camera_info, qos_profile_sensor_data
            )
        return topic

    def _keep_camera_info(self, message: Any) -> None:
        self._camera_info = message

    # -- fusing -----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Fuse until the node ends; what breaks is told, and begun anew."""
        while not self._stop.is_set():
            try:
                self._run()
                self._problem = "the sources are over"
                self._stop.set()
            except EndOfStream:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is: without its thread the node would only seem to wait
                is_bug = not isinstance(error, FusionError)
                self._problem = f"this is a bug in rtfusion: {error!r}" if is_bug else str(error)
                details = f"\n{traceback.format_exc()}" if is_bug else ""
                self.get_logger().error(f"{self._problem}; fusing begins anew in {AGAIN_S:g} s{details}")
                self._stop.wait(AGAIN_S)
            finally:
                self._pipeline = None

    def _run(self) -> None:
        pairs = None
        if self._subscribes:
            delay_ms = self._settings.thermal_delay_ms
            if delay_ms is None:
                delay_ms = 0.0 if self._calibration is None else self._calibration.thermal_delay_ns / NS_PER_MS
            pairs = open_topics(
                visible=self._topics[Band.VISIBLE],
                thermal=self._topics[Band.THERMAL],
                settings=self._settings,
                thermal_delay_ms=delay_ms,
                stop=self._stop,
            )
        try:
            pipeline = build(self._settings, stop=self._stop, pairs=pairs, sinks=[RosSink(self)])
        except BaseException:
            if pairs is not None:
                pairs.close()
            raise
        self._pipeline = pipeline
        self.get_logger().info(f"fusing by {pipeline.telemetry.fuser}")
        pipeline.run(stop=self._stop, on_tick=self._tell_notes)

    def _tell_notes(self) -> None:
        """Log each note of the run once."""
        for note in self._pipeline.telemetry.notes if self._pipeline is not None else ():
            if note not in self._told:
                self._told.add(note)
                self.get_logger().warning(note)

    def _on_parameters(self, changed: Sequence[Any]) -> Any:
        """Take new values of what may be changed while fusing, between two frames; refuse the others with the reason."""
        pipeline = self._pipeline
        try:
            for parameter in changed:
                if parameter.name not in CHANGEABLE:
                    reason = f"{parameter.name} holds from the start of the node; change it in its launch file"
                    return SetParametersResult(successful=False, reason=reason)
                if pipeline is None:
                    return SetParametersResult(successful=False, reason=f"nothing is fused yet: {self._problem}")
                if parameter.name == "say":
                    said = pipeline.say(str(parameter.value))
                    if said.refused:
                        return SetParametersResult(successful=False, reason=str(said))
                else:
                    pipeline.change(change_of(parameter.name, parameter.value))
        except FusionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    # -- publishing -------------------------------------------------------------------------------------------------

    def publish_frame(self, frame: FusedFrame) -> None:
        """Publish a fused frame to those of the topics that somebody hears."""
        stamp_ns = self._ros_time.ros_ns(frame.timestamp_ns)
        where = {"stamp_ns": stamp_ns, "frame_id": self._frame_id()}
        for name, message in self._messages(frame, where):
            self._outputs[name].publish(message)

    def _messages(self, frame: FusedFrame, where: dict[str, Any]) -> Any:
        wanted = {name for name, publisher in self._outputs.items() if publisher.get_subscription_count()}
        if "fused" in wanted:
            yield "fused", convert.fill_image(Image(), frame.image, **where)
        if "compressed" in wanted:
            quality = self._parameter("jpeg_quality")
            yield "compressed", convert.fill_compressed(CompressedImage(), frame.image, quality=quality, **where)
        if "thermal" in wanted:
            yield "thermal", convert.fill_image(Image(), frame.thermal, **where)
        if "camera_info" in wanted and (info := self._info(frame, where)) is not None:
            yield "camera_info", info

    def _info(self, frame: FusedFrame, where: dict[str, Any]) -> Any:
        """The lens by the calibration, else what the camera's own topic says; None where nobody knows."""
        camera = None if self._calibration is None else getattr(self._calibration, self._settings.grid)
        if camera is not None and camera.intrinsics is not None:
            height, width = frame.image.shape[:2]
            return convert.fill_camera_info(CameraInfo(), camera.scaled((width, height)), **where)
        if self._camera_info is not None:
            return convert.copy_camera_info(CameraInfo(), self._camera_info, **where)
        return None

    def _frame_id(self) -> str:
        given = str(self._parameter("frame_id"))
        topic = self._topics.get(Band(self._settings.grid))
        return given or (topic.frame_id if topic is not None else "rtfusion")

    def _diagnose(self) -> None:
        pipeline = self._pipeline
        diagnosis = convert.Diagnosis("STALE" if not self._stop.is_set() else "OK", self._problem, {})
        if pipeline is not None:
            diagnosis = convert.diagnose(pipeline.telemetry.snapshot())
        message = DiagnosticArray()
        now_ns = int(self.get_clock().now().nanoseconds)
        convert.fill_header(message.header, stamp_ns=now_ns, frame_id="")
        status = convert.fill_status(
            DiagnosticStatus(), diagnosis, name=f"{self.get_name()}: fusion", hardware_id="", new_value=KeyValue
        )
        message.status = [status]
        self._diagnostics.publish(message)


class RosSink:
    """An output of a run, as `rtfusion.sinks.base.Sink`: the topics of the node."""

    uri = "ros:~/fused"

    def __init__(self, node: FusionNode) -> None:
        self._node = node

    def write(self, frame: FusedFrame) -> None:
        """Publish one frame."""
        self._node.publish_frame(frame)

    def close(self, *, aborted: bool) -> None:
        """Nothing to finish: the node keeps its publishers."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is asked to end; the exit code is one of rtfusion's."""
    rclpy.init(args=None if arguments is None else [*arguments])
    node = None
    try:
        node = FusionNode()
        rclpy.spin(node)
    except FusionError as error:
        sys.stderr.write(f"rtfusion_ros: {error}\n")
        return error.exit_code
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
