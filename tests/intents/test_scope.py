"""Denials: what they turn, what they leave alone, and that a sentence whose denial nobody understands is not acted on."""

from __future__ import annotations

import itertools

import pytest

from rtfusion.intents import say
from rtfusion.intents.rules import read

DOINGS = {
    "increase the color": "color+",
    "make it gray": "color-",
    "highlight the people": "people+",
    "hide the people": "people-",
    "fade out the trucks": "vehicles-",
    "remove the noise": "denoise+",
    "keep the noise": "denoise-",
    "clear the fog": "clear_haze+",
    "brighten the shadows": "brighten+",
    "lower the brightness": "brighten-",
    "sharpen the picture": "detail+",
    "soften the edges": "detail-",
    "dim the background": "background+",
    "show the background": "background-",
    "tone down the headlights": "tame_glare+",
    "add more thermal": "thermal+",
    "cut the thermal": "thermal-",
}
DENIED = (
    "don't {}",
    "please do not {}",
    "there's no need to {}",
    "stop trying to {}",
    "I don't want you to {}",
    "you shouldn't {}",
    "nobody asked you to {}",
    "under no circumstances {}",
    "we'd rather you didn't {}",
    "it isn't necessary to {}",
)
NOT_DENIED = (
    "don't stop trying to {}",
    "why don't you {}",
    "don't hesitate to {}",
    "don't forget to {}",
    "can't you {}",
)
CHINESE_DOINGS = {
    "增加颜色": "color+",
    "去掉颜色": "color-",
    "突出行人": "people+",
    "隐藏行人": "people-",
    "淡化卡车": "vehicles-",
    "去噪": "denoise+",
    "保留雾气": "clear_haze-",
    "提亮暗处": "brighten+",
    "降低亮度": "brighten-",
    "锐化画面": "detail+",
    "压低车灯": "tame_glare+",
    "压暗背景": "background+",
    "增强热成像": "thermal+",
}
CHINESE_DENIED = (
    "不要{}",
    "千万别{}",
    "没必要{}",
    "不用再{}了",
    "谁让你{}的",
    "停止{}",
    "能不能别{}",
    "不能{}",
    "我又没要你{}",
)
CHINESE_NOT_DENIED = ("别停止{}", "为什么不{}", "别忘了{}", "能不能{}", "不能不{}")
THINGS = {"people": "people+", "cars": "vehicles+", "color": "color+", "noise": "denoise-", "fog": "clear_haze-"}
CHINESE_THINGS = {"行人": "people+", "车辆": "vehicles+", "颜色": "color+", "噪点": "denoise-", "雾": "clear_haze-"}
CONTRASTS = [  # what is asked of the one, and of the other
    ("less {}, more {}", -1, 1),
    ("not more {} but more {}", -1, 1),
    ("more {} instead of {}", 1, -1),
    ("instead of more {}, more {}", -1, 1),
    ("I want less {} but not less {}", -1, 1),
    ("reduce the {} without reducing the {}", -1, 1),
    ("increase the {} without losing the {}", 1, 1),
    ("don't cut the {}, cut the {}", 1, -1),
    ("I'd rather have {} than {}", 1, -1),
    ("cut the {}, not the {}", -1, 1),
    ("take the {} down, but not the {}", -1, 1),
    ("neither {} nor {}", -1, -1),
]
CHINESE_CONTRASTS = [
    ("少点{},多点{}", -1, 1),
    ("不是要{},是要{}", -1, 1),
    ("减少{},但别减少{}", -1, 1),
    ("宁可要{}也不要{}", 1, -1),
    ("去的是{},不是{}", -1, 1),
    ("既不要{}也不要{}", -1, -1),
]


def sides(text: str) -> set[str]:
    """What the rules make of a sentence, as {"people+", "color-"}."""
    return {f"{axis}{'+' if value > 0 else '-'}" for axis, value in read(text).axes.items()}


def turned(side: str) -> str:
    return side[:-1] + ("-" if side.endswith("+") else "+")


@pytest.mark.parametrize("denied", DENIED + CHINESE_DENIED)
def test_what_is_denied_goes_the_other_way(denied: str) -> None:
    for doing, side in (DOINGS if denied in DENIED else CHINESE_DOINGS).items():
        assert turned(side) in sides(denied.format(doing)), denied.format(doing)


@pytest.mark.parametrize("asked", NOT_DENIED + CHINESE_NOT_DENIED)
def test_what_only_sounds_denied_is_asked_for(asked: str) -> None:
    for doing, side in (DOINGS if asked in NOT_DENIED else CHINESE_DOINGS).items():
        assert side in sides(asked.format(doing)), asked.format(doing)


@pytest.mark.parametrize(("contrast", "first", "second"), CONTRASTS + CHINESE_CONTRASTS)
def test_of_a_contrast_each_part_is_read_for_itself(contrast: str, first: int, second: int) -> None:
    things = THINGS if contrast.isascii() else CHINESE_THINGS
    for one, other in itertools.permutations(things, 2):
        text = contrast.format(one, other)
        wanted = [side if way > 0 else turned(side) for side, way in ((things[one], first), (things[other], second))]
        assert not {turned(side) for side in wanted} & sides(text), text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("don't let the mist vanish", "clear_haze-"),
        ("don't let the street lamps drown the walkers", "tame_glare+ people+"),
        ("prevent the people from vanishing", "people+"),
        ("avoid glare", "tame_glare+"),
        ("undo the brightening", "brighten-"),
        ("this fog can't stay", "clear_haze+"),
        ("the shadows shouldn't be so deep and dark", "brighten+"),
        ("not so bright in the dark bits", "brighten-"),
        ("it's not as bright as I want", "brighten+"),
        ("no more dazzle off that windscreen", "tame_glare+"),
        ("I don't mind the glare", "tame_glare-"),
        ("I don't want the colors gone", "color+"),
        ("I don't want to see any fog", "clear_haze+"),
        ("don't touch the colors", "color+"),
        ("别让边缘变软", "detail+"),
        ("不是不要红外,是红外太弱", "thermal+"),
        ("没有颜色不行", "color+"),
        ("别把周围都压黑了", "background-"),
        ("人不能融进树里", "people+"),
    ],
)
def test_turns_of_speech(text: str, wanted: str) -> None:
    assert sides(text) == set(wanted.split())


def test_a_denial_by_unknown_words_is_followed_only_where_the_bank_agrees() -> None:
    assert read("don't quimble the people").unclear == {"people"}
    assert read("don't highlight the people").unclear == frozenset()
    assert say("你别把人给咕噜了", encoder="none").refused
    assert say("under no account may the people be quimbled", encoder="none").refused
