"""Drawn heads at rest: a look for each identity, painted in the light of a stage, before a background."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

SIZE = 256  # pixels, of a square frame
CANVAS = 320  # pixels of the face's own canvas, about 1.6 for each of the frame's, so that edges come out smooth
HALF = CANVAS / 2

# The canvas reaches from -1 to 1 in x (right) and y (down), and all of a face is measured in that unit.
EYES_Y = -0.10
HEAD_UNIT = 103.0  # pixels of the frame
HEAD_CENTRE = (128.0, 122.0)  # pixels of the frame

# Colours are RGB in 0–1, float32 so that nothing painted with them is widened.
SKINS = np.float32([(0.96, 0.80, 0.70), (0.91, 0.71, 0.58), (0.82, 0.61, 0.46), (0.69, 0.48, 0.35), (0.54, 0.36, 0.26)])
HAIRS = np.float32([(0.10, 0.08, 0.07), (0.22, 0.14, 0.09), (0.38, 0.24, 0.13), (0.66, 0.50, 0.28), (0.55, 0.54, 0.53)])
IRISES = np.float32([(0.28, 0.17, 0.09), (0.36, 0.30, 0.16), (0.27, 0.38, 0.27), (0.30, 0.42, 0.55)])
DARK_KINDS = 2  # of hair and irises: all that goes with dark skin
FLUSH = np.float32([0, 0.16, 0.13])  # what blood takes from the skin's colour
LIPS = np.float32([0.90, 0.60, 0.61])  # the lips' colour as a share of the skin's


@dataclass(frozen=True)
class Look:
    """What one identity looks like; lengths in canvas units, colours RGB in 0–1."""

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    cloth: np.ndarray
    width: float
    jaw: float  # how square: the power of the outline below the eyes
    chin: float
    eye_gap: float
    eye_size: float
    eye_tilt: float
    brow_height: float
    brow_thickness: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lip_thickness: float
    smile: float
    cheeks: float
    hairline: float
    hair_volume: float
    hair_length: float
    parting: float
    stubble: float
    texture: int  # seed of skin mottling and hair strands


@dataclass(frozen=True)
class Stage:
    """Where one video is taken: light, background, camera."""

    light: np.ndarray  # direction towards the lamp: right, down, to the camera
    ambient: float
    tint: np.ndarray
    wall: np.ndarray  # two colours [2, 3], above and below
    grain: float  # standard deviation of the sensor's noise, in grey levels
    texture: int  # seed of background and grain


@dataclass(frozen=True)
class Head:
    """A look painted on its canvas in the light of a stage; eyes and mouth move and are added frame by frame."""

    look: Look
    stage: Stage
    paint: np.ndarray  # uint8 [C, C, 4], lit; the fourth channel is 255 where the head hides the background
    shade: np.ndarray  # float32 [C, C, 3], the light that falls there
    depth: np.ndarray  # float32 [C, C], from 0 at the rim to 1 at the middle


def invent_look(rng: Generator) -> Look:
    """Draw an identity's look."""
    shade = rng.uniform(0, len(SKINS) - 1)
    skin = mix(SKINS[int(shade)], SKINS[int(shade) + 1], np.float32(shade % 1))
    hair = HAIRS[rng.integers(len(HAIRS) if shade < 2 else DARK_KINDS)] * np.float32(rng.uniform(0.8, 1.2))
    long_hair = rng.random() < 0.45
    return Look(
        skin=skin,
        hair=hair,
        iris=IRISES[rng.integers(len(IRISES) if shade < 2 else DARK_KINDS)],
        lips=skin * LIPS,
        cloth=np.float32(rng.uniform(0.15, 0.7) + rng.uniform(-0.15, 0.15, 3)),
        width=rng.uniform(0.50, 0.60),
        jaw=rng.uniform(2.0, 3.2),
        chin=rng.uniform(0.68, 0.80),
        eye_gap=rng.uniform(0.205, 0.245),
        eye_size=rng.uniform(0.098, 0.122),
        eye_tilt=rng.uniform(-0.10, 0.12),
        brow_height=rng.uniform(0.125, 0.165),
        brow_thickness=rng.uniform(0.022, 0.040),
        brow_tilt=rng.uniform(-0.10, 0.14),
        nose_length=rng.uniform(0.25, 0.32),
        nose_width=rng.uniform(0.070, 0.105),
        mouth_width=rng.uniform(0.175, 0.225),
        lip_thickness=rng.uniform(0.038, 0.062),
        smile=rng.uniform(0.005, 0.025),
        cheeks=rng.uniform(0, 1),
        hairline=rng.uniform(-0.66, -0.46),
        hair_volume=rng.uniform(0.03, 0.11),
        hair_length=rng.uniform(0.35, 1.1) if long_hair else rng.uniform(-0.35, -0.15),
        parting=rng.uniform(-0.25, 0.25),
        stubble=0.0 if long_hair else rng.uniform(0, 0.3),
        texture=int(rng.integers(2**32)),
    )


