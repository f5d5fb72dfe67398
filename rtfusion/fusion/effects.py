"""The effect of intents in the picture: from values on axes to shares of a retouch (`rtfusion.fusion.retouch`).

Each axis is one small function of the places of a picture and of its means in cells. What is found out about a picture (where the
visible band is hazy, where it is blinded, where it has structure, where it is warm) is soft and large, and is judged anew five
times a second. At 0 on every axis nothing is done at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from rtfusion.fusion.color import Take
from rtfusion.fusion.retouch import BRIGHT_LEVEL, CELL_PX, Retouch, Shares, cells_of
from rtfusion.intents import Intents
from rtfusion.kernels.retouch import open_retoucher
from rtfusion.registration import RegisteredPair, Warp
from rtfusion.smoothing import turn_at
from rtfusion.types import Image8

JUDGED_PER_BEAT = 50
"""Places are judged anew five times a second."""
SURROUNDINGS_CELLS = 5.0
"""The level of the surroundings is a Gaussian of this sigma, in cells: 40 pixels."""
ELSEWHERE = ("people", "vehicles", "color")
"""Axes that change no luminance here: targets stand out by `rtfusion.fusion.emphasis`, and colors are composed."""

THERMAL_SHARE = 0.55
"""Share of what differs from the surroundings that is taken of one band alone, at thermal 1 and -1."""
LIFT, DROP = 1.5, 0.8
"""The slope of the curve at black is changed by so much."""
PRESS = 0.22
"""White is shown darker by so much of its distance to `BRIGHT_LEVEL`."""
GLARE_DETAIL, GLARE_DROP = 0.25, 0.7
"""Share of the thermal detail that is added where the visible band is blinded, and by which the ground is lowered there."""
HAZE_GAIN, HAZE_LOSS, HAZE_DETAIL, HAZE_VEIL = 1.2, 0.75, 0.4, 0.35
"""In haze contrast is raised by so much, or lowered; so much thermal detail is added; and a bright veil is lowered."""
HAZE_CORE = 0.6
"""Share of faint fine detail that is taken away in haze, so that no grain is raised with the contrast."""
VEIL_LEVEL = 90.0
FINE_GAIN, FINE_LOSS = 1.2, 0.85
"""Where there is structure, fine detail is lifted by so much, or taken away."""
CORE_SHARE, CORE_LIFT = 0.95, 0.8
"""Elsewhere, faint fine detail is taken away by so much, or lifted."""
COLOR_GAIN = 0.8
"""Colors are raised by up to so much, or taken away."""
CALM, DIM, CLEARER = 0.5, 0.3, 1.0
"""In the background contrast is lowered by so much and what is brighter than the dark is dimmed, or contrast is raised."""
DIM_LEVELS = 40.0, 150.0
"""What is darker than this is not dimmed, and what is brighter than the second no more than at that."""

HAZE_DARKEST = 45.0, 100.0
"""In haze and smoke the darkest channel is from, and surely is, above such a level;"""
HAZE_CONTRAST = 8.0, 26.0
"""and the luminance deviates by less than this; from the second on it is clear."""
GLARING = 205.0, 240.0
"""Visible levels from which on something glares, and surely does."""
WARM_LEVELS = 12.0, 35.0
"""What is by so much warmer than its surroundings is no background, where nobody says where people and vehicles are."""
STRUCTURE_LEVELS = 8.0, 26.0
"""The range of the fused picture within 12 pixels, of means over 4, from which on there is structure, and surely is."""

_RIM = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Places:
    """Where in a picture what is: maps of cells, from 0 to 1, made when first asked for, and kept for the next pictures."""

    shape: tuple[int, int]
    """(rows, columns) of the cells."""
    visible: Image8
    visible_y: Image8
    thermal: Image8
    fused_y: Image8
    known: dict[str, Shares]

    def of(self, name: str) -> Shares:
        """One of ``haze``, ``glare``, ``structure`` and ``warm``."""
        if name not in self.known:
            self.known[name] = _JUDGED[name](self)
        return self.known[name]


class Effects:
    """Gives a picture what its intents ask for. Used by one thread.

    Args:
        kernels: retouch by the compiled loop, where it is here.
        still: for unrelated pictures, each of which is judged.
        note: takes a sentence for the person who reads the table.
    """

    def __init__(self, *, kernels: bool, still: bool, note: Callable[[str], None]) -> None:
        self._retouch = open_retoucher(kernels=kernels)
        self._still = still
        self._note = note
        self._onto_grid: Warp | None = None
        """Of the visible picture: it stays when parallax or the refinement moves the thermal one a little, frame by frame."""
        self._turn: int | None = None
        self._known: dict[str, Shares] = {}
        self._asked: tuple[object, ...] = ()
        """What the mix was made for; empty where places were judged anew since."""
        self._mix = _Mix((0, 0), both=None, worth={})

    def luminance(
        self,
        registered: RegisteredPair,
        *,
        visible: Image8,
        visible_y: Image8,
        fused_y: Image8,
        intents: Intents,
        take: Take,
        worth: Mapping[str, float],
    ) -> Image8:
        """The (H, W) fused luminance as it is asked for: another array, or itself where no axis asks for another one.

        Args:
            registered: the pair, its targets and where both cameras see.
            visible: (H, W, 3) BGR or (H, W).
            visible_y: (H, W), its luminance.
            fused_y: (H, W), the picture without a wish.
            intents: what is asked for.
            take: gives the array of the result.
            worth: 0 to 1 by the name of a band that is not to be trusted (`rtfusion.fusion.trust`).
        """
        if not any(value for name, value in intents if name not in ELSEWHERE):
            return fused_y
        thermal, weights = registered.thermal, registered.registration.weights
        shape = cells_of(fused_y.shape)
        images = {"fused": fused_y, "visible": visible_y, "thermal": thermal}
        places = self._places(registered, visible=visible, images=images)
        targets = registered.targets if intents.background else {}
        asked = intents, dict(worth), bool(targets)
        # targets move with every frame, all else is as it was until it is judged anew
        if targets or asked != self._asked:
            both = None if weights is None else _resized(weights[0], shape)
            self._asked, self._mix = asked, self._mixed(intents, places, targets=targets, both=both, worth=worth)
        mix, levels = self._mix, _Levels(shape, images)
        how = Retouch(
            own=mix.own,
            plus=mix.plus(levels),
            thermal=mix.added.get("thermal"),
            visible=mix.added.get("visible"),
            fine=mix.fine,
            core=mix.core,
            lift=(LIFT if intents.brighten > 0 else DROP) * intents.brighten,
            press=PRESS * intents.tame_glare,
        )
        return self._retouch(how, fused_y=fused_y, thermal=thermal, visible_y=visible_y, take=take)

    def _mixed(
        self,
        intents: Intents,
        places: Places,
        *,
        targets: Mapping[str, Shares],
        both: Shares | None,
        worth: Mapping[str, float],
    ) -> _Mix:
        """What every axis does, put together."""
        mix = _Mix(places.shape, both=both, worth=worth)
        if intents.thermal:
            _thermal(mix, intents.thermal, glare=places.of("glare"))
        if intents.tame_glare > 0:
            _tame_glare(mix, intents.tame_glare, glare=places.of("glare"))
        if intents.clear_haze:
            _clear_haze(mix, intents.clear_haze, haze=places.of("haze"))
        if intents.detail or intents.denoise or intents.clear_haze > 0:
            _fine(mix, intents, places)
        if intents.background:
            _background(mix, intents.background, places, foreground=self._foreground(places, targets))
        return mix

    def _foreground(self, places: Places, targets: Mapping[str, Shares]) -> Shares:
        if not targets:
            self._note("background: nothing says where people and vehicles are; what is warm counts as foreground")
            return places.of("warm")
        found = np.maximum.reduce([_resized(one, places.shape) for one in targets.values()])
        return cast(Shares, cv2.blur(cv2.dilate(found, _RIM), (3, 3)))

    def _places(self, registered: RegisteredPair, *, visible: Image8, images: Mapping[str, Image8]) -> Places:
        turn = turn_at(registered.pair.timestamp_ns, per_beat=JUDGED_PER_BEAT)
        onto_grid = registered.registration.visible
        if self._still or onto_grid is not self._onto_grid or turn != self._turn:
            self._onto_grid, self._turn, self._known, self._asked = onto_grid, turn, {}, ()
        return Places(
            shape=cells_of(images["fused"].shape),
            visible=visible,
            visible_y=images["visible"],
            thermal=images["thermal"],
            fused_y=images["fused"],
            known=self._known,
        )


def duller(kept: Image8 | None, *, shape: tuple[int, ...], color: float) -> Image8 | None:
    """The share of the color to show (`rtfusion.fusion.color.compose`), for a wish below 0 less than there is to show."""
    if color >= 0:
        return kept
    whole = np.full(cells_of(shape), 255, np.uint8) if kept is None else kept
    return cast(Image8, cv2.convertScaleAbs(whole, alpha=1 + color))


def more_vivid(image: Image8, *, fused_y: Image8, color: float, take: Take) -> Image8:
    """The (H, W, 3) picture with stronger colors on its (H, W) luminance, for a wish above 0; else itself."""
    if color <= 0:
        return image
    gain, gray = COLOR_GAIN * color, cv2.cvtColor(fused_y, cv2.COLOR_GRAY2BGR, take(image.shape))
    return cast(Image8, cv2.addWeighted(image, 1 + gain, gray, -gain, 0, gray))


class _Levels:
    """The levels of a frame in cells, made when first asked for."""

    def __init__(self, shape: tuple[int, int], images: Mapping[str, Image8]) -> None:
        self._shape, self._images = shape, images
        self._known: dict[tuple[str, str], Shares] = {}

    def of(self, kind: str, image: str) -> Shares:
        """One of ``mean``, a little smoothed; ``wide``, the level of the surroundings; and the parts of them that axes change.

        ``image`` is ``fused``, ``thermal`` or ``visible``.
        """
        key = kind, image
        if key not in self._known:
            self._known[key] = self._made(kind, image)
        return self._known[key]

    def _made(self, kind: str, image: str) -> Shares:
        if kind == "mean":
            return cast(Shares, cv2.GaussianBlur(_in_cells(self._images[image], self._shape), (3, 3), 0))
        if kind == "wide":
            return _wide(self.of("mean", image))
        if kind == "veil":
            return np.maximum(self.of("wide", image) - np.float32(VEIL_LEVEL), 0)
        if kind == "bright":
            return np.maximum(self.of("mean", image) - np.float32(BRIGHT_LEVEL), 0)
        least, most = DIM_LEVELS
        return np.clip(self.of("mean", image) - np.float32(least), 0, np.float32(most - least))  # "lit"


class _Mix:
    """The shares of a retouch, as they come together: the same for many frames, but for the levels of each.

    ``both`` says where both cameras see: a band is added nowhere else.
    """

    def __init__(self, shape: tuple[int, int], *, both: Shares | None, worth: Mapping[str, float]) -> None:
        self._both, self._worth = both, worth
        self._shares_of: dict[tuple[str, str], Shares] = {}
        """What is added of a level, by its kind and image."""
        self.own = np.ones(shape, np.float32)
        self.added: dict[str, Shares] = {}
        self.fine: Shares | None = None
        self.core: Shares | None = None

    def plus(self, levels: _Levels) -> Shares:
        """What is added in every cell of a frame."""
        plus = np.zeros_like(self.own)
        for (kind, image), share in self._shares_of.items():
            plus += share * levels.of(kind, image)
        return plus

    def add_level(self, share: Shares, kind: str, image: str = "fused") -> None:
        """Add a share of a level (`_Levels`)."""
        key = kind, image
        self._shares_of[key] = self._shares_of[key] + share if key in self._shares_of else share

    def raise_contrast(self, gain: Shares) -> None:
        """Raise, or lower, what differs from the means by a gain."""
        self.own += gain
        self.add_level(-gain, "mean")

    def add(self, band: str, share: Shares) -> Shares:
        """Add a share of what differs in a band from its surroundings; the share that was added."""
        used = share * np.float32(self._worth.get(band, 1.0))
        if self._both is not None:
            used *= self._both
        self.added[band] = self.added[band] + used if band in self.added else used
        self.add_level(-used, "wide", band)
        return used

    def move_to(self, band: str, share: Shares) -> None:
        """Replace a share of what differs from the surroundings by what differs in a band."""
        used = self.add(band, share)
        self.own -= used
        self.add_level(used, "wide")


def _fine(mix: _Mix, intents: Intents, places: Places) -> None:
    """Fine detail is lifted where there is structure, and what is faint taken away where there is none."""
    mix.fine, mix.core = np.zeros_like(mix.own), np.zeros_like(mix.own)
    if intents.detail or intents.denoise:
        structure = places.of("structure")
        mix.fine += (FINE_GAIN if intents.detail > 0 else FINE_LOSS) * intents.detail * structure
        mix.core += (CORE_SHARE if intents.denoise > 0 else CORE_LIFT) * intents.denoise * (1 - structure)
    if intents.clear_haze > 0:
        mix.core += HAZE_CORE * intents.clear_haze * places.of("haze")
        np.minimum(mix.core, 1, out=mix.core)


def _thermal(mix: _Mix, wish: float, *, glare: Shares) -> None:
    """What differs from the surroundings is taken of one band; not in glare, which has an axis of its own."""
    mix.move_to("thermal" if wish > 0 else "visible", THERMAL_SHARE * abs(wish) * (1 - glare))


def _tame_glare(mix: _Mix, wish: float, *, glare: Shares) -> None:
    """Where the visible band is blinded, the ground is lowered, and thermal detail shown."""
    mix.add("thermal", GLARE_DETAIL * wish * glare)
    mix.add_level(-GLARE_DROP * wish * glare, "bright")


def _clear_haze(mix: _Mix, wish: float, *, haze: Shares) -> None:
    """In haze the contrast is raised, thermal detail shown, and the veil lowered; or the contrast lowered."""
    mix.raise_contrast((HAZE_GAIN if wish > 0 else HAZE_LOSS) * wish * haze)
    if wish > 0:
        mix.add("thermal", HAZE_DETAIL * wish * haze)
        mix.add_level(-HAZE_VEIL * wish * haze, "veil")


def _background(mix: _Mix, wish: float, places: Places, *, foreground: Shares) -> None:
    """Around what counts, contrast is lowered and brightness dimmed, or contrast raised; not in glare and haze."""
    around = wish * (1 - foreground) * (1 - places.of("glare"))
    mix.raise_contrast(-(CALM if wish > 0 else CLEARER) * around * (1 - places.of("haze")))
    if wish > 0:
        mix.add_level(-DIM * around, "lit")


# -- where what is ----------------------------------------------------------------------------------------------------


def _haze(places: Places) -> Shares:
    """The visible band is bright even in its darkest channel, and of little contrast."""
    rows, columns = places.shape
    twice = 2 * columns, 2 * rows
    sampled = cv2.resize(places.visible, twice, interpolation=cv2.INTER_NEAREST)
    darkest = (
        sampled if sampled.ndim == 2 else np.minimum(np.minimum(sampled[..., 0], sampled[..., 1]), sampled[..., 2])
    )
    darkest = cv2.resize(cv2.erode(darkest, _RIM), (columns, rows), interpolation=cv2.INTER_AREA)
    luminance = _in_cells(places.visible_y, places.shape)
    mean, window = cv2.blur(luminance, (7, 7)), (7, 7)
    deviation = np.sqrt(np.maximum(cv2.blur(luminance * luminance, window) - mean * mean, 0))
    hazy = _rising(darkest.astype(np.float32), *HAZE_DARKEST) * (1 - _rising(deviation, *HAZE_CONTRAST))
    return cast(Shares, cv2.blur(hazy, (5, 5)))


def _glare(places: Places) -> Shares:
    """The visible band is blinded, and what is around that."""
    rows, columns = places.shape
    quarter = cv2.resize(places.visible_y, (2 * columns, 2 * rows), interpolation=cv2.INTER_AREA)
    glaring = _rising(cv2.dilate(quarter, _RIM).astype(np.float32), *GLARING)
    cells = cv2.resize(glaring, (columns, rows), interpolation=cv2.INTER_AREA)
    return cast(Shares, cv2.blur(cv2.dilate(cells, _RIM), (3, 3)))


def _warm(places: Places) -> Shares:
    """What is warmer than its surroundings."""
    thermal = _in_cells(places.thermal, places.shape)
    warm = _rising(thermal - _wide(thermal), *WARM_LEVELS)
    return cast(Shares, cv2.blur(cv2.dilate(warm, _RIM), (3, 3)))


def _structure(places: Places) -> Shares:
    """The fused picture has edges or texture: its means over 4 pixels differ, which noise is averaged out of."""
    rows, columns = places.shape
    quarter = cv2.resize(places.fused_y, (2 * columns, 2 * rows), interpolation=cv2.INTER_AREA)
    span = cv2.subtract(cv2.dilate(quarter, _RIM), cv2.erode(quarter, _RIM))
    cells = cv2.resize(span, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    return cast(Shares, cv2.blur(_rising(cells, *STRUCTURE_LEVELS), (3, 3)))


_JUDGED: Mapping[str, Callable[[Places], Shares]] = {
    "haze": _haze,
    "glare": _glare,
    "warm": _warm,
    "structure": _structure,
}


def _resized(share: Shares, shape: tuple[int, int]) -> Shares:
    return cast(Shares, cv2.resize(share, shape[::-1], interpolation=cv2.INTER_AREA))


def _rising(value: Shares, least: float, whole: float) -> Shares:
    return cast(Shares, np.clip((value - np.float32(least)) * np.float32(1 / (whole - least)), 0, 1))


def _in_cells(image: Image8, shape: tuple[int, int]) -> Shares:
    """The means of an image in cells. By halves, where that goes: in half of the time."""
    rows, columns = shape
    if image.shape == (rows * CELL_PX, columns * CELL_PX):
        image = cast(Image8, cv2.resize(image, (4 * columns, 4 * rows), interpolation=cv2.INTER_AREA))
        image = cast(Image8, cv2.resize(image, (2 * columns, 2 * rows), interpolation=cv2.INTER_AREA))
    return cast(Shares, cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32))


def _wide(cells: Shares) -> Shares:
    """The level of the surroundings: a wide Gaussian, at a quarter of the cells."""
    rows, columns = cells.shape
    coarse = cv2.resize(cells, (max(1, -(-columns // 4)), max(1, -(-rows // 4))), interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), SURROUNDINGS_CELLS / 4, borderType=cv2.BORDER_REPLICATE)
    return cast(Shares, cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR))
