"""Every setting: typed, ranged and documented; `load_settings` reads a params file and its overrides."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo


class SettingsError(ValueError):
    """A params file or an override that is wrong; the message names every fault, and what would be right."""


class Section(BaseModel):
    """A group of settings: unknown names are refused, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0, le=1)]


class Data(Section):
    root: str = Field("data/sample", description="folder the manifest's paths are relative to")
    manifest: str = Field("manifest.csv", description="CSV or Parquet manifest, relative to `data.root`")
    cache: str = Field("data/cache", description="where what is found once a video is kept")
    sample_videos: int = Field(
        0, ge=0, description="draw this many synthetic videos into `data.root` if it holds none (0: never)"
    )
    limit: int | None = Field(
        None, ge=2, description="debug mode: keep this many videos of each split, both labels among them"
    )
    read: Literal["videos", "cache", "shards"] = Field(
        "videos",
        description="where windows come from: decoded anew from the videos each time; from face crops and sound "
        "extracted once into `data.cache`; or from these in tar shards that `dfmm extract --shards` wrote, whose "
        "folder then is `data.root`; the samples are the same",
    )
    leave_out: list[str] = Field(
        [],
        description="methods kept out of train and val, so that test tells how they are found unseen; `wav2lip` also "
        "means `faceswap+wav2lip`",
    )
    workers: int = Field(2, ge=0, description="processes that read windows beside the training (0: none of their own)")


class Video(Section):
    frames: int = Field(16, ge=1, le=512, description="T, frames in a window")
    fps: Annotated[float, Field(gt=0, le=120)] | Literal["spread"] = Field(
        25.0,
        description="frames per second inside a window; `spread` lays one window's frames over the whole video",
    )
    size: int = Field(112, ge=32, le=1024, description="height and width of a face crop, in pixels")
    detector: Literal["retinaface", "mtcnn", "none"] = Field(
        "retinaface",
        description="first face detector to try, then the other one; `none` takes the centre square for a face",
    )
    detect_side: int = Field(360, ge=64, description="frames are detected at this short side, in pixels")
    detect_every: int = Field(5, ge=1, description="a face is looked for in every n-th frame")
    face: Literal["largest", "longest"] = Field(
        "largest",
        description="whom to follow: in each shot the face that covers most over time, or the one face that is seen "
        "for longest without a cut",
    )
    margin: float = Field(0.15, ge=0, le=2, description="context around the face box, as a share of its side")
    crop: Literal["steady", "follow", "align"] = Field(
        "steady",
        description="where a window's crops are: all at one place, in the middle of the face's way; at the face's in "
        "each frame, by whole pixels; or turned and scaled so that eyes, nose and mouth rest",
    )


class Audio(Section):
    sample_rate: int = Field(16_000, ge=8_000, le=48_000, description="Hz, mono")
    library: Literal["torchaudio", "librosa"] = Field("torchaudio", description="what computes the log-mel spectrogram")
    n_mels: int = Field(64, ge=16, le=256, description="mel bands")
    window_ms: float = Field(25.0, gt=0, description="analysis window of the spectrogram, in ms")
    hop_ms: float = Field(10.0, gt=0, description="step between spectrogram frames, in ms")
    spread_seconds: float = Field(
        2.0, gt=0, description="length of the middle stretch of sound when `video.fps` is `spread`"
    )

    @model_validator(mode="after")
    def check_hop(self) -> Audio:
        if self.hop_ms > self.window_ms:
            raise ValueError(f"hop_ms ({self.hop_ms}) is longer than window_ms ({self.window_ms}): sound is lost")
        return self


class Extract(Section):
    engine: Literal["local", "ray", "dask"] = Field(
        "local",
        description="who extracts: processes of this machine, or those of a Ray or Dask cluster that sees the same "
        "`data.root` and `data.cache`",
    )
    workers: int | None = Field(None, ge=1, description="files at a time (null: as many as there are cores)")
    address: str | None = Field(
        None,
        description="of a running cluster, such as `auto` or `ray://host:10001`, `tcp://host:8786` (null: one is "
        "started here; Ray's environment variable RAY_ADDRESS counts too)",
    )


