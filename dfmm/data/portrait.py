"""Drawn talking heads: a look for each identity, lit, posed and put before a background."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

FPS = 25
SIZE = 256  # pixels, of a square frame
CANVAS = 320  # pixels of the face's own canvas, about 1.6 for each of the frame's, so that edges come out smooth
HALF = CANVAS / 2
BYTE = np.float32(1 / 255)

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
WHITE, PUPIL = np.float32([0.88, 0.86, 0.85]), np.float32([0.03, 0.03, 0.03])  # of the eye
THROAT, TEETH = np.float32([0.13, 0.04, 0.04]), np.float32([0.55, 0.52, 0.49])


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
class Motion:
    """How the head moves: one value a frame, arrays `[N]`."""

    shift: np.ndarray  # [N, 2], pixels of the frame
    roll: np.ndarray  # radians
    scale: np.ndarray
    turn: np.ndarray  # [N, 2], canvas units by which the nearest point moves right and down
    lids: np.ndarray  # 0 closed, 1 open
    gaze: np.ndarray  # [N, 2], -1 to 1

    def __len__(self) -> int:
        return len(self.roll)


@dataclass(frozen=True)
class Head:
    """A look painted on its canvas in the light of a stage; eyes and mouth move and are added frame by frame."""

    look: Look
    stage: Stage
    paint: np.ndarray  # uint8 [C, C, 4], lit; the fourth channel is 255 where the head hides the background
    shade: np.ndarray  # float32 [C, C, 3], the light that falls there
    depth: np.ndarray  # float32 [C, C], from 0 at the rim to 1 at the middle


@dataclass(frozen=True)
class Action:
    """What a head does in a clip of N frames."""

    motion: Motion
    mouth: np.ndarray  # 0 closed, 1 open, [N]
    poses: list[tuple[np.ndarray, np.ndarray]]  # where on the canvas each pixel is, x and y: float32 [SIZE, SIZE]


def invent_look(rng: Generator) -> Look:
    """Draw an identity's look."""
    shade = rng.uniform(0, len(SKINS) - 1)
    skin = _mix(SKINS[int(shade)], SKINS[int(shade) + 1], np.float32(shade % 1))
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


def invent_motion(rng: Generator, frames: int) -> Motion:
    """Draw smooth head motion, blinks and glances for a number of frames."""
    shift = np.stack([_wander(rng, frames, period=1.6) for _ in range(2)], 1) * (5, 3) + rng.normal(0, 4, 2)
    turn = np.stack([_wander(rng, frames, period=1.4) for _ in range(2)], 1) * (0.055, 0.035)
    return Motion(
        shift=shift,
        roll=0.05 * _wander(rng, frames, period=1.8) + rng.normal(0, 0.03),
        scale=rng.uniform(0.92, 1.08) * (1 + 0.015 * _wander(rng, frames, period=2.0)),
        turn=turn + rng.normal(0, 0.03, 2),
        lids=_blink(rng, frames),
        gaze=np.clip(np.stack([_glance(rng, frames), 0.4 * _glance(rng, frames)], 1), -1, 1),
    )


def act(head: Head, motion: Motion, mouth: np.ndarray) -> Action:
    """Let a head move, with its mouth open from 0 to 1 in each frame, `[N]`."""
    return Action(motion, mouth, list(_pose_frames(head, motion, mouth)))


def draw_clip(head: Head, action: Action) -> np.ndarray:
    """Draw a clip without the camera's noise: uint8 RGB `[N, SIZE, SIZE, 3]`."""
    backdrop = paint_backdrop(head.look, head.stage)
    frames = np.empty((len(action.motion), SIZE, SIZE, 3), np.uint8)
    canvas, painted = head.paint.copy(), None
    for number, (x, y) in enumerate(action.poses):
        eyes = action.motion.lids[number], *action.motion.gaze[number]
        if eyes != painted:  # most of the time they rest
            _paint_eyes(canvas, head, *eyes)
            painted = eyes
        _paint_mouth(canvas, head, action.mouth[number])
        face = cv2.remap(canvas, x, y, cv2.INTER_LINEAR)
        cover = face[..., 3] * BYTE
        frames[number] = cv2.blendLinear(cv2.cvtColor(face, cv2.COLOR_RGBA2RGB), backdrop, cover, 1 - cover)
    return frames


