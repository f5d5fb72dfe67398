"""rtfusion as a ROS 2 node: two image topics, or sources of rtfusion's own, become a fused one.

``conversions`` and ``topics`` know messages only by their fields and import nothing of ROS; ``node`` alone does.
"""