class Augment(Section):
    flip: Share = Field(0.5, description="chance that a window is mirrored")
    crop: float = Field(0.05, ge=0, le=0.5, description="largest share of the side by which a window is shifted")
    colour: float = Field(0.15, ge=0, le=1, description="strength of brightness, contrast and saturation jitter")
    noise: float = Field(0.0, ge=0, le=1, description="largest standard deviation of pixel noise, 1 = full range")
    sound_gain: float = Field(3.0, ge=0, le=40, description="largest change of loudness, in dB")
    sound_noise: Share = Field(0.0, description="chance of white noise at 15 to 40 dB below the sound")
    pitch: float = Field(0.0, ge=0, le=12, description="largest shift of pitch, in semitones")
    drop_stream: Share = Field(0.1, description="chance that one stream, if both are there, is withheld")
    # The rest is drawn as `dfmm.data.degrade.DEGRADATIONS` lists it: 0 is off, 1 its severest.
    chance: Share = Field(0.5, description="chance of each degradation below that has a largest strength above 0")
    offset: Share = Field(
        0.0,
        description="largest strength of sound that is late or early (1: 0.5 s); where one would notice, `in_sync` "
        "turns 0 and the window fake",
    )
    reverse: Share = Field(0.0, description="chance that picture and sound are played backwards")
    time_stretch: Share = Field(0.0, description="largest strength of a faster or slower clip (1: 1.5 × speed)")
    frame_rate: Share = Field(0.0, description="largest strength of a lower frame rate (1: 0.2 of the frame rate)")
    freeze: Share = Field(0.0, description="largest strength of a frozen picture (1: 0.75 of the window frozen)")
    blur: Share = Field(0.0, description="largest strength of a Gaussian blur (1: 4 pixels)")
    cutout: Share = Field(0.0, description="largest strength of a covered square (1: 0.4 of the picture)")
    downscale: Share = Field(0.0, description="largest strength of scaling down and up again (1: 0.125 of the side)")
    jpeg: Share = Field(0.0, description="largest strength of JPEG (1: 5 quality)")
    h264: Share = Field(0.0, description="largest strength of H.264 (1: 51 CRF)")
    drop_frames: Share = Field(0.0, description="largest strength of lost frames (1: 0.75 of the frames lost)")
    reverb: Share = Field(0.0, description="largest strength of an echoing room (1: 1 s to fall by 60 dB)")
    high_pass: Share = Field(0.0, description="largest strength of lost low sounds (1: 1000 Hz and above)")
    low_pass: Share = Field(0.0, description="largest strength of lost high sounds (1: 1000 Hz and below)")
    mp3: Share = Field(0.0, description="largest strength of MP3 (1: 8 kbit/s)")
    aac: Share = Field(0.0, description="largest strength of AAC (1: 8 kbit/s)")
    opus: Share = Field(0.0, description="largest strength of Opus (1: 8 kbit/s)")
    spec_augment: Share = Field(
        0.0, description="largest strength of SpecAugment, hidden bands and steps (1: 0.5 of each axis)"
    )


ForgeMethod = Literal["self_blend", "mouth", "vocoder", "splice", "delay", "swap"]


class Forge(Section):
    share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the reals' training windows that are forged; validation then has a forged twin of each "
        "real, the same in every epoch (0: none)",
    )
    methods: list[ForgeMethod] = Field(
        list(get_args(ForgeMethod)),
        min_length=1,
        description="how, each as often as it is named, where the clip has what it needs: a face blended with itself, "
        "a mouth from another moment; a voice through a vocoder, or in part another voice; late or early sound, "
        "another clip's sound",
    )
    reals_only: bool = Field(
        False, description="keep the manifest's own fakes out of train and val: to learn from reals alone"
    )