def invent_stage(rng: Generator) -> Stage:
    """Draw a video's light, background and camera."""
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.7, -0.2), rng.uniform(0.8, 1.2)])
    return Stage(
        light=light / np.linalg.norm(light),
        ambient=rng.uniform(0.35, 0.55),
        tint=1 + np.float32(rng.uniform(-0.06, 0.06)) * np.float32([1.0, 0.1, -1.0]),
        wall=np.float32(rng.uniform(0.15, 0.85) + rng.uniform(-0.09, 0.09, (2, 3))),
        grain=rng.uniform(1.0, 4.0),
        texture=int(rng.integers(2**32)),
    )


def paint_head(look: Look, stage: Stage) -> Head:
    """Paint skin, hair, brows and shadows of a look in the light of a stage."""
    skin_cover, hair_back, hair_front = _cover_face(look), _cover_hair(look, front=False), _cover_hair(look, front=True)
    relief = _raise_face(look)
    strands = _paint_strands(look)[..., None]
    skin_shade = _light_relief(relief, stage)
    hair_shade = _light_relief(_raise_hair(look), stage) * strands

    paint = look.hair * hair_shade * 0.8
    paint = mix(paint, _paint_skin(look) * skin_shade, skin_cover)
    paint = mix(paint, look.hair * 0.75 * skin_shade * strands, 0.85 * _cover_brows(look))
    paint = mix(paint, look.hair * hair_shade, hair_front)
    cover = np.maximum.reduce([skin_cover, hair_back, hair_front])
    return Head(
        look=look,
        stage=stage,
        paint=to_bytes(np.dstack([paint, cover])),
        shade=skin_shade,
        depth=_measure_depth(look),
    )


def paint_backdrop(look: Look, stage: Stage) -> np.ndarray:
    """Paint the wall, blurred things before it, and neck and shoulders: uint8 `[SIZE, SIZE, 3]`."""
    rng = np.random.default_rng(stage.texture)
    rows = np.linspace(0, 1, SIZE)[:, None, None]
    wall = np.broadcast_to(mix(stage.wall[0], stage.wall[1], rows), (SIZE, SIZE, 3)).copy()
    for _ in range(5):
        left, top = rng.integers(-40, SIZE, 2)
        width, height = rng.integers(25, 130, 2)
        brighter = rng.uniform(-0.15, 0.15) + rng.uniform(-0.06, 0.06, 3)
        wall[max(top, 0) : top + height, max(left, 0) : left + width] += brighter
    wall = cv2.GaussianBlur(wall, (0, 0), rng.uniform(2.0, 7.0))
    return to_bytes(_paint_body(wall, look, stage))


# The head at rest


def _outline(look: Look, *, grow: float = 0.0) -> np.ndarray:
    """Half the head's width at each row of the canvas, 0 above and below it, `[C, 1]`."""
    y = grid()[1] - EYES_Y
    above = 1 - np.abs(y / (0.66 + grow)).clip(0, 1) ** 2.3
    below = 1 - np.abs(y / (look.chin - EYES_Y + grow)).clip(0, 1) ** look.jaw
    return (look.width + grow) * np.where(y < 0, above, below) ** 0.55


def _cover_face(look: Look) -> np.ndarray:
    x, y = grid()
    face = rise(_outline(look) - np.abs(x))
    ear = 1 - np.hypot((np.abs(x) - look.width) / 0.055, (y - EYES_Y - 0.1) / 0.13)
    return np.maximum(face, rise(ear, 0.2))


def _cover_hair(look: Look, *, front: bool) -> np.ndarray:
    """Where hair is: the cap before the forehead and temples, or all that stands out behind the head."""
    x, y = grid()
    width = np.abs(x) / look.width
    if front:
        hairline = look.hairline + 0.10 * width**2 + 0.38 * width**7 + look.parting * x
        return rise(_outline(look, grow=look.hair_volume) - np.abs(x)) * rise(hairline - y, 0.05)
    hang = (look.width + look.hair_volume) * (1 + 0.10 * np.clip(y, 0, 1))
    reach = np.where(y < EYES_Y, _outline(look, grow=look.hair_volume), hang)
    neck = rise(y - 0.35, 0.2) * rise(0.64 * look.width - np.abs(x), 0.08)
    return rise(reach - np.abs(x), 0.04) * rise(look.hair_length - y, 0.12) * (1 - neck)