def draw_masks(region: np.ndarray, action: Action) -> list[np.ndarray]:
    """Carry a region of the canvas, float32 `[C, C]`, along with the head: float32 `[SIZE, SIZE]` for each frame."""
    return [cv2.remap(region, x, y, cv2.INTER_LINEAR) for x, y in action.poses]


def draw_region(centre: tuple[float, float], radii: tuple[float, float], *, softness: float) -> np.ndarray:
    """Draw an ellipse on the canvas: 1 inside, falling to 0 at its rim over `softness` radii, `[C, C]`."""
    x, y = _grid()
    return _rise(1 - np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1]), softness)


def add_grain(frames: np.ndarray, stage: Stage) -> None:
    """Add the camera's noise to frames, uint8 `[N, SIZE, SIZE, 3]`, in place."""
    rng = np.random.default_rng(stage.texture)
    pool = np.round(stage.grain * rng.standard_normal((SIZE + 96, SIZE + 96), np.float32)).astype(np.int16)
    pool = cv2.merge([pool] * 3)
    # One pool, seen through a window that jumps about: fresh noise for each frame would cost as much as the drawing.
    corners = rng.integers(0, 97, (len(frames), 2)).tolist()
    for frame, (row, column) in zip(frames, corners, strict=True):
        cv2.add(frame, pool[row : row + SIZE, column : column + SIZE], dst=frame, dtype=cv2.CV_8U)


def paint_head(look: Look, stage: Stage) -> Head:
    """Paint skin, hair, brows and shadows of a look in the light of a stage."""
    skin_cover, hair_back, hair_front = _cover_face(look), _cover_hair(look, front=False), _cover_hair(look, front=True)
    relief = _raise_face(look)
    strands = _paint_strands(look)[..., None]
    skin_shade = _light_relief(relief, stage)
    hair_shade = _light_relief(_raise_hair(look), stage) * strands

    paint = look.hair * hair_shade * 0.8
    paint = _mix(paint, _paint_skin(look) * skin_shade, skin_cover)
    paint = _mix(paint, look.hair * 0.75 * skin_shade * strands, 0.85 * _cover_brows(look))
    paint = _mix(paint, look.hair * hair_shade, hair_front)
    cover = np.maximum.reduce([skin_cover, hair_back, hair_front])
    return Head(
        look=look,
        stage=stage,
        paint=_to_bytes(np.dstack([paint, cover])),
        shade=skin_shade,
        depth=_measure_depth(look),
    )


def paint_backdrop(look: Look, stage: Stage) -> np.ndarray:
    """Paint the wall, blurred things before it, and neck and shoulders: uint8 `[SIZE, SIZE, 3]`."""
    rng = np.random.default_rng(stage.texture)
    rows = np.linspace(0, 1, SIZE)[:, None, None]
    wall = np.broadcast_to(_mix(stage.wall[0], stage.wall[1], rows), (SIZE, SIZE, 3)).copy()
    for _ in range(5):
        left, top = rng.integers(-40, SIZE, 2)
        width, height = rng.integers(25, 130, 2)
        brighter = rng.uniform(-0.15, 0.15) + rng.uniform(-0.06, 0.06, 3)
        wall[max(top, 0) : top + height, max(left, 0) : left + width] += brighter
    wall = cv2.GaussianBlur(wall, (0, 0), rng.uniform(2.0, 7.0))
    return _to_bytes(_paint_body(wall, look, stage))


# The head at rest