class Cure(Section):
    trim_silence: Literal["none", "start", "both"] = Field(
        "none",
        description="cut every video, picture and sound, to begin (and to end) with the first (last) thing heard",
    )
    start_jitter: float = Field(
        0.0,
        ge=0,
        le=10,
        description="cut up to this many more seconds off each start, at most half of the video: drawn once for each "
        "file, by its content",
    )
    loudness: float | None = Field(
        None,
        ge=-60,
        le=0,
        description="bring the sound of every video to this level, in dB of full scale, pauses not counted "
        "(null: as it is)",
    )
    face_pixels: int | None = Field(
        None,
        ge=16,
        le=1024,
        description="scale every face crop down to this many pixels first, so that large faces are no sharper than "
        "small ones (null: not)",
    )
    reencode: bool = Field(
        False,
        description="encode every file once more, all alike: H.264 and mono AAC from the first frame to the last, as "
        "set below; does not remove what a first lossy encoding left in the pixels",
    )
    reencode_fps: float = Field(25.0, gt=0, le=120, description="frames a second of the new encoding")
    reencode_side: int = Field(
        480, ge=64, le=4096, description="pixels of its short side at most; smaller pictures keep their size"
    )
    reencode_crf: int = Field(
        28,
        ge=0,
        le=51,
        description="x264's constant rate factor: best coarser than all that the files have been through",
    )
    reencode_sample_rate: int = Field(16_000, ge=8_000, le=48_000, description="Hz of its sound")
    reencode_bit_rate: int = Field(48_000, ge=8_000, le=320_000, description="bits a second of its sound")


class Model(Section):
    backbone: str = Field("mobilenetv3_small_050", description="any timm image model, by name")
    pretrained: bool | str = Field(
        False,
        description="backbone weights: true takes timm's from its hub, a path a .safetensors or .pth file, `package` "
        "those of the extra `lite0` for the backbone tf_efficientnet_lite0",
    )
    frozen: Share = Field(0.0, description="share of the backbone's stages, from the input on, that do not learn")
    streams: Literal["both", "video", "audio"] = Field("both", description="what the model may look at")
    audio_backbone: str = Field("cnn", description="what reads the log-mel: `cnn`, a small one, or any timm model")
    dim: int = Field(128, ge=8, multiple_of=4, description="D, width of a time step's features")
    temporal: Literal["avg_pool", "tconv", "transformer"] = Field(
        "tconv", description="how a stream's time steps are read together"
    )
    fusion: Literal["concat", "attention", "cross_modal"] = Field(
        "cross_modal",
        description="how the two streams meet: averaged side by side, pooled together by what a learnt query attends "
        "to, or step by step in time",
    )
    aggregation: Literal["mean", "max", "attention", "confident"] = Field(
        "mean",
        description="how a video's windows make its score: their mean, the most suspicious one, weights that are "
        "learnt from several windows of a video, or the mean of the sure ones where most are sure",
    )
    dropout: Share = Field(0.2, description="dropout before the logits")