def _cover_brows(look: Look) -> np.ndarray:
    x, y = grid()
    along = (np.abs(x) - look.eye_gap) / (1.45 * look.eye_size)  # -1 at the nose, 1 at the temple
    middle = EYES_Y - look.brow_height - look.brow_tilt * 0.25 * along - 0.025 * (1 - along**2)
    thickness = look.brow_thickness * np.clip(1.1 - 0.6 * along, 0.1, 1.3)
    return rise(thickness - np.abs(y - middle), 0.02) * rise(1 - np.abs(along), 0.25)


def _raise_face(look: Look) -> np.ndarray:
    """The face's height above the canvas, in canvas units, `[C, C]`: an ellipsoid with bumps and hollows."""
    nose_y, mouth_y = EYES_Y + look.nose_length, find_mouth(look)
    height = 0.42 * _dome(look)
    for x, y, wide, high, bump in (
        (0, EYES_Y + 0.45 * look.nose_length, 0.038, 0.13, 0.060),  # ridge of the nose
        (0, nose_y, 0.6 * look.nose_width, 0.055, 0.085),  # its tip
        (0.75 * look.nose_width, nose_y + 0.015, 0.035, 0.035, 0.035),  # its wings
        (look.eye_gap, EYES_Y, 0.12, 0.07, -0.060),  # eye sockets
        (0.75 * look.eye_gap, EYES_Y - look.brow_height, 0.16, 0.05, 0.022),  # ridge of the brows
        (0.62 * look.width, EYES_Y + 0.27, 0.12, 0.10, 0.030 + 0.020 * look.cheeks),  # cheekbones
        (0, mouth_y - 0.075, 0.022, 0.045, -0.014),  # groove above the lips
        (0, mouth_y, 1.0 * look.mouth_width, 0.09, 0.030),  # teeth behind the lips
        (0, mouth_y + 0.105, 0.10, 0.030, -0.022),  # under the lower lip
        (0, look.chin - 0.10, 0.12, 0.08, 0.040),  # chin
        (1.05 * look.mouth_width, mouth_y - 0.05, 0.030, 0.08, -0.014),  # folds beside the mouth
    ):
        height = height + bump * _bump(x, y, wide, high)
    return height


def _raise_hair(look: Look) -> np.ndarray:
    x, y = grid()
    return 0.5 * np.sqrt(np.clip(1.2 - (x / (look.width + 0.15)) ** 2 - ((y - EYES_Y) / 0.95) ** 2, 0.02, None))


def _light_relief(height: np.ndarray, stage: Stage) -> np.ndarray:
    """Shade a relief, `[C, C]`, by one lamp and the light all around: `[C, C, 3]`, about 1 where it is bright."""
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(height, (0, 0), 2.0) * np.float32(HALF))
    steepness = np.sqrt(slope_x**2 + slope_y**2 + 1)
    lamp, gleam = (
        np.clip((towards[2] - slope_x * towards[0] - slope_y * towards[1]) / steepness, 0, None)
        for towards in (stage.light.tolist(), _unit(stage.light + np.array([0, 0, 1])).tolist())
    )
    shade = stage.ambient + (1.12 - stage.ambient) * lamp + 0.12 * gleam**24
    return shade[..., None] * stage.tint


def _paint_skin(look: Look) -> np.ndarray:
    """The skin's own colour, `[C, C, 3]`: mottled, redder on cheeks and nose, darker at nostrils and stubble."""
    rng = np.random.default_rng(look.texture)
    nose_y, mouth_y = EYES_Y + look.nose_length, find_mouth(look)
    mottle = 1 + 0.020 * _paint_clouds(rng, 3.0) + 0.025 * _paint_clouds(rng, 14.0)
    flush = 0.5 * _bump(0.55 * look.width, EYES_Y + 0.28, 0.13, 0.10) * look.cheeks + 0.4 * _bump(0, nose_y, 0.08, 0.06)
    nostrils = _bump(0.45 * look.nose_width, nose_y + 0.045, 0.022, 0.011)
    stubble = look.stubble * (_bump(0, mouth_y + 0.12, 0.32, 0.16) + 0.6 * _bump(0, mouth_y - 0.07, 0.16, 0.03))
    skin = look.skin * mottle[..., None] * (1 - flush[..., None] * FLUSH)
    return skin * (1 - 0.65 * nostrils - np.clip(stubble, 0, 0.5))[..., None]