def _outline(look: Look, *, grow: float = 0.0) -> np.ndarray:
    """Half the head's width at each row of the canvas, 0 above and below it, `[C, 1]`."""
    y = _grid()[1] - EYES_Y
    above = 1 - np.abs(y / (0.66 + grow)).clip(0, 1) ** 2.3
    below = 1 - np.abs(y / (look.chin - EYES_Y + grow)).clip(0, 1) ** look.jaw
    return (look.width + grow) * np.where(y < 0, above, below) ** 0.55


def _cover_face(look: Look) -> np.ndarray:
    x, y = _grid()
    face = _rise(_outline(look) - np.abs(x))
    ear = 1 - np.hypot((np.abs(x) - look.width) / 0.055, (y - EYES_Y - 0.1) / 0.13)
    return np.maximum(face, _rise(ear, 0.2))


def _cover_hair(look: Look, *, front: bool) -> np.ndarray:
    """Where hair is: the cap before the forehead and temples, or all that stands out behind the head."""
    x, y = _grid()
    width = np.abs(x) / look.width
    if front:
        hairline = look.hairline + 0.10 * width**2 + 0.38 * width**7 + look.parting * x
        return _rise(_outline(look, grow=look.hair_volume) - np.abs(x)) * _rise(hairline - y, 0.05)
    hang = (look.width + look.hair_volume) * (1 + 0.10 * np.clip(y, 0, 1))
    reach = np.where(y < EYES_Y, _outline(look, grow=look.hair_volume), hang)
    neck = _rise(y - 0.35, 0.2) * _rise(0.64 * look.width - np.abs(x), 0.08)
    return _rise(reach - np.abs(x), 0.04) * _rise(look.hair_length - y, 0.12) * (1 - neck)


def _cover_brows(look: Look) -> np.ndarray:
    x, y = _grid()
    along = (np.abs(x) - look.eye_gap) / (1.45 * look.eye_size)  # -1 at the nose, 1 at the temple
    middle = EYES_Y - look.brow_height - look.brow_tilt * 0.25 * along - 0.025 * (1 - along**2)
    thickness = look.brow_thickness * np.clip(1.1 - 0.6 * along, 0.1, 1.3)
    return _rise(thickness - np.abs(y - middle), 0.02) * _rise(1 - np.abs(along), 0.25)


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
    x, y = _grid()
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
    neck = _rise(neck_width - np.abs(x), 0.03) * _rise(y - 0.3)
    under_chin = 1 - 0.45 * np.exp(-(((y - look.chin) / 0.16) ** 2)[..., None])
    collar = 0.95 + 0.12 * np.clip(1 - (x / 0.36) ** 2, 0, 1)
    shoulders = _rise(y - collar - 0.35 * np.abs(x) ** 2.2, 0.03) * _rise(1.35 - np.abs(x), 0.1)
    picture = _mix(wall, look.skin * under_chin * shade * stage.tint, neck)
    return _mix(picture, look.cloth * shade * stage.tint, shoulders)


# What moves