class Train(Section):
    epochs: int = Field(20, ge=1, description="passes over the training split")
    batch_size: int = Field(16, ge=1, description="windows in a step, over all processes and forward passes")
    accumulate: int = Field(1, ge=1, description="forward passes that share a step's windows: less memory, same loss")
    processes: int = Field(1, ge=1, description="processes that share a step's windows, on one machine")
    windows: int = Field(1, ge=1, description="windows drawn from each video in an epoch")
    balance: Literal["none", "label", "method", "identity"] = Field(
        "none",
        description="draw videos so that each label is seen equally often, within it also each method or each identity",
    )
    loss: Literal["cross_entropy", "focal"] = Field(
        "cross_entropy", description="of the joint label and of the streams'"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share by which a label is moved towards the other")
    class_weights: bool = Field(False, description="weigh the joint loss so that both labels count the same in all")
    stream_loss: float = Field(
        1.0, ge=0, description="weight of each stream's own binary loss beside the joint one (0: the joint one alone)"
    )
    lr: float = Field(2e-3, gt=0, description="peak learning rate")
    backbone_lr: float | None = Field(None, gt=0, description="the backbone's own peak rate (null: as `train.lr`)")
    schedule: Literal["cosine", "warm_restarts", "plateau", "one_cycle"] = Field(
        "cosine",
        description="how the rate falls: along a cosine, along three that are each twice as long, by half whenever "
        "validation stalls for a third of `train.patience`, or in one climb and fall",
    )
    warmup: Share = Field(0.1, description="share of the steps in which the rate climbs to its peak")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, on weights; never on norms and biases")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the average of weights that is validated and kept (0: off)"
    )
    patience: int = Field(10, ge=1, description="epochs without a better validation before training ends")
    monitor: Literal["auc", "ap", "eer", "loss"] = Field("auc", description="what better means on validation windows")
    checkpoint_every: int | None = Field(
        None, ge=1, description="steps between checkpoints to go on from (null: one after each epoch)"
    )
    keep_checkpoints: int = Field(2, ge=1, description="so many of them are kept; older ones are removed")
    mixed_precision: Literal["no", "fp16", "bf16"] = Field("no", description="accelerate's mixed precision")


class Evaluate(Section):
    windows: int = Field(3, ge=1, description="windows a video, evenly spaced; `model.aggregation` makes its score")
    batch_size: int = Field(16, ge=1, description="windows in a forward pass")
    threshold: str = Field(
        "balanced_accuracy", description="chosen on validation: `balanced_accuracy`, `eer` or `fpr=0.01`"
    )
    datasets: list[str] = Field(
        [],
        description="manifests of other datasets (each in its data's root) whose test split is evaluated, too, each "
        "with a report of its own",
    )
    replicates: int = Field(1000, ge=100, description="bootstrap replicates behind the intervals")

    @field_validator("threshold")
    @classmethod
    def check_threshold(cls, rule: str) -> str:
        if rule in ("balanced_accuracy", "eer"):
            return rule
        name, _, rate = rule.partition("=")
        try:
            if name == "fpr" and 0 < float(rate) < 1:
                return rule
        except ValueError:
            pass
        raise ValueError(f"expected balanced_accuracy, eer or fpr=RATE with RATE between 0 and 1, got {rule!r}")


class Logging(Section):
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is worth a line")
    format: Literal["text", "json"] = Field("text", description="of the lines on the terminal")
    trackers: list[Literal["tensorboard", "trackio", "wandb", "mlflow"]] = Field(
        [], description="who is told the metrics besides the run's own `metrics.jsonl`"
    )


