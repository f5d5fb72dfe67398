"""Installs the node as ament_python packages are."""

from setuptools import setup

NAME = "rtfusion_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/fusion.launch.py"]),
        (f"share/{NAME}/config", ["config/fusion.yaml"]),
    ],
    install_requires=["setuptools", "rtfusion"],
    zip_safe=True,
    maintainer="The rtfusion authors",
    maintainer_email="maintainers@rtfusion.invalid",
    description="Real-time fusion of a thermal and a visible camera: rtfusion as a ROS 2 node.",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"fusion = {NAME}.node:main"]},
)