def _paint_strands(look: Look) -> np.ndarray:
    """Streaks of hair, about 1, `[C, C]`."""
    rng = np.random.default_rng(look.texture + 1)
    noise = rng.standard_normal((CANVAS, CANVAS), np.float32)
    return np.clip(1 + 1.3 * cv2.GaussianBlur(noise, (0, 0), sigmaX=1.2, sigmaY=9.0), 0.5, 1.7)


def _paint_body(wall: np.ndarray, look: Look, stage: Stage) -> np.ndarray:
    """Put neck and shoulders before a wall, `[SIZE, SIZE, 3]`."""
    x = (np.arange(SIZE)[None] - HEAD_CENTRE[0]) / HEAD_UNIT
    y = (np.arange(SIZE)[:, None] - HEAD_CENTRE[1]) / HEAD_UNIT
    shade = stage.ambient + (1.1 - stage.ambient) * np.clip(0.75 + 0.5 * stage.light[0] * x, 0, 1)[..., None]
    neck_width = 0.62 * look.width + 0.25 * np.clip(y - 0.75, 0, 1) ** 2
    neck = rise(neck_width - np.abs(x), 0.03) * rise(y - 0.3)
    under_chin = 1 - 0.45 * np.exp(-(((y - look.chin) / 0.16) ** 2)[..., None])
    collar = 0.95 + 0.12 * np.clip(1 - (x / 0.36) ** 2, 0, 1)
    shoulders = rise(y - collar - 0.35 * np.abs(x) ** 2.2, 0.03) * rise(1.35 - np.abs(x), 0.1)
    picture = mix(wall, look.skin * under_chin * shade * stage.tint, neck)
    return mix(picture, look.cloth * shade * stage.tint, shoulders)


# Small tools


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Canvas coordinates x `[1, C]` and y `[C, 1]`."""
    line = ((np.arange(CANVAS) - HALF) / HALF).astype(np.float32)
    return line[None], line[:, None]


def cut_patch(centre: tuple[float, float], reach: tuple[float, float]) -> tuple:
    """A rectangle of the canvas: its slices, and x `[1, w]` and y `[h, 1]` measured from its centre."""
    spans = [
        slice(round((middle - half) * HALF + HALF), round((middle + half) * HALF + HALF))
        for middle, half in zip(centre, reach, strict=True)
    ]
    x, y = ((np.arange(span.start, span.stop, dtype=np.float32) - HALF) / np.float32(HALF) for span in spans)
    return (spans[1], spans[0], slice(3)), x[None] - centre[0], y[:, None] - centre[1]


def find_mouth(look: Look) -> float:
    """How far down the canvas the mouth is."""
    return EYES_Y + look.nose_length + 0.42 * (look.chin - EYES_Y - look.nose_length)


def _dome(look: Look) -> np.ndarray:
    """An ellipsoid over the head's outline: 1 in the middle, 0 at the rim, `[C, C]`."""
    x, y = grid()
    across = np.abs(x) / np.maximum(_outline(look, grow=0.03), 0.05)
    along = np.abs(y - 0.05) / 0.85
    return np.sqrt(np.clip(1 - across**2.2, 0.01, 1) * np.clip(1 - along**2.6, 0.01, 1))


def _measure_depth(look: Look) -> np.ndarray:
    depth = _dome(look) + 0.35 * _bump(0, EYES_Y + look.nose_length, 0.07, 0.10)
    return cv2.GaussianBlur(depth, (0, 0), 5.0).astype(np.float32)


def _bump(x: float, y: float, wide: float, high: float) -> np.ndarray:
    """A Gaussian bump at (x, y), mirrored when it is off the middle, `[C, C]`."""
    across, along = grid()
    return np.exp(-(((np.abs(across) - x) / wide) ** 2)) * np.exp(-(((along - y) / high) ** 2))


def _paint_clouds(rng: Generator, size: float) -> np.ndarray:
    """Blotches of about `size` pixels and unit spread, `[C, C]`."""
    noise = cv2.GaussianBlur(rng.standard_normal((CANVAS, CANVAS), np.float32), (0, 0), size)
    return noise / noise.std()


def rise(distance: np.ndarray, width: float = 0.012) -> np.ndarray:
    """A smooth step: 0 up to a distance of 0, 1 from `width` on."""
    ramp = np.clip(distance / width, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def mix(below: np.ndarray, above: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Lay colours `[..., 3]` over others where `share`, `[...]` or `[..., 1]`, is 1."""
    share = np.asarray(share)
    share = share[..., None] if share.ndim == 2 else share
    return below + (above - below) * share


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def to_bytes(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