def _pose_frames(head: Head, motion: Motion, mouth: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield where on the canvas the pixels of each frame lie: x and y, float32 `[SIZE, SIZE]`, for `cv2.remap`."""
    columns, rows = np.meshgrid(*2 * [np.arange(SIZE, dtype=np.float32)])
    jaw = _jaw_drop(head.look)
    for number, roll in enumerate(motion.roll):
        centre = HEAD_CENTRE + motion.shift[number]
        zoom = HALF / (HEAD_UNIT * motion.scale[number])
        cos, sin = zoom * np.cos(roll), zoom * np.sin(roll)
        matrix = np.array([[cos, sin, 0], [-sin, cos, 0]])
        matrix[:, 2] = HALF - matrix[:, :2] @ centre
        matrix = matrix.astype(np.float32)
        relief = cv2.warpAffine(head.depth, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        drop = cv2.warpAffine(jaw, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        turn_x, turn_y = (HALF * motion.turn[number]).astype(np.float32)
        x = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2] - turn_x * relief
        y = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2] - turn_y * relief
        yield x, y - np.float32(HALF * mouth[number]) * drop


def _paint_eyes(canvas: np.ndarray, head: Head, lids: float, gaze_x: float, gaze_y: float) -> None:
    """Paint both eyes into the canvas, uint8 `[C, C, 4]`."""
    for side in (-1, 1):
        _paint_eye(canvas, head, side, lids=lids, gaze=(gaze_x, gaze_y))


def _paint_eye(canvas: np.ndarray, head: Head, side: int, *, lids: float, gaze: tuple[float, float]) -> None:
    """Paint the left (-1) or right (1) eye."""
    look = head.look
    size = look.eye_size
    patch, x, y = _cut_patch((side * look.eye_gap, EYES_Y), (1.3 * size, 0.95 * size))
    shade = head.shade[patch]
    arch = np.clip(1 - (x / size) ** 2, -0.5, 1)
    tilt = -look.eye_tilt * side * x
    lower = tilt + 0.36 * size * arch
    upper = tilt + size * arch * (0.36 - lids * 0.92)
    ball = _rise(np.minimum(lower - y, y - upper)) * _rise(1 - np.abs(x) / size, 0.1)
    from_iris = np.hypot(x - 0.28 * size * gaze[0], y - tilt + 0.10 * size - 0.15 * size * gaze[1]) / (0.44 * size)
    glint = np.exp(-(((x - 0.28 * size * gaze[0] + 0.012) / 0.011) ** 2 + ((y + 0.14 * size) / 0.011) ** 2))

    eye = WHITE * (0.45 + 0.5 * shade) * _rise(y - upper, 0.05)[..., None]
    eye = _mix(eye, look.iris * (0.6 + 0.5 * shade), _rise(1 - from_iris, 0.2))
    eye = _mix(eye, PUPIL, _rise(0.48 - from_iris, 0.15))
    eye = _mix(eye, np.ones(3, np.float32), 0.8 * glint)

    picture = _mix(head.paint[patch] * BYTE, eye, ball)
    lash = np.exp(-(((y - upper) / 0.014) ** 2)) * _rise(1.12 - np.abs(x) / size, 0.2)
    crease = np.exp(-(((y - upper + 0.035) / 0.012) ** 2)) * _rise(1.05 - np.abs(x) / size, 0.3)
    picture *= (1 - 0.75 * lash - 0.22 * crease)[..., None]
    canvas[patch] = _to_bytes(picture)


def _paint_mouth(canvas: np.ndarray, head: Head, opening: float) -> None:
    """Paint lips, and between them teeth and the dark of the mouth, into the canvas, uint8 `[C, C, 4]`."""
    look = head.look
    width = look.mouth_width * (1 - 0.10 * opening)
    patch, x, y = _cut_patch((0, find_mouth(look) + 0.03), (0.25, 0.17))
    y = y + 0.03
    shade = head.shade[patch]
    y = y + look.smile * np.clip((x / width) ** 2, 0, 1.5)
    arch = np.clip(1 - (x / width) ** 2, 0, 1)
    bow = 1 - 0.35 * np.exp(-((x / (0.16 * width)) ** 2))  # the notch of the upper lip
    gap = 0.12 * opening * arch
    inner_top, inner_low = -0.25 * gap - 0.006 * arch, 0.75 * gap - 0.006 * arch
    top = inner_top - look.lip_thickness * bow * arch**0.8
    low = inner_low + 1.25 * look.lip_thickness * arch**0.7

    lips = _rise(np.minimum(y - top, low - y), 0.02) * _rise(1 - np.abs(x) / width, 0.1)
    hole = _rise(np.minimum(y - inner_top, inner_low - y), 0.014)
    teeth = _rise(inner_top + 0.030 * arch - y, 0.012) * _rise(0.75 - np.abs(x) / width, 0.2)
    plump = 1 - 0.16 * (y < (inner_top + inner_low) / 2) + 0.10 * np.exp(-(((y - (inner_low + low) / 2) / 0.018) ** 2))

    picture = _mix(head.paint[patch] * BYTE, look.lips * shade * plump[..., None], 0.92 * lips)
    inside = _mix(THROAT, TEETH * shade, 0.7 * teeth)
    picture = _mix(picture, inside, hole)
    seam = np.exp(-(((y - (inner_top + inner_low) / 2) / 0.009) ** 2)) * np.sqrt(arch) * (1 - opening) ** 4
    canvas[patch] = _to_bytes(picture * (1 - 0.55 * seam)[..., None])


def _jaw_drop(look: Look) -> np.ndarray:
    """How far each point of the canvas sinks with the mouth wide open, in canvas units, float32 `[C, C]`."""
    x, y = _grid()
    down = _rise(y - find_mouth(look), 0.20) * _rise(1.25 - y, 0.4)
    return (0.05 * down * np.ones_like(x)).astype(np.float32)


def _wander(rng: Generator, frames: int, *, period: float) -> np.ndarray:
    """A smooth random curve of unit spread about 0, slower than `period` seconds, `[N]`."""
    seconds = np.arange(frames) / FPS
    speeds = 2 * np.pi / (period * rng.uniform(1, 2.5, 4))
    return np.sin(seconds[:, None] * speeds + rng.uniform(0, 2 * np.pi, 4)).sum(1) / np.sqrt(2)


def _blink(rng: Generator, frames: int) -> np.ndarray:
    """How open the lids are, `[N]`: a blink of a sixth of a second every few seconds."""
    number = np.arange(frames)
    lids = np.full(frames, rng.uniform(0.85, 1.0))
    start = rng.uniform(0, 3.0) * FPS
    while start < frames:
        lids *= 1 - np.exp(-(((number - start) / 1.7) ** 4))
        start += rng.uniform(1.2, 4.0) * FPS
    return lids


def _glance(rng: Generator, frames: int) -> np.ndarray:
    """Where the eyes look, `[N]`: still, with jumps."""
    jumps = np.cumsum(rng.random(frames) < 0.8 / FPS)
    return rng.normal(0, 0.45, jumps[-1] + 1)[jumps]


# Small tools


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Canvas coordinates x `[1, C]` and y `[C, 1]`."""
    line = ((np.arange(CANVAS) - HALF) / HALF).astype(np.float32)
    return line[None], line[:, None]


def _cut_patch(centre: tuple[float, float], reach: tuple[float, float]) -> tuple:
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
    x, y = _grid()
    across = np.abs(x) / np.maximum(_outline(look, grow=0.03), 0.05)
    along = np.abs(y - 0.05) / 0.85
    return np.sqrt(np.clip(1 - across**2.2, 0.01, 1) * np.clip(1 - along**2.6, 0.01, 1))


def _measure_depth(look: Look) -> np.ndarray:
    depth = _dome(look) + 0.35 * _bump(0, EYES_Y + look.nose_length, 0.07, 0.10)
    return cv2.GaussianBlur(depth, (0, 0), 5.0).astype(np.float32)


def _bump(x: float, y: float, wide: float, high: float) -> np.ndarray:
    """A Gaussian bump at (x, y), mirrored when it is off the middle, `[C, C]`."""
    across, along = _grid()
    return np.exp(-(((np.abs(across) - x) / wide) ** 2)) * np.exp(-(((along - y) / high) ** 2))


def _paint_clouds(rng: Generator, size: float) -> np.ndarray:
    """Blotches of about `size` pixels and unit spread, `[C, C]`."""
    noise = cv2.GaussianBlur(rng.standard_normal((CANVAS, CANVAS), np.float32), (0, 0), size)
    return noise / noise.std()


def _rise(distance: np.ndarray, width: float = 0.012) -> np.ndarray:
    """A smooth step: 0 up to a distance of 0, 1 from `width` on."""
    ramp = np.clip(distance / width, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _mix(below: np.ndarray, above: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Lay colours `[..., 3]` over others where `share`, `[...]` or `[..., 1]`, is 1."""
    share = np.asarray(share)
    share = share[..., None] if share.ndim == 2 else share
    return below + (above - below) * share


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