class Settings(Section):
    """All settings of a run; `settings.video.frames` is written `video.frames` in a params file's override."""

    seed: int = Field(0, ge=0, description="of everything random in training")
    data: Data = Field(default_factory=Data)
    video: Video = Field(default_factory=Video)
    audio: Audio = Field(default_factory=Audio)
    cure: Cure = Field(default_factory=Cure)
    extract: Extract = Field(default_factory=Extract)
    augment: Augment = Field(default_factory=Augment)
    forge: Forge = Field(default_factory=Forge)
    model: Model = Field(default_factory=Model)
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    logging: Logging = Field(default_factory=Logging)

    @property
    def window_seconds(self) -> float:
        """How much sound belongs to a window."""
        if self.video.fps == "spread":
            return self.audio.spread_seconds
        return self.video.frames / self.video.fps

    @model_validator(mode="after")
    def check_batch(self) -> Settings:
        """A step's windows are shared out evenly; where windows are weighed, those of a video stay together."""
        train, parts = self.train, self.train.processes * self.train.accumulate
        if self.model.aggregation == "attention":
            if train.windows < 2:
                raise ValueError(
                    "model.aggregation: attention learns from several windows of a video; set train.windows"
                )
            parts *= train.windows
        if train.batch_size % parts:
            what = "train.processes · train.accumulate" + " · train.windows" * (self.model.aggregation == "attention")
            raise ValueError(f"train.batch_size ({train.batch_size}) must be a multiple of {what} ({parts})")
        return self

    @model_validator(mode="after")
    def check_time(self) -> Settings:
        """Where the sound is not that of the frames, they cannot be moved in time together."""
        moved = [name for name in ("offset", "reverse", "time_stretch") if getattr(self.augment, name)]
        if moved and self.video.fps == "spread":
            names = ", ".join(f"augment.{name}" for name in moved)
            raise ValueError(f"{names}: moves frames and their sound in time; set video.fps to frames per second")
        return self

    @model_validator(mode="after")
    def check_forgeries(self) -> Settings:
        """What cannot be noticed in the streams that are looked at would be learnt by heart."""
        seen = {"video": {"self_blend", "mouth"}, "audio": {"vocoder", "splice"}}.get(self.model.streams)
        lost = [name for name in self.forge.methods if seen is not None and name not in seen]
        if self.forge.share and lost:
            raise ValueError(
                f"forge.methods: {', '.join(lost)} cannot be told with model.streams={self.model.streams}; "
                f"leave {', '.join(sorted(seen))}"
            )
        return self

    @model_validator(mode="after")
    def check_alignment(self) -> Settings:
        """Every time step of the picture needs sound of its own."""
        steps = self.window_seconds / (self.audio.hop_ms / 1000)
        if steps < self.video.frames:
            raise ValueError(
                f"a window has {self.video.frames} frames but only {steps:.0f} spectrogram frames; "
                "lower audio.hop_ms or video.fps"
            )
        return self


def find_project() -> Path:
    """Return the folder relative paths start from: the nearest one, from here upwards, that holds `params/`."""
    here = Path.cwd()
    return next((folder for folder in [here, *here.parents] if (folder / "params").is_dir()), here)


def resolve_path(path: str | Path) -> Path:
    """Return an absolute path; a relative one starts from the project, so notebooks/ and the root agree."""
    return find_project() / Path(path).expanduser()


def load_settings(params: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a params file, lay overrides such as `train.lr=1e-4` over it, and validate the whole.

    Raises:
        SettingsError: the file is missing or no YAML mapping, a name is unknown, or a value is out of range.
    """
    values = read_params(params)
    for override in overrides:
        name, value = parse_override(override)
        section = values
        *sections, last = name.split(".")
        for part in sections:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise SettingsError(f"{override!r}: {part!r} is a value, not a section")
        section[last] = value
    return validate_settings(values, origin=str(params))


def read_params(params: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; an empty file is an empty mapping."""
    path = resolve_path(params)
    if not path.is_file():
        nearby = ", ".join(sorted(file.name for file in path.parent.glob("*.yaml"))) or "no params file"
        raise SettingsError(f"{params}: no such params file (in that folder: {nearby})")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{params}: not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{params}: expected sections such as `train:`, got a {type(values).__name__}")
    # An empty section (`train:` with all its lines commented out) means its defaults.
    return {name: {} if value is None and name in _sections() else value for name, value in values.items()}


def parse_override(override: str) -> tuple[str, Any]:
    """Split `train.lr=1e-4` into its dotted name and its value, read as YAML."""
    name, equals, text = override.partition("=")
    if not equals or not all(name.strip().split(".")):
        raise SettingsError(f"override {override!r}: expected name=value, such as train.lr=1e-4")
    try:
        return name.strip(), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"override {override!r}: the value is not YAML: {error}") from error


