"""The settings of each part of a run: typed, ranged and documented."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


class Section(BaseModel):
    """A group of settings: unknown names are refused, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def refuse_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """A yes is no number: Python would take it for 1."""
        holds = any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value]))
        if holds and bool not in _list_types(cls.model_fields[info.field_name].annotation):
            raise ValueError("takes neither true nor false, as YAML reads yes, no, on and off, too")
        return value


def _list_types(annotation: Any) -> list[Any]:
    """Return an annotation, and all that it is put together of."""
    return [annotation, *(part for inner in get_args(annotation) for part in _list_types(inner))]


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
    forged_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="of videos that are forged in stretches: a window is fake that holds at least this share of one, "
        "or is itself filled to this share where it is shorter; one that holds less is neither fake nor real, and "
        "counts for nothing",
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
    detect_every: int = Field(5, ge=1, description="a face is looked for in every n-th frame, in fewer while it rests")
    face: Literal["largest", "longest", "all"] = Field(
        "largest",
        description="whom to follow: in each shot the face that covers most over time; the one face that is seen for "
        "longest without a cut; or everybody, each in windows of their own, of whom the most suspicious makes a "
        "video's score (in each shot at most 16 at once, the largest; `left_out` counts the others)",
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
    # The rest is drawn as `dfmm.degrade.DEGRADATIONS` lists it: 0 is off, 1 its severest.
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


ForgeMethod = Literal["self_blend", "patch", "redraw", "mouth", "vocoder", "predict", "splice", "delay", "swap"]


class Forge(Section):
    share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the reals' training windows that are forged; validation then has a forged twin of each "
        "real, the same in every epoch (0: none)",
    )
    methods: list[ForgeMethod] = Field(
        ["self_blend", "mouth", "vocoder", "splice", "delay", "swap"],
        min_length=1,
        description="how, each as often as it is named, where the clip has what it needs: a face blended with itself, "
        "a part of it changed and pasted back in a shape of many, the whole picture or a part drawn anew, a mouth "
        "from another moment; a voice through a vocoder, spoken anew by linear prediction, or in part another voice; "
        "late or early sound, another clip's sound",
    )
    pairs: bool = Field(
        False,
        description="windows come in twos, at one place and degraded alike, and the second of them is forged: only the "
        "forgery can tell them apart; for a share of 0.5",
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
    detector: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="another detector in the place of ours, `package.module:function`: code that is run, and so named "
        "by whoever starts it, never taken from what a run or a model's file stores (null: ours)",
    )
    backbone: str = Field("mobilenetv3_small_050", description="any timm image model, by name")
    pretrained: bool | str = Field(
        False,
        description="backbone weights: true takes timm's from its hub, a path a .safetensors or .pth file, `package` "
        "those of the extra `lite0` for the backbone tf_efficientnet_lite0",
    )
    frozen: Share = Field(0.0, description="share of the backbone's stages, from the input on, that do not learn")
    streams: Literal["both", "video", "audio"] = Field(
        "both", description="what the detector may look at; with one of them alone, synchrony is not judged"
    )
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


class Synchrony(Section):
    use: bool = Field(
        True,
        description="learn from the training reals how mouths move with what is said, and judge every video by it: "
        "that finds swapped, dubbed and late sound",
    )
    mesh: Literal["auto", "always", "never"] = Field(
        "auto",
        description="find lips by a face mesh, some 8 ms a frame (the extra `mesh`); `auto`: where it is installed",
    )
    phonemes: Literal["auto", "always", "never"] = Field(
        "auto",
        description="recognise phonemes in the sound, a tenth of its length (the extra `phonemes`); `auto`: where it "
        "is installed",
    )


class Train(Section):
    start_from: str | None = Field(
        None,
        description="a run's folder, or a model.safetensors of one, whose weights training starts from: fine-tuning "
        "(null: from `model.pretrained`)",
    )
    epochs: int = Field(20, ge=1, description="passes over the training split")
    batch_size: int = Field(16, ge=1, description="windows in a step, over all processes and forward passes")
    accumulate: int = Field(1, ge=1, description="forward passes that share a step's windows: less memory, same loss")
    processes: int = Field(1, ge=1, description="processes that share a step's windows, on one machine")
    windows: int = Field(1, ge=1, description="windows drawn from each video in an epoch")
    val_windows: int = Field(1, ge=1, description="windows of each validation video, evenly spaced, after each epoch")
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
    compile: bool = Field(
        False,
        description="have PyTorch compile the picture's backbone: minutes at the start, faster steps on a GPU after; "
        "where a first forward pass fails, the log says why and training goes on without",
    )


class Evaluate(Section):
    windows: int = Field(3, ge=1, description="windows a video, evenly spaced; `model.aggregation` makes its score")
    stride: float | None = Field(
        None,
        gt=0,
        description="score windows every so many seconds over each whole video as well, and say which stretches are "
        "forged: a table of its own, and average precision and recall of the stretches; half as much costs twice the "
        "time, and long videos want `data.read: cache`, or they are decoded again for each batch (null: not)",
    )
    batch_size: int = Field(16, ge=1, description="windows in a forward pass")
    threshold: str = Field(
        "balanced_accuracy", description="chosen on validation: `balanced_accuracy`, `eer` or `fpr=0.01`"
    )
    prior: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of fakes where scores are to be read: they, and the threshold with them, are moved from "
        "that of training to it, and no video is called otherwise (null: that of training)",
    )
    datasets: list[str] = Field(
        [],
        description="manifests of other datasets (each in its data's root) whose test split is evaluated, too, each "
        "with a report of its own",
    )
    slices: list[str] = Field(
        ["method", "source"],
        description="columns by which errors are told apart: of the manifest, or of what extraction knows: "
        "`face_size`, `resolution`, `duration`, `codec`, `has_sound`, `several_faces`",
    )
    replicates: int = Field(1000, ge=100, description="bootstrap replicates behind the intervals")
    dcf_prior: float = Field(
        0.05, gt=0, lt=1, description="share of fakes where the detection cost function (minDCF, actDCF) is asked"
    )
    false_alarm_cost: float = Field(1.0, gt=0, description="of a real called fake, in the detection cost function")
    miss_cost: float = Field(10.0, gt=0, description="of a fake called real, in the detection cost function")

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
