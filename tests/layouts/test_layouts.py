"""Layouts of public datasets: on small trees of their shape, every trap they are known for is seen."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from dfmm.cli import main, make_parser
from dfmm.layouts import LAYOUTS, build_manifest, read_layout
from dfmm.layouts.listing import Listing
from dfmm.manifest import ManifestError, read_manifest, write_manifest
from dfmm.settings import load_settings
from tests.layouts import newer
from tests.layouts.newer import touch, write

FAVC = "FakeAVCeleb/"
FAVC_HEADER = "source,target1,target2,method,category,type,race,gender,path,"


def make_faceforensics(root: Path) -> None:
    for c in ("c23", "c40"):
        touch(root, *(f"original_sequences/youtube/{c}/videos/{name}.mp4" for name in ("000", "003", "071", "605")))
        for method in ("Deepfakes", "FaceSwap"):
            names = ("000_003", "003_000", "071_054", "605_000")
            touch(root, *(f"manipulated_sequences/{method}/{c}/videos/{name}.mp4" for name in names))
        touch(root, f"original_sequences/actors/{c}/videos/02__kitchen_still.mp4")
        touch(root, f"manipulated_sequences/DeepFakeDetection/{c}/videos/02_15__kitchen_still__XNJIS4S3.mp4")
    touch(root, "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4")
    touch(root, "manipulated_sequences/Deepfakes/c23/videos/000_003 copy.mp4")
    for split, pair in {"train": ["000", "003"], "val": ["071", "054"], "test": ["605", "606"]}.items():
        write(root, f"splits/{split}.json", [pair])
    write(root, "conversion_dict.json", {"000": "abc 0", "071": "abc 1", "605": "xyz 0"})


def make_celebdf(root: Path) -> None:
    touch(root, *(f"Celeb-real/id{i}_{n:04d}.mp4" for i in range(8) for n in range(2)))
    swaps = [f"id{i}_id{j}_{n:04d}" for i in range(8) for j in range(8) if i != j for n in range(2)]
    touch(root, *(f"Celeb-synthesis/{name}.mp4" for name in swaps))
    touch(root, "Youtube-real/00170.mp4", "YouTube-real/00171.mp4", "Celeb-synthesis/odd.mp4", "extra/id0_0000.mp4")
    lines = ("1 YouTube-real/00170.mp4", "0 Celeb-synthesis/id0_id1_0000.mp4", "1 Celeb-real/id2_0001.mp4")
    write(root, "List_of_testing_videos.txt", "\n".join((*lines, "1 Celeb-real/id99_0000.mp4", "what is this")))


def make_dfdc(root: Path) -> None:
    parts = {"dfdc_train_part_00/dfdc_train_part_0": "ab", "dfdc_train_part_1": "cd"}
    for folder, (one, two) in parts.items():
        fakes = {f"{one}fake{n}.mp4": {"label": "FAKE", "split": "train", "original": f"{one}real.mp4"} for n in "12"}
        reals = {f"{name}real.mp4": {"label": "REAL", "split": "train"} for name in (one, two)}
        odd = {f"{one}odd.mp4": {"label": "MAYBE", "split": "train"}}
        write(root, f"{folder}/metadata.json", {**fakes, **reals, **odd, f"{one}gone.mp4": {"label": "REAL"}})
        touch(root, *(f"{folder}/{name}" for name in (*fakes, *reals, *odd, f"{one}extra.mp4")))
    write(root, "test/labels.csv", "filename,label\ntestfake.mp4,1\ntestreal.mp4,0\n")
    touch(root, *(f"test/videos/test{name}.mp4" for name in ("fake", "real", "hidden")))


def make_fakeavceleb(root: Path) -> None:
    """Ten people, all swapped with all of their group of five; names repeat across folders."""
    lines, people = [], [f"id{n:05d}" for n in range(10)]
    for n, who in enumerate(people):
        place, group = ("African,men", people[:5]) if n < 5 else ("Asian (East),women", people[5:])
        others = [other for other in group if other != who]
        clips = [("-", "-", "real", "A", "RealVideo-RealAudio", "00109.mp4")]
        clips += [("fake.mp4", "-", "rtvc", "B", "RealVideo-FakeAudio", "00109_fake.mp4")]
        for other in others:
            clips += [(other, "-", "fsgan", "C", "FakeVideo-RealAudio", f"00109_{other}_5VjcPZm8knM.mp4")]
            clips += [("10", other, "wav2lip", "D", "FakeVideo-FakeAudio", f"00109_10_{other}_wavtolip.mp4")]
        for one, two, method, category, kind, name in clips:
            folder = f"{kind}/{place.replace(',', '/')}/{who}"
            lines.append(f"{who},{one},{two},{method},{category},{kind},{place},{name},{FAVC}{folder}")
            touch(root, f"{folder.replace('Asian (East)', 'Asian_East')}/{name}")
    lines += [lines[3].replace("wav2lip", "faceswap-wav2lip"), lines[0].replace("00109.mp4", "00999.mp4"), "id00000,-"]
    write(root, "meta_data.csv", "\n".join((FAVC_HEADER, *lines)))
    touch(root, "FakeVideo-FakeAudio/African/men/id00001/00109_unknown.mp4")


def make_lavdf(root: Path) -> None:
    def entry(name: str, *, video: bool = False, audio: bool = False, **values: object) -> dict[str, object]:
        fake = video or audio
        base = {"file": name, "n_fakes": int(fake), "fake_periods": [[0.48, 1.2]] * fake, "duration": 4.224}
        streams = {"modify_video": video, "modify_audio": audio, "split": name.split("/")[0], "video_frames": 103}
        return {**base, "original": "test/000001.mp4" if fake else None, **streams, **values}

    rows = [
        entry("train/000005.mp4"),
        entry("dev/000006.mp4"),
        entry("test/000001.mp4"),
        entry("test/000002.mp4", video=True),
        entry("test/000003.mp4", audio=True, duration=9.0, fake_periods=[[5.0, 6.5], [7.0, 8.25]]),
        entry("test/000004.mp4", video=True, audio=True),
        entry("train/000007.mp4", video=True),  # its original is in test
        entry("train/000008.mp4", fake_periods=[[1, 2]]),  # real, with a fake period
        entry("train/000009.mp4", video=True, fake_periods=[]),
        entry("train/000010.mp4", video=True, fake_periods=[[2, 1]]),
        entry("train/000011.mp4"),
        {"file": "train/000012.mp4"},
    ]
    write(root, "metadata.json", rows)
    touch(root, *(row["file"] for row in rows if row["file"] != "train/000011.mp4"), "train/000099.mp4")


def make_avdeepfake1m(root: Path) -> None:
    def entry(name: str, kind: str, **values: object) -> dict[str, object]:
        fake = [] if kind == "real" else [[1.0, 1.5]]
        sound, picture = fake * (kind != "visual_modified"), fake * (kind != "audio_modified")
        base = {"file": name, "original": None if kind == "real" else name.rpartition("/")[0] + "/real.mp4"}
        told = {"modify_type": kind, "audio_model": "vits" if sound else None, "fake_segments": fake}
        segments = {"audio_fake_segments": sound, "visual_fake_segments": picture}
        return {**base, "split": "", **told, **segments, "video_frames": 100, "audio_frames": 1, **values}

    clip = "id00012/21Uxsk56VDQ/00001"
    train = [
        entry(f"{clip}/real.mp4", "real"),
        entry(f"{clip}/fake_video_real_audio.mp4", "visual_modified", audio_fake_segments=[[1.0, 1.5]]),
        entry(f"{clip}/real_video_fake_audio.mp4", "audio_modified"),
        entry(f"{clip}/fake_video_fake_audio.mp4", "both_modified", audio_fake_segments=[[2, 2.5], [3, 4]]),
        entry("id00013/x/00001/real.mp4", "real", fake_segments=[[1, 2]]),
        entry("id00013/x/00002/real.mp4", "upside_down"),
    ]
    val = [entry("id00014/y/00001/real.mp4", "both_modified"), entry("id00012/z/00001/real.mp4", "real")]
    for split, rows in {"train": train, "val": val}.items():
        write(root, f"{split}_metadata.json", rows)
        touch(root, *(f"{split}/{row['file']}" for row in rows))
    write(root, "test_files.txt", "000001.mp4\n000002.mp4\n")
    touch(root, "test/000001.mp4", "test/000003.mp4")


def make_asvspoof(root: Path) -> None:
    lists = {
        ("train", "trn"): ["LA_0079 LA_T_1 - - bonafide", "LA_0079 LA_T_2 - A01 spoof", "LA_0080 LA_T_3 - A06 spoof"],
        ("dev", "trl"): ["LA_0069 LA_D_1 - - bonafide", "LA_0069 LA_D_2 - - spoof", "LA_0069 LA_D_3"],
        ("eval", "trl"): ["LA_0039 LA_E_1 - A19 spoof", "LA_0039 LA_E_2 - - bonafide", "LA_0079 LA_E_3 - - bonafide"],
    }
    for (split, ending), lines in lists.items():
        write(root, f"LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{split}.{ending}.txt", "\n".join(lines))
        touch(root, *(f"LA/ASVspoof2019_LA_{split}/flac/{line.split()[1]}.flac" for line in lines))
    write(root, "LA/ASVspoof2019_LA_asv_protocols/ASVspoof2019.LA.asv.dev.gi.trl.txt", "LA_0069 LA_D_9 bonafide target")
    touch(root, "LA/ASVspoof2019_LA_dev/flac/LA_D_9.flac")


def make_folders(root: Path) -> None:
    for n, split in enumerate(("train", "train", "val", "test")):
        write(root, f"{split}/{n}/meta.json", {"label": n % 2, "identities": [f"p{n}", "p0"] if n == 3 else [f"p{n}"]})
        touch(root, f"{split}/{n}/video.mp4")
    for name, meta in {"train/a": "{", "train/b": {"label": 2}, "dev/c": {"label": 1}}.items():
        write(root, f"{name}/meta.json", meta)
        touch(root, f"{name}/video.mp4")
    write(root, "train/d/meta.json", {"label": 1})
    write(root, "train/e/meta.json", {"label": 1, "in_sync": 3})
    touch(root, "train/d/one.mp4", "train/d/two.mp4", "train/e/video.mp4", "train/f/video.mp4")


def make_realfake(root: Path) -> None:
    touch(root, *(f"Real/{n}.mp4" for n in range(20)), *(f"fake/some/{n}.MOV" for n in range(20)))
    touch(root, "fake/real/x.mp4", "other/y.mp4", "fake/some/0.mp4", "fake/._1.mp4", "fake/note.txt")


MAKERS: dict[str, Callable[[Path], None]] = {
    name.removeprefix("make_"): make
    for name, make in list(globals().items())
    if name.startswith("make_") and name != "make_parser"
} | newer.MAKERS


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Listing]:
    def build(layout: str, **options: object) -> Listing:
        if not (tmp_path / layout).exists():
            MAKERS[layout](tmp_path / layout)
        return build_manifest(layout, tmp_path / layout, **options)

    return build


def named(listing: Listing, kind: str) -> list[str]:
    """The names behind a kind of problem, without their folders."""
    found = listing.problems[listing.problems["kind"] == kind]
    return sorted(name.rpartition("/")[2] for name in found["name"])


def column(listing: Listing, name: str, *, of: str = "") -> dict[str, object]:
    """A column by file name without ending, of the paths that hold `of`."""
    table = listing.table[listing.table["path"].str.contains(of, regex=False)]
    return dict(zip(table["video_id"].str.rpartition("/")[2], table[name], strict=True))


# What layouts themselves go by: lists, labels and protocols.
READ = (".json", ".csv", ".tsv", ".arrow", "List_of_testing_videos.txt", "trl.txt", "trn.txt", "_files.txt")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_dropped_in_silence(layout: str, build: Callable[..., Listing], tmp_path: Path) -> None:
    build(layout)
    for name in ("notes.txt", "deep/er/.DS_Store", "picture.jpg", "sound.mp3"):
        touch(tmp_path / layout, name)
    listing = build(layout)
    on_disk = {p.relative_to(tmp_path / layout).as_posix() for p in (tmp_path / layout).rglob("*") if p.is_file()}
    told = set(listing.table["path"]) | set(listing.problems["name"])
    covered = {path for path in on_disk if path in told or f"{path.rpartition('/')[0]}/meta.json" in told}
    assert {path for path in on_disk - covered if not path.endswith(READ)} == set()
    assert set(listing.table["path"]) <= on_disk


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_built_is_a_manifest(layout: str, build: Callable[..., Listing], tmp_path: Path) -> None:
    listing = build(layout)
    for name in ("m.csv", "m.parquet"):
        again = read_manifest(write_manifest(listing.table, tmp_path / name), tmp_path / layout)
        assert again.astype(str).equals(listing.table.astype(str))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_our_own_splits_share_no_one(layout: str, build: Callable[..., Listing]) -> None:
    listing = build(layout, resplit=True)
    table = listing.table[listing.table["split"] != "none"]
    people = table.assign(who=table["identities"].str.split("|")).explode("who")
    shared = people[people["who"] != ""].groupby("who")["split"].nunique()
    assert (shared == 1).all()
    assert len(shared) or layout in ("realfake", "megammdf")  # which name nobody
    assert not listing.problems["kind"].isin(["identity in two splits", "original in two splits"]).any()


def test_a_name_under_every_method_stays_a_video_of_each(build: Callable[..., Listing]) -> None:
    table = build("faceforensics").table
    assert table["video_id"].is_unique
    assert table["path"].str.endswith("/000_003.mp4").sum() == 2
    assert set(table.loc[table["path"].str.endswith("/000_003.mp4"), "method"]) == {"deepfakes", "faceswap"}


def test_faceforensics_names_say_label_people_and_original(build: Callable[..., Listing]) -> None:
    listing = build("faceforensics")
    assert column(listing, "label", of="original") == {"000": 0, "003": 0, "071": 0, "605": 0, "02__kitchen_still": 0}
    assert set(column(listing, "label", of="manipulated").values()) == {1}
    assert column(listing, "identities", of="Deepfakes")["071_054"] == "ff/071|ff/054"
    assert column(listing, "original", of="Deepfakes")["071_054"] == "original_sequences/youtube/c23/videos/071"
    dfd = listing.table[listing.table["method"] == "deepfakedetection"].iloc[0]
    assert dfd["identities"] == "dfd/02|dfd/15"
    assert dfd["original"] == "original_sequences/actors/c23/videos/02__kitchen_still"
    assert (listing.table[["audio_fake", "in_sync"]] == -1).all(axis=None)  # there is no sound to know about
    assert named(listing, "malformed name") == ["000_003 copy.mp4"]


def test_faceforensics_splits_are_the_official_pairs_in_both_directions(build: Callable[..., Listing]) -> None:
    listing = build("faceforensics")
    expected = {"000_003": "train", "003_000": "train", "071_054": "val", "605_000": "none"}
    assert column(listing, "split", of="FaceSwap") == expected
    assert column(listing, "split", of="youtube") == {"000": "train", "003": "train", "071": "val", "605": "test"}
    assert named(listing, "in no official split") == ["605_000.mp4"] * 2
    assert "faceforensics++: official train, val, test" in listing.notes


def test_sequences_of_one_video_in_two_official_splits_are_told(build: Callable[..., Listing]) -> None:
    problems = build("faceforensics").problems
    told = problems[problems["kind"] == "source in two splits"]
    assert told[["name", "detail"]].to_numpy().tolist() == [["abc", "000 train, 071 val"]]


def test_compressions_are_never_mixed(build: Callable[..., Listing], tmp_path: Path) -> None:
    listing = build("faceforensics")
    assert listing.table["path"].str.contains("/c23/").all()
    assert len(named(listing, "other compression")) == 14
    assert build("faceforensics", compression="c40").table["path"].str.contains("/c40/").all()
    with pytest.raises(ManifestError, match=r"'raw'; there are: c23, c40"):
        build("faceforensics", compression="raw")
    for c in ("c40", "raw"):
        touch(tmp_path / "other", f"original_sequences/youtube/{c}/videos/000.mp4")
        if c == "c40":
            assert len(read_layout("faceforensics", tmp_path / "other").table) == 1
    with pytest.raises(ManifestError, match="raw and c40: choose one"):
        read_layout("faceforensics", tmp_path / "other")


def test_a_mask_is_no_video(build: Callable[..., Listing]) -> None:
    listing = build("faceforensics")
    assert not listing.table["path"].str.contains("masks").any()
    assert listing.problems.query("kind == 'no row'")["name"].tolist() == [
        "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4"
    ]


def test_celebdf_writes_1_for_real_and_we_write_0(build: Callable[..., Listing], tmp_path: Path) -> None:
    listing = build("celebdf")
    assert set(column(listing, "label", of="real/").values()) == {0}
    assert set(column(listing, "label", of="synthesis/").values()) == {1}
    assert named(listing, "label conflict") == []
    write(tmp_path / "celebdf", "List_of_testing_videos.txt", "0 Celeb-real/id2_0001.mp4\n1 Celeb-real/id3_0001.mp4")
    listing = build("celebdf")
    assert named(listing, "label conflict") == ["id2_0001.mp4"]
    assert column(listing, "label", of="Celeb-real/")["id2_0001"] == 0


def test_celebdf_keeps_its_test_videos_and_divides_the_rest(build: Callable[..., Listing]) -> None:
    listing = build("celebdf")
    table = listing.table
    assert set(table.loc[table["split"] == "test", "video_id"]) == {
        "Youtube-real/00170", "Celeb-synthesis/id0_id1_0000", "Celeb-real/id2_0001",
    }  # fmt: skip
    rest = table[table["split"].isin(["train", "val"])]
    people = rest.assign(who=rest["identities"].str.split("|")).explode("who").query("who != ''")
    assert people.groupby("who")["split"].nunique().max() == 1
    assert set(rest["split"]) == {"train", "val"}
    assert named(listing, "missing file") == ["id99_0000.mp4"]
    assert named(listing, "malformed row") == ["what is this"]
    assert named(listing, "malformed name") == ["odd.mp4"]
    assert {"id0", "id1", "id2"} <= set(named(listing, "identity in two splits"))  # celebrities of train, on trial
    lost = table[table["split"] == "none"]
    assert named(listing, "crosses splits") == sorted(lost["path"].str.rpartition("/")[2])
    assert any(f"{len(lost)} videos left out" in note for note in listing.notes)


def test_celebdf_swaps_know_their_target_and_their_donor(build: Callable[..., Listing]) -> None:
    listing = build("celebdf")
    assert column(listing, "identities")["id3_id5_0001"] == "celebdf/id3|celebdf/id5"
    assert column(listing, "original")["id3_id5_0001"] == "Celeb-real/id3_0001"
    assert set(column(listing, "source", of="ube-real").values()) == {"youtube"}
    assert column(listing, "identities", of="ube-real") == {"00170": "", "00171": ""}


def test_dfdc_archives_may_be_nested(build: Callable[..., Listing]) -> None:
    listing = build("dfdc")
    assert "dfdc_train_part_00/dfdc_train_part_0/afake1" in set(listing.table["video_id"])
    assert column(listing, "label") == {
        "afake1": 1, "afake2": 1, "areal": 0, "breal": 0, "cfake1": 1, "cfake2": 1, "creal": 0, "dreal": 0,
        "testfake": 1, "testreal": 0,
    }  # fmt: skip


def test_dfdc_does_not_say_which_stream_is_fake(build: Callable[..., Listing]) -> None:
    table = build("dfdc").table
    for label, streams in ((0, [0, 0, 1]), (1, [-1, -1, -1])):
        found = table.loc[table["label"] == label, ["video_fake", "audio_fake", "in_sync"]]
        assert (found == streams).all(axis=None)


def test_dfdc_fakes_stay_with_their_original(build: Callable[..., Listing]) -> None:
    for seed in range(5):
        split = column(build("dfdc", seed=seed, shares={"train": 0.5, "val": 0.5}), "split")
        assert split["areal"] == split["afake1"] == split["afake2"]
        assert split["testfake"] == split["testreal"] == "test"
    assert column(build("dfdc"), "original")["cfake2"] == "dfdc_train_part_1/creal"


def test_dfdc_files_without_label_or_row_are_told(build: Callable[..., Listing], tmp_path: Path) -> None:
    listing = build("dfdc")
    assert named(listing, "no label") == ["aodd.mp4", "codd.mp4", "testhidden.mp4"]
    assert named(listing, "missing file") == ["agone.mp4", "cgone.mp4"]
    assert named(listing, "no row") == ["aextra.mp4", "cextra.mp4"]
    (tmp_path / "dfdc/test/labels.csv").unlink()
    hidden = named(build("dfdc"), "no label")
    assert {"testfake.mp4", "testreal.mp4"} <= set(hidden)


def test_dfdc_parts_unpacked_twice_count_once(build: Callable[..., Listing], tmp_path: Path) -> None:
    build("dfdc")
    (tmp_path / "dfdc/copy").symlink_to(tmp_path / "dfdc/dfdc_train_part_1")
    listing = build("dfdc")
    assert listing.table["path"].str.contains("creal").sum() == 1
    assert "creal.mp4" in named(listing, "duplicate file")


@pytest.mark.parametrize("header", [FAVC_HEADER, FAVC_HEADER.rstrip(",")])
def test_fakeavceleb_has_a_tenth_column_without_a_name(
    header: str, build: Callable[..., Listing], tmp_path: Path
) -> None:
    MAKERS["fakeavceleb"](tmp_path / "fakeavceleb")
    meta = tmp_path / "fakeavceleb/meta_data.csv"
    meta.write_text(meta.read_text().replace(FAVC_HEADER, header))
    assert len(build("fakeavceleb").table) == 100


def test_fakeavceleb_files_count_once_whatever_their_rows(build: Callable[..., Listing]) -> None:
    listing = build("fakeavceleb")
    assert named(listing, "duplicate row") == ["00109_10_id00001_wavtolip.mp4"]
    assert named(listing, "duplicate file") == []
    assert named(listing, "missing file") == ["00999.mp4"]
    assert named(listing, "malformed row") == ["id00000,-"]
    assert named(listing, "no row") == ["00109_unknown.mp4"]


def test_fakeavceleb_names_repeat_across_folders(build: Callable[..., Listing]) -> None:
    table = build("fakeavceleb").table
    reals = table[table["path"].str.endswith("/00109.mp4")]
    assert len(reals) == 10
    assert reals["identities"].nunique() == 10


def test_fakeavceleb_folders_are_spelt_in_two_ways(build: Callable[..., Listing]) -> None:
    table = build("fakeavceleb").table
    assert table["path"].str.contains("Asian_East").sum() == 50  # as on disk; the table says Asian (East)
    fake = table[table["path"].str.contains("Asian_East") & (table["method"] == "fsgan")].iloc[0]
    assert fake["original"] in set(table["video_id"])


def test_fakeavceleb_categories_say_which_stream_is_forged(build: Callable[..., Listing]) -> None:
    table = build("fakeavceleb").table
    columns = ["label", "video_fake", "audio_fake", "in_sync", "method"]
    found = table.groupby(table["path"].str.partition("/")[0])[columns].agg(lambda values: set(values))
    assert found.loc["RealVideo-RealAudio"].tolist() == [{0}, {0}, {0}, {1}, {"real"}]
    assert found.loc["RealVideo-FakeAudio"].tolist() == [{1}, {0}, {1}, {0}, {"rtvc"}]
    assert found.loc["FakeVideo-RealAudio"].tolist() == [{1}, {1}, {0}, {-1}, {"fsgan"}]
    assert found.loc["FakeVideo-FakeAudio"].tolist() == [{1}, {1}, {1}, {1}, {"wav2lip+rtvc"}]


def test_fakeavceleb_knows_everyone_a_row_or_a_name_mentions(build: Callable[..., Listing]) -> None:
    listing = build("fakeavceleb")
    assert (
        column(listing, "identities", of="id00000")["00109_10_id00003_wavtolip"]
        == "voxceleb2/id00000|voxceleb2/id00003"
    )
    table = listing.table
    parted = table[table["split"] != "none"]
    people = parted.assign(who=parted["identities"].str.split("|")).explode("who")
    assert people.groupby("who")["split"].nunique().max() == 1
    assert set(parted["split"]) == {"train", "val", "test"}


def test_lavdf_periods_belong_to_the_streams_that_were_forged(build: Callable[..., Listing]) -> None:
    listing = build("lavdf")
    rows = listing.table.set_index("video_id")
    columns = ["label", "video_fake", "audio_fake", "in_sync", "video_segments", "audio_segments", "method"]
    expected = {
        "test/000001": [0, 0, 0, 1, "", "", "real"],
        "test/000002": [1, 1, 0, -1, "0.480-1.200", "", "wav2lip"],
        "test/000003": [1, 0, 1, -1, "", "5.000-6.500|7.000-8.250", "sv2tts"],  # longer than its original
        "test/000004": [1, 1, 1, 1, "0.480-1.200", "0.480-1.200", "wav2lip+sv2tts"],
    }
    assert {name: rows.loc[name, columns].tolist() for name in expected} == expected


def test_lavdf_splits_are_official_and_their_leaks_are_told(build: Callable[..., Listing]) -> None:
    listing = build("lavdf")
    assert column(listing, "split")["000006"] == "val"
    assert column(listing, "original")["000007"] == "test/000001"
    told = listing.problems.set_index("kind")
    assert told.loc["original in two splits", "name"] == "test/000001"
    assert told.loc["identity in two splits", "detail"] == "train 1, test 4"


def test_lavdf_rows_and_files_that_do_not_match_are_told(build: Callable[..., Listing], tmp_path: Path) -> None:
    listing = build("lavdf")
    assert named(listing, "malformed row") == ["000008.mp4", "000009.mp4", "000010.mp4", "000012.mp4"]
    assert named(listing, "missing file") == ["000011.mp4"]
    assert "000099.mp4" in named(listing, "no row")
    (tmp_path / "lavdf/metadata.json").rename(tmp_path / "lavdf/metadata.min.json")
    assert build("lavdf").table.equals(listing.table)


def test_both_modified_means_both(build: Callable[..., Listing]) -> None:
    listing = build("avdeepfake1m")
    rows = listing.table[listing.table["path"].str.startswith("train/id00012")]
    streams = rows.set_index(rows["path"].str.rpartition("/")[2])[["label", "video_fake", "audio_fake", "method"]]
    assert streams.loc["fake_video_fake_audio.mp4"].tolist() == [1, 1, 1, "talklip+vits"]
    assert streams.loc["fake_video_real_audio.mp4"].tolist() == [1, 1, 0, "talklip"]
    assert streams.loc["real_video_fake_audio.mp4"].tolist() == [1, 0, 1, "vits"]
    assert streams.loc["real.mp4"].tolist() == [0, 0, 0, "real"]
    assert set(rows["identities"]) == {"voxceleb2/id00012"}
    assert set(rows["original"]) == {"", "train/id00012/21Uxsk56VDQ/00001/real"}


def test_segments_of_a_stream_that_nobody_touched_are_dropped(build: Callable[..., Listing]) -> None:
    listing = build("avdeepfake1m")
    assert column(listing, "audio_segments")["fake_video_real_audio"] == ""
    assert column(listing, "video_segments")["fake_video_real_audio"] == "1.000-1.500"
    both = listing.table["path"].str.contains("fake_video_fake_audio")
    segments = listing.table.loc[both, ["video_segments", "audio_segments"]]
    assert segments.to_numpy().tolist() == [["1.000-1.500", "2.000-2.500|3.000-4.000"]]
    assert named(listing, "segments repaired") == ["fake_video_real_audio.mp4"]


def test_avdeepfake1m_hides_the_labels_of_test(build: Callable[..., Listing]) -> None:
    listing = build("avdeepfake1m")
    assert set(listing.table["split"]) == {"train", "val"}
    assert named(listing, "no label") == ["000001.mp4", "000003.mp4"]
    assert named(listing, "missing file") == ["000002.mp4"]
    assert named(listing, "malformed row") == ["real.mp4", "real.mp4"]
    assert named(listing, "label conflict") == ["real.mp4"]
    assert named(listing, "identity in two splits") == ["id00012"]


def test_asvspoof_is_sound_only(build: Callable[..., Listing]) -> None:
    listing = build("asvspoof")
    rows = listing.table.set_index(listing.table["video_id"].str.rpartition("/")[2])
    assert rows["label"].to_dict() == {
        "LA_D_1": 0,
        "LA_E_1": 1,
        "LA_E_2": 0,
        "LA_E_3": 0,
        "LA_T_1": 0,
        "LA_T_2": 1,
        "LA_T_3": 1,
    }
    assert (rows["audio_fake"] == rows["label"]).all()
    assert (rows[["video_fake", "in_sync"]] == -1).all(axis=None)
    assert rows.loc["LA_T_2", ["method", "identities", "split"]].tolist() == ["A01", "asvspoof2019/LA_0079", "train"]
    assert rows.loc[["LA_D_1", "LA_E_1"], "split"].tolist() == ["val", "test"]
    assert named(listing, "malformed row") == ["LA_0069 LA_D_2 - - spoof", "LA_0069 LA_D_3"]
    assert named(listing, "no row") == ["LA_D_2.flac", "LA_D_3.flac", "LA_D_9.flac"]
    assert named(listing, "identity in two splits") == ["LA_0079"]


def test_a_folder_of_ones_own_costs_only_what_is_wrong_in_it(build: Callable[..., Listing]) -> None:
    listing = build("folders")
    assert column(listing, "label", of="train") == {"video": 1}
    assert sorted(listing.table["video_id"]) == ["test/3/video", "train/0/video", "train/1/video", "val/2/video"]
    assert len(named(listing, "malformed row")) == 4
    assert named(listing, "no label") == ["video.mp4"]
    assert listing.problems.query("kind == 'identity in two splits'")["name"].tolist() == ["p0"]


def test_real_and_fake_folders_are_read_and_their_ignorance_told(build: Callable[..., Listing], tmp_path: Path) -> None:
    listing = build("realfake")
    assert (listing.table["label"] == listing.table["path"].str.startswith("fake/")).all()
    assert len(listing.table) == 40
    assert set(listing.table["split"]) == {"train", "val", "test"}
    assert any("40 videos name nobody" in note for note in listing.notes)
    assert "realfake: 40 of 40 videos divided among splits" in listing.notes  # not by identity: there are none
    assert named(listing, "malformed name") == ["x.mp4"]
    assert named(listing, "no label") == ["y.mp4"]
    assert named(listing, "duplicate file") == ["0.mp4"]  # 0.MOV comes first
    assert named(listing, "hidden file") == ["._1.mp4"]
    touch(tmp_path / "split", "valid/real/a.mp4", "train/Fake/b.mp4")
    assert column(read_layout("realfake", tmp_path / "split"), "split") == {"a": "val", "b": "train"}


def test_who_names_one_of_the_two_folders_is_told_to_name_the_one_above(tmp_path: Path) -> None:
    make_realfake(tmp_path)
    with pytest.raises(ManifestError, match=re.escape(f"name the folder above, {tmp_path}")):
        read_layout("realfake", tmp_path / "Real")


def test_what_a_row_says_never_leaves_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    rows = [f"{name}.mp4" for name in ("train/a", "../b", "/etc/c", "train/../../d", "train/link", "away/e")]
    write(root, "metadata.json", [
        {"file": name, "split": "train", "modify_video": False, "modify_audio": False, "fake_periods": [],
         "original": None} for name in rows
    ])  # fmt: skip
    touch(root, "train/a.mp4")
    touch(tmp_path, "b.mp4", "d.mp4", "out/e.mp4")
    (root / "train/link.mp4").symlink_to(tmp_path / "b.mp4")
    (root / "away").symlink_to(tmp_path / "out")
    listing = read_layout("lavdf", root)
    assert listing.table["path"].tolist() == ["train/a.mp4"]
    outside = listing.problems.query("kind == 'outside the root'")
    assert set(rows[1:]) <= set(outside["name"])
    assert "missing file" not in set(listing.problems["kind"])
    (root / "train/a.mp4").unlink()
    with pytest.raises(ManifestError, match=r"outside the root.*links that lead out of it are not followed: copy"):
        read_layout("lavdf", root)


def test_links_inside_the_root_are_followed_and_never_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "store/a.mp4")
    (tmp_path / "real").mkdir()
    (tmp_path / "fake").symlink_to(tmp_path / "store")
    (tmp_path / "store/again").symlink_to(tmp_path)
    (tmp_path / "store/once_more").symlink_to(tmp_path / "store")
    listing = read_layout("realfake", tmp_path)
    assert listing.table["path"].tolist() == ["fake/a.mp4"]


def test_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.mp4")
    (tmp_path / os.fsdecode(b"real/\xff.mp4")).touch()
    listing = read_layout("realfake", tmp_path)
    assert listing.table["path"].tolist() == ["real/a.mp4"]
    assert named(listing, "malformed name") == ["\\udcff.mp4'"]


@pytest.mark.parametrize(
    ("layout", "name", "content"),
    [
        ("lavdf", "metadata.json", [{"file": 7}, 7, None, []]),
        ("avdeepfake1m", "train_metadata.json", [{"file": 7, "modify_type": "real"}, 7, None, {"modify_type": 7}]),
        ("dfdc", "dfdc_train_part_1/metadata.json", {"x.mp4": 7, "creal.mp4": {"label": "REAL", "original": 7}}),
        ("dfdc", "dfdc_train_part_1/metadata.json", [1, 2]),
        ("dfdc", "test/labels.csv", "name,kind\na,b"),
        ("dfdc", "test/labels.csv", "filename,label\n,1\ntestreal.mp4"),
        ("faceforensics", "conversion_dict.json", [1]),
        ("faceforensics", "splits/val.json", {"a": "b"}),
        ("celebdf", "List_of_testing_videos.txt", "1\n\n7 x\n1 Celeb-real/id2_0001.mp4"),
    ],
)
def test_metadata_of_another_shape_costs_only_itself(
    layout: str, name: str, content: object, build: Callable[..., Listing], tmp_path: Path
) -> None:
    before = len(build(layout).table)
    write(tmp_path / layout, name, content)
    if layout == "lavdf":  # there is no other metadata
        with pytest.raises(ManifestError, match="4 × malformed row"):
            build(layout)
        return
    listing = build(layout)
    assert 0 < len(listing.table) <= before
    assert set(listing.problems["kind"]) & {"malformed row", "no label"}


def test_real_and_fake_may_be_sounds(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.wav", "real/b.mp3", "fake/c.flac", "fake/.d.wav", "fake/e.txt")
    listing = read_layout("realfake", tmp_path)
    table = listing.table.set_index("path")
    assert table["label"].to_dict() == {"fake/c.flac": 1, "real/a.wav": 0, "real/b.mp3": 0}
    assert (table["audio_fake"] == table["label"]).all()
    assert (table[["video_fake", "in_sync"]] == -1).all(axis=None)
    assert sorted(listing.problems["name"]) == ["fake/.d.wav", "fake/e.txt"]

    touch(tmp_path, "real/a.mp4", "fake/d.mp4")  # sounds beside videos are their copies, as often as not
    listing = read_layout("realfake", tmp_path)
    assert listing.table["path"].tolist() == ["fake/d.mp4", "real/a.mp4"]
    assert {"real/a.wav", "real/b.mp3", "fake/c.flac"} <= set(listing.problems["name"])


def test_the_wrong_folder_or_layout_is_told(tmp_path: Path) -> None:
    for layout in LAYOUTS:
        with pytest.raises(ManifestError, match=r"expected|found none of"):
            build_manifest(layout, tmp_path)
        with pytest.raises(ManifestError, match="no such folder"):
            build_manifest(layout, tmp_path / "none")
    with pytest.raises(ManifestError, match=r"no layout 'faceforensic'; did you mean faceforensics\?"):
        read_layout("faceforensic", tmp_path)
    with pytest.raises(ManifestError, match="celebdf has no option compression"):
        read_layout("celebdf", tmp_path, compression="c23")


def test_the_command_writes_the_manifest_and_all_that_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_fakeavceleb(tmp_path / "data")
    out = tmp_path / "out/favc.parquet"
    assert main(["manifest", "fakeavceleb", str(tmp_path / "data"), "--out", str(out), "--split-seed", "1"]) == 0
    said = capsys.readouterr().out
    table = read_manifest(out, tmp_path / "data")
    lost = int((table["split"] == "none").sum())
    for text in (
        f"{out}: 100 videos",
        "wav2lip+rtvc",
        f"{lost} videos left out",
        "1 × missing file: ",
        "1 × duplicate row: ",
    ):
        assert text in said
    problems = pd.read_csv(out.with_suffix(".problems.csv"))
    assert problems["kind"].value_counts()["crosses splits"] == lost
    assert main(["manifest", "fakeavceleb", str(tmp_path / "data")]) == 0
    assert len(read_manifest(tmp_path / "data/manifest.csv")) == 100


def test_the_command_passes_its_options_on(tmp_path: Path) -> None:
    make_faceforensics(tmp_path)
    words = ["manifest", "faceforensics", str(tmp_path), "--compression", "c40", "--by", "method", "youtube"]
    assert main([*words, "--resplit", "--val", "0", "--test", "0.5"]) == 0
    table = read_manifest(tmp_path / "manifest.csv", tmp_path)
    assert table["path"].str.contains("/c40/").all()
    assert set(table["split"]) <= {"train", "test", "none"}
    assert main([*words, "--by", "nonsense", "--resplit"]) == 1


def test_faceforensics_without_official_lists_is_divided_by_identity(tmp_path: Path) -> None:
    make_faceforensics(tmp_path)
    for split in ("train", "val", "test"):
        (tmp_path / f"splits/{split}.json").unlink()
    listing = build_manifest("faceforensics", tmp_path, shares={"train": 0.5, "test": 0.5})
    split = column(listing, "split", of="Deepfakes")
    assert split["000_003"] == split["003_000"]  # a pair and its originals are one group
    assert named(listing, "missing file") == ["test.json", "train.json", "val.json"]


def test_the_command_fails_where_nothing_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["lavdf", str(tmp_path)], ["nonsense", str(tmp_path)], ["celebdf", str(tmp_path), "--val", "2"]):
        assert main(["manifest", *words]) == 1
        assert capsys.readouterr().err.startswith("dfmm: ")
    assert list(tmp_path.iterdir()) == []


def test_the_help_names_every_layout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["manifest", "--help"])
    said = capsys.readouterr().out
    assert all(layout in said for layout in LAYOUTS)


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"folders", "realfake"}))
def test_every_public_dataset_has_its_params_file(layout: str) -> None:
    settings = load_settings(f"params/{layout}.yaml")
    has = LAYOUTS[layout]
    assert settings.model.streams == ("both" if has.picture and has.sound else "video" if has.picture else "audio")