def validate_settings(values: dict[str, Any], *, origin: str = "settings") -> Settings:
    """Make `Settings` of nested values, or raise one `SettingsError` that lists every fault."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = dict.fromkeys(_explain_fault(fault) for fault in error.errors())
        raise SettingsError("\n  ".join([f"{origin}:", *faults])) from None


def _explain_fault(fault: dict[str, Any]) -> str:
    names = [part for part in fault["loc"] if isinstance(part, str)]
    name = next((dotted for n in (2, 1) if (dotted := ".".join(names[:n])) in _fields()), ".".join(names))
    if fault["type"] == "extra_forbidden":
        near = _suggest_setting(name)
        return f"{name}: no such setting" + (f"; did you mean {near}?" if near else "; `dfmm settings` lists them")
    said = (f"{name}: " if name else "") + fault["msg"].removeprefix("Value error, ")
    return said + ("" if isinstance(fault["input"], (dict, Section)) else f", got {fault['input']!r}")


def _suggest_setting(name: str) -> str | None:
    """Return the setting or section a misspelt name most likely means."""
    known = {dotted: dotted for dotted in [*_fields(), *_sections()]}
    last = {dotted.split(".")[-1]: dotted for dotted in _fields()}
    if name.split(".")[-1] in last:  # right, in the wrong section
        return last[name.split(".")[-1]]
    for wanted, names in ((name, known), (name.split(".")[-1], last)):
        if near := difflib.get_close_matches(wanted, names, n=1):
            return names[near[0]]
    return None


def iterate_settings() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting's dotted name and field, in the order of the params files."""
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            yield from ((f"{name}.{key}", inner) for key, inner in section.model_fields.items())
        else:
            yield name, field


def _fields() -> list[str]:
    return [name for name, _ in iterate_settings()]


def _sections() -> set[str]:
    return {name.split(".")[0] for name in _fields() if "." in name}


def describe_settings() -> str:
    """Return every setting with its default and meaning, as a Markdown table."""
    rows = ["| setting | default | choices or type | meaning |", "| --- | --- | --- | --- |"]
    for name, field in iterate_settings():
        default = json.dumps(field.default)
        rows.append(f"| `{name}` | `{default}` | {_describe_type(field)} | {field.description} |")
    return "\n".join(rows) + "\n"


def _describe_type(field: FieldInfo) -> str:
    options = get_args(field.annotation)
    if get_origin(field.annotation) is list:
        return "list of " + (", ".join(f"`{choice}`" for choice in get_args(options[0])) or _name_type(options[0]))
    choices = [choice for choice in options if isinstance(choice, str)]
    if choices and len(choices) == len(options):
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = [
        f"{sign} {getattr(rule, key)}"
        for rule in field.metadata
        for key, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("multiple_of", "a multiple of"))
        if getattr(rule, key, None) is not None
    ]
    kinds = [_name_type(option) for option in options] or [_name_type(field.annotation)]
    return " or ".join(kinds) + "".join(f", {limit}" for limit in limits)


def _name_type(annotation: Any) -> str:
    """Return `float`, `none`, or the one allowed word of a Literal; an Annotated type goes by what it annotates."""
    if get_origin(annotation) is Literal:
        return f"`{get_args(annotation)[0]}`"
    annotation = getattr(annotation, "__origin__", annotation)
    return "none" if annotation is type(None) else annotation.__name__


def flatten_settings(settings: Settings) -> dict[str, Any]:
    """Return every setting by its dotted name."""
    values = settings.model_dump()
    return {
        name: values[name] if "." not in name else values[name.split(".")[0]][name.split(".")[1]] for name in _fields()
    }


def diff_settings(old: Settings, new: Settings) -> list[str]:
    """Return a line for each setting in which the two differ, such as `train.lr: 0.002 → 0.001`."""
    before, after = flatten_settings(old), flatten_settings(new)
    return [f"{name}: {before[name]} → {after[name]}" for name in before if before[name] != after[name]]


def save_settings(settings: Settings, path: str | Path) -> None:
    """Write all settings as a params file that `load_settings` reads back to the same."""
    Path(path).write_text(yaml.safe_dump(settings.model_dump(), sort_keys=False), encoding="utf-8")
