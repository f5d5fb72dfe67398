"""What is said of a picture: facts from -1 to 1, and plain sentences in English and Chinese that say them.

Words are those that people use of fused pictures. A text is a set of features: its words, pairs of neighboring words, and of
Chinese its characters and pairs of them, each at a place of a table by a checksum, so that the vocabulary is no file.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Sequence

import numpy as np

FACTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "thermal": (
        ("infrared", "thermal", "heat", "thermal infrared", "warm bodies", "红外", "热成像", "热像"),
        (
            "visible",
            "visible gray",
            "ordinary photo",
            "visible light",
            "normal camera",
            "daylight camera",
            "可见光",
            "普通相机",
        ),
    ),
    "day": (
        ("day", "daylight", "by day", "daytime", "sunny", "白天", "日间"),
        ("night", "at night", "nighttime", "in the dark", "夜晚", "夜间", "黑夜"),
    ),
    "smoke": (
        ("smoke", "smoky", "haze", "fog", "behind smoke", "烟雾", "浓烟", "雾"),
        ("no smoke", "without smoke", "clear air", "without haze", "没有烟", "无雾"),
    ),
    "people": (
        ("people", "a person", "pedestrians", "somebody", "persons walking", "有人", "行人", "人员"),
        ("nobody", "no people", "without people", "an empty scene", "empty street", "没有人", "无人"),
    ),
    "vehicles": (
        ("cars", "a car", "vehicles", "traffic", "车辆", "汽车", "有车"),
        ("no cars", "without vehicles", "no traffic", "没有车", "无车"),
    ),
    "sharp": (
        (
            "sharp",
            "clear",
            "detailed",
            "detailed background",
            "rich details",
            "fine texture",
            "清晰",
            "细节丰富",
            "锐利",
        ),
        ("blurred", "blurry", "out of focus", "soft", "minimal details", "模糊", "不清晰"),
    ),
    "noisy": (
        ("noisy", "grainy", "noise", "speckled", "噪声", "噪点多"),
        ("clean", "noise free", "without noise", "smooth", "干净", "无噪声", "没有噪点"),
    ),
    "bright": (
        ("bright", "light", "well lit", "明亮", "亮"),
        ("dark", "dim", "black", "underexposed", "昏暗", "暗"),
    ),
    "contrast": (
        ("high contrast", "strong contrast", "vivid", "distinct objects", "高对比度", "对比强烈"),
        ("low contrast", "flat", "dull", "indistinct objects", "低对比度", "平淡"),
    ),
    "glow": (
        (
            "salient objects",
            "glowing targets",
            "targets glow",
            "thermal targets glow",
            "targets stand out",
            "显著目标",
            "目标发亮",
        ),
        ("hidden targets", "targets fade", "no salient objects", "cold targets", "目标不明显", "看不见目标"),
    ),
}
"""By name of the fact, what is said if it is so, and if it is not."""
NAMES = tuple(FACTS)
TEMPLATES = (
    "{}",
    "an image, {}",
    "a {} image",
    "a picture with {}",
    "{} scene",
    "a photo that is {}",
    "一张{}的图像",
    "{}的画面",
)
EXTRA: tuple[tuple[str, dict[str, float]], ...] = (
    ("the background stays dark", {"bright": -1, "glow": 1}),
    ("dark background", {"bright": -1}),
    ("bright background", {"bright": 1}),
    ("the thermal targets glow, the background stays dark", {"glow": 1, "bright": -1}),
    ("a clear image with detailed background and salient objects", {"sharp": 1, "noisy": -1, "contrast": 1, "glow": 1}),
    ("high resolution, salient objects, rich details", {"sharp": 1, "noisy": -1, "glow": 1}),
    ("low resolution, indistinct objects, minimal details", {"sharp": -1, "contrast": -1, "glow": -1}),
    ("背景清晰、目标突出的图像", {"sharp": 1, "contrast": 1, "glow": 1}),
    ("背景保持昏暗,热目标发亮", {"bright": -1, "glow": 1}),
)
"""Sentences that say several facts at once."""
PLACES = 4096
_WORD = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]")


def places(text: str) -> list[int]:
    """The places of a text's features in a table of `PLACES`; of a text without words the last one alone."""
    words = _WORD.findall(text.lower())
    pairs = [f"{first} {second}" for first, second in itertools.pairwise(words)]
    return [zlib.crc32(feature.encode()) % (PLACES - 1) for feature in (*words, *pairs)] or [PLACES - 1]


def sentences(random: np.random.Generator, count: int) -> tuple[list[str], np.ndarray]:
    """Random sentences, and the facts that they say: (count, F), 0 where they say nothing of one."""
    texts, said = [], np.zeros((count, len(NAMES)), np.float32)
    for index in range(count):
        if random.random() < 0.1:
            text, facts = EXTRA[int(random.integers(len(EXTRA)))]
            texts.append(text)
            for name, value in facts.items():
                said[index, NAMES.index(name)] = value
            continue
        chosen = random.choice(len(NAMES), size=int(random.integers(1, 4)), replace=False)
        parts = []
        for fact in chosen:
            side = int(random.integers(2))
            parts.append(_one_of(random, FACTS[NAMES[fact]][side]))
            said[index, fact] = 1 - 2 * side
        joined = (", ", " and ", " with ", "、")[random.integers(4)].join(parts)
        texts.append(_one_of(random, TEMPLATES).format(joined))
    return texts, said


def _one_of(random: np.random.Generator, texts: Sequence[str]) -> str:
    return texts[int(random.integers(len(texts)))]
