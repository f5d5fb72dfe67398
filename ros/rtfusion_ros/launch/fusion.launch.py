"""Fuses the topics of two camera drivers: ros2 launch rtfusion_ros fusion.launch.py visible:=/camera thermal:=/lepton."""

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    """The node, its topics and its file of parameters."""
    share = get_package_share_directory("rtfusion_ros")
    arguments = [
        DeclareLaunchArgument(
            "visible", default_value="/visible", description="Namespace of the visible camera's topics."
        ),
        DeclareLaunchArgument(
            "thermal", default_value="/thermal", description="Namespace of the thermal camera's topics."
        ),
        DeclareLaunchArgument("params", default_value=f"{share}/config/fusion.yaml", description="File of parameters."),
    ]
    remappings = [
        (f"{band}/{topic}", [LaunchConfiguration(band), f"/{topic}"])
        for band in ("visible", "thermal")
        for topic in ("image_raw", "image_raw/compressed", "camera_info")
    ]
    node = Node(
        package="rtfusion_ros",
        executable="fusion",
        name="rtfusion",
        output="screen",
        parameters=[LaunchConfiguration("params")],
        remappings=remappings,
        respawn=True,
        respawn_delay=5.0,
    )
    return LaunchDescription([*arguments, node])
