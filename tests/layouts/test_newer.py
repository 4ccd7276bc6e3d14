"""Layouts of newer datasets: on small trees of their shape, what each is known to mislead by is seen."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dfmm.cli import main
from dfmm.layouts import LAYOUTS, build_manifest, read_layout
from dfmm.layouts.columns import PERIODS, format_periods, read_arrow, read_objects
from dfmm.layouts.listing import Listing
from dfmm.layouts.verify import list_layouts, verify_copy
from dfmm.manifest import ManifestError, format_segments
from tests.layouts import newer

STREAMS = ["label", "video_fake", "audio_fake", "in_sync", "method"]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every tree, made once; nothing writes into them."""
    folder = tmp_path_factory.mktemp("trees")
    for name, make in {**newer.MAKERS, "deepspeak_1": newer.make_deepspeak_1}.items():
        make(folder / name)
    return {path.name: path for path in folder.iterdir()}


def build(trees: dict[str, Path], name: str) -> tuple[pd.DataFrame, Listing]:
    """The rows by the last part of their ids with their folder, and all that was built."""
    listing = build_once(name.removesuffix("_1"), trees[name])
    return listing.table.set_index(listing.table["video_id"].str.extract(r"((?:[^/]*/)?[^/]*)$")[0]), listing


@functools.cache
def build_once(layout: str, root: Path) -> Listing:
    return build_manifest(layout, root)


def named(listing: Listing, kind: str) -> list[str]:
    found = listing.problems[listing.problems["kind"] == kind]
    return sorted(name.rpartition("/")[2] for name in found["name"])


def test_avdeepfake1mpp_names_models_people_and_corpora(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "avdeepfake1mpp")
    assert rows.loc["00030/fake_video_fake_audio", STREAMS].tolist() == [1, 1, 1, 1, "talklip+vits"]
    assert rows.loc["00030/diff", STREAMS].tolist() == [1, 1, 0, -1, "diff2lip"]
    assert rows.loc["00002/fake", "method"] == "lipsync"  # neither model is told
    assert rows.loc["subject_7_ab_vid_1_2/x", ["method", "identities"]].tolist() == ["vits", "silent/subject_7"]
    assert rows.loc["00030/diff", "video_segments"] == "0.500-0.750|1.000-2.000"
    assert set(rows["source"]) == {"voxceleb2", "lrs3", "silent"}
    assert named(listing, "identity in two splits") == ["id01358", "subject_7"]


def test_avdeepfake1mpp_originals_are_clips_here_or_upstream(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "avdeepfake1mpp")
    assert rows.loc["00030/diff", "original"] in set(listing.table["video_id"])
    assert rows.loc["00030/real", "original"] == ""  # VoxCeleb2's own path is no fake's original
    assert rows.loc["00002/fake", "original"] == "lrs3/pretrain/x"
    assert named(listing, "no label") == ["000001.mp4", "000009.mp4"]
    assert named(listing, "malformed row") == ["askew.mp4", "odd.mp4", "short.mp4"]
    assert not listing.problems["name"].str.endswith(".json").any()  # a file beside each video, which repeats its row


def test_celebdfpp_keeps_a_name_under_each_method_apart(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "celebdfpp")
    assert rows.loc["BlendFace/id0_id1_0000", "split"] == "test"
    assert rows.loc["LIA/id0_id1_0000", "split"] != "test"
    assert rows.loc["LIA/id2_id1_0001", ["method", "scenario", "identities", "original"]].tolist() == [
        "lia", "facereenact", "celebdf/id2|celebdf/id1", "Celeb-real/id2_0001",
    ]  # fmt: skip
    assert rows.loc["IP_LAP/id3_0000_test_03", ["identities", "split"]].tolist() == ["celebdf/id3", "test"]
    assert rows.loc["YouTube-real/00170", ["label", "split", "audio_fake"]].tolist() == [0, "test", -1]
    assert named(listing, "label conflict") == []
    assert named(listing, "malformed name") == ["id0_0000.mp4", "id0_id1_0000.mp4", "odd.mp4"]
    assert named(listing, "missing file") == ["id99_0000.mp4"]


def test_deepspeak_2_takes_people_and_voices_from_its_table(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "deepspeak")
    assert rows.loc["videos/diff2lip-1100-1000-playht", STREAMS].tolist() == [1, 1, 1, 1, "diff2lip+playht"]
    assert rows.loc["videos/diff2lip-1100-1000-real", STREAMS].tolist() == [1, 1, 0, 1, "diff2lip"]
    assert rows.loc["videos/memo-1200-1300-whoever", "audio_fake"] == -1
    assert rows.loc["videos/diff2lip-1100-1000-real", "identities"] == "deepspeak/10|deepspeak/11"
    assert rows.loc["videos/diff2lip-1100-1000-real", "original"] == "videos/10-1000"
    assert named(listing, "unknown value") == ["memo-1200-1300-whoever.mp4"]
    assert named(listing, "no row") == ["latentsync-1-2-real.mp4"]
    assert named(listing, "identity in two splits") == ["17"]  # a source of test whose face is on a target of train


def test_a_val_that_nobody_published_is_taken_out_of_train_alone(trees: dict[str, Path]) -> None:
    for name in ("deepspeak", "deepfakeeval2024"):
        official = read_layout(name, trees[name]).table.set_index("path")["split"]
        listing = build_manifest(name, trees[name], shares={"train": 0.5, "val": 0.3, "test": 0.2})
        ours = listing.table.set_index("path")["split"]
        assert ((official == "test") == (ours == "test")).all()
        assert set(ours[official == "train"]) >= {"train", "val"}
        assert any("taken out of train" in note for note in listing.notes)
        parted = listing.table[listing.table["split"].isin(["train", "val"])]
        people = parted.assign(who=parted["identities"].str.split("|")).explode("who")
        assert people.groupby("who")["split"].nunique().max() == 1


def test_deepspeak_1_takes_people_from_names(trees: dict[str, Path]) -> None:
    rows, _ = build(trees, "deepspeak_1")
    fake = rows.loc["facefusion_gan--10-11--4100-4897--0"]
    assert fake[["identities", "original", "split"]].tolist() == ["deepspeak/11|deepspeak/10", "11-4897", "test"]
    assert set(rows["dataset"]) == {"deepspeak-1.1"}


def test_deepspeak_releases_are_not_mixed(tmp_path: Path) -> None:
    newer.make_deepspeak(tmp_path)
    newer.make_deepspeak_1(tmp_path)
    with pytest.raises(ManifestError, match="read each on its own"):
        read_layout("deepspeak", tmp_path)


def test_talkingheadbench_drivers_may_begin_with_a_dash(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "talkingheadbench")
    fake = rows.loc["train/00198---5be_UPkLRw_4--Hallo"]
    assert fake[["identities", "original"]].tolist() == ["celebv-hq/-5be_UPkLRw", "real/celebvhq/-5be_UPkLRw_4"]
    assert rows.loc["Hallo3/7--5be_UPkLRw_4", "identities"] == "celebv-hq/-5be_UPkLRw"
    assert rows.loc[["MAGI-1/3", "Hallo3/7--5be_UPkLRw_4"], "split"].tolist() == ["test", "test"]
    assert rows.loc["ff++/071", ["label", "identities", "split"]].tolist() == [0, "ff/071", "train"]
    assert named(listing, "split conflict") == ["00201--bbbbbbbbbbb_0--Hallo.mp4", "7--5be_UPkLRw_4.mp4"]
    assert named(listing, "missing file") == ["072", "aaaaaaaaaaa_0", "aaaaaaaaaaa_1", "bbbbbbbbbbb_0"]
    assert named(listing, "no row") == ["unlisted_0.mp4"]
    assert named(listing, "duplicate row") == ["-5be_UPkLRw_4"]


def test_idforge_kinds_say_which_stream_is_forged(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "idforge")
    rows = rows.set_index("kind", append=True).droplevel(0)
    assert rows.loc["face_tts", STREAMS].tolist() == [[1, 1, 1, 1, "infoswap+wav2lip+tortoise"]][0]
    assert rows.loc["face_tts_textgen", "method"] == "infoswap+wav2lip+tortoise"
    assert rows.loc["lip_audiomismatch_textmismatch", STREAMS].tolist() == [1, 1, 0, 1, "wav2lip"]
    assert rows.loc["rvc_textmismatch", STREAMS].tolist() == [1, 0, 1, 0, "rvc"]
    assert rows.loc["tts_textgen", STREAMS].tolist() == [1, 0, 1, 0, "tortoise"]
    real = "main/pristine/id00/id00_03/id00_scene_0010-0"
    made = rows.loc[["lip_rvc_textmismatch", "lip_tts_textgen", "tts_textgen", "lip_audiomismatch_textmismatch"]]
    assert set(made["original"]) == {real}  # whatever ends in .mp3 or _fake
    assert rows.loc[["face_tts", "rvc_textmismatch"], "original"].tolist() == ["", ""]
    assert named(listing, "identity in two splits") == ["id00"]
    assert named(listing, "missing file") == ["id04_scene_0001-0.mp4"]
    assert named(listing, "no row") == ["id00_scene_0001-0.mp4"]  # of the reference set
    assert named(listing, "malformed row") == ["test.mp4", "train.mp4"]


def test_polyglotfake_clips_of_one_video_stay_together(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "polyglotfake")
    fake = rows.loc["to_ja/en_3_to_ja_bark_freevc"]
    assert fake[STREAMS].tolist() == [1, 1, 1, 1, "lipsync+bark+freevc"]
    assert fake[["identities", "original", "language", "sex"]].tolist() == [
        "polyglotfake/talk%7C1", "real/en_3", "ja", "f",
    ]  # fmt: skip
    assert rows.loc["real/en_2", "split"] == fake["split"]
    assert rows.loc["to_en/ja_9_to_en_xtts", ["identities", "original"]].tolist() == ["polyglotfake/ja_9", "ja_9"]
    assert named(listing, "malformed row") == ["ja.json"]
    assert named(listing, "malformed name") == ["nothing.mp4"]
    assert named(listing, "duplicate file") == ["en_0.mp4"]


def test_mavosdd_tells_the_open_sets_apart(trees: dict[str, Path], tmp_path: Path) -> None:
    rows, listing = build(trees, "mavosdd")
    protocols = dict(zip(rows["language"] + " " + rows["method"], rows["protocol"], strict=True))
    assert {name: protocols[name] for name in protocols if protocols[name]} == {
        "english memo+xtts_v2": "closed", "english sonic": "open-model",
        "german real": "open-language", "hindi knnvc": "open-full",
    }  # fmt: skip
    assert rows.loc["knnvc/odd name", STREAMS].tolist() == [1, 0, 1, -1, "knnvc"]
    assert rows.loc["memo/face2.png_ccccccccccc_5_0.mp4", "identities"] == "mavosdd/face2|youtube/ccccccccccc"
    assert named(listing, "identity in two splits") == ["aaaaaaaaaaa"]
    assert named(listing, "missing file") == ["gone.mp4"]
    newer.make_mavosdd(tmp_path, streams=False)
    listed = read_layout("mavosdd", tmp_path).table
    assert (listed.query("label == 1")[["video_fake", "audio_fake"]] == -1).all(axis=None)
    assert set(listed["protocol"]) == {"", "closed", "open-model", "open-language", "open-full"}


@pytest.mark.parametrize("hidden", ["open_set_model", "open_set_language"])
def test_mavosdd_calls_nothing_closed_of_which_nobody_says_so(hidden: str, tmp_path: Path) -> None:
    newer.make_mavosdd(tmp_path)
    file = tmp_path / "data-00000-of-00001.arrow"
    table = read_arrow(file).drop_columns([hidden])
    file.unlink()  # the table is read from it as it is used
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    assert set(read_layout("mavosdd", tmp_path).table["protocol"]) == {""}


def test_avlips_numbers_tie_real_and_fake(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "avlips")
    pairs = rows.groupby("identities")["split"].nunique()
    assert len(pairs) == 12
    assert pairs.max() == 1
    assert rows.loc["1_fake/5", STREAMS].tolist() == [1, 1, 0, 1, "lipsync"]
    assert named(listing, "duplicate file") == ["0.mp4"]
    assert len(named(listing, "other file")) == 24  # their sound once more


def test_deepfakeeval2024_knows_what_it_does_not_know(trees: dict[str, Path], tmp_path: Path) -> None:
    rows, listing = build(trees, "deepfakeeval2024")
    assert rows.loc["video-data/1", STREAMS].tolist() == [1, 1, -1, -1, "unknown"]
    assert rows.loc["video-data/0", STREAMS].tolist() == [0, 0, -1, -1, "real"]
    assert rows.loc["video-data/1", "source"] == "x.com"
    assert named(listing, "no label") == ["8.mp4"]
    assert listing.problems.query("kind == 'identity in two splits'")["name"].tolist() == ["deepfakeeval2024/x.com/a/1"]
    assert named(listing, "missing column") == ["Audio Ground Truth"]
    header = ("Filename", "Video Ground Truth", "Audio Ground Truth", "Finetuning Set")
    newer.write_csv(tmp_path, "video-metadata-publish.csv", header, ("a.mp4", "Real", "Fake", "Test"))
    newer.touch(tmp_path, "a.mp4")
    assert read_layout("deepfakeeval2024", tmp_path).table[STREAMS].iloc[0].tolist() == [1, 0, 1, -1, "unknown"]


def test_asvspoof5_has_ten_columns_parted_by_blanks(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "asvspoof5")
    assert rows.loc["flac_T/T_1", [*STREAMS, "identities"]].tolist() == [1, -1, 1, -1, "A05", "asvspoof5/T_4850"]
    assert rows.loc["flac_E_eval/E_2", ["label", "codec", "original"]].tolist() == [0, "C05", "flac_E_eval/E_1"]
    assert named(listing, "malformed row") == ["T_4851 T_4 M - - - - bonafide spoof -", "T_4851 T_5 M - - -"]
    assert "D_9.flac" in named(listing, "no row")
    assert named(listing, "identity in two splits") == ["T_4850"]


def test_kodf_codes_say_the_method(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "kodf")
    assert rows.loc["000002/000002_000003_3_0001", ["method", "identities"]].tolist() == [
        "fsgan", "kodf/000002|kodf/000003",
    ]  # fmt: skip
    odd = rows.loc[f"{newer.HEX}/{newer.HEX}_000000_5_0001"]
    assert odd["method"] == "audio-driven"
    assert named(listing, "label conflict") == [f"{newer.HEX}_000000_5_0001.mp4"]
    assert named(listing, "malformed name") == ["000000_adv.mp4", f"{newer.HEX}_000000_9_0001.mp4"]


def test_megammdf_names_the_sound_first(trees: dict[str, Path]) -> None:
    rows, listing = build(trees, "megammdf")
    assert rows.loc["p0/clip0", "label"].tolist() == [1, 1, 1, 0]
    streams = listing.table.groupby("method")[["video_fake", "audio_fake"]].first()
    assert streams.T.to_dict("list") == {"fafv": [1, 1], "farv": [0, 1], "rafv": [1, 0], "real": [0, 0]}
    partly = listing.table.query("video_segments != ''").set_index("method")[["video_segments", "audio_segments"]]
    assert partly.loc["rafv"].tolist() == ["0.500-1.250", ""]
    assert partly.loc["fafv"].tolist() == ["1.000-2.000|3.000-4.000"] * 2
    assert named(listing, "malformed row") == ["clip0.mp4", "x.mp4"]
    assert set(rows["split"]) == {"train", "val", "test"}  # val is listed with backslashes


@pytest.mark.parametrize(
    ("layout", "name", "content", "told"),
    [
        (
            "avdeepfake1mpp",
            "train_metadata.json",
            [{"file": 7, "modify_type": "real"}, 7, None, {"modify_type": 7}],
            ["7", "None", "{'modify_type': 7}"],
        ),
        ("celebdfpp", "List_of_testing_videos.txt", "1\n\n7 x", ["1", "7 x"]),
        (
            "talkingheadbench",
            "real/real_dataset_split_official_ff++.json",
            {"Train": ["a"]},
            ["real_dataset_split_official_ff++.json"],
        ),
        ("megammdf", "Mega-MMDF/test.json", {"a": 1}, ["test.json"]),
        ("megammdf", "Mega-MMDF/attributes.json", [1], ["attributes.json"]),
        ("polyglotfake", "json/real_json_files/en.json", {"videos": [7]}, ["en.json"]),
    ],
)
def test_metadata_of_another_shape_costs_only_itself(
    layout: str, name: str, content: object, told: list[str], trees: dict[str, Path], tmp_path: Path
) -> None:
    newer.MAKERS[layout](tmp_path)
    before = named(read_layout(layout, tmp_path), "malformed row")
    newer.write(tmp_path, name, content)
    listing = read_layout(layout, tmp_path)
    assert len(listing.table) > 0
    assert set(named(listing, "malformed row")) - set(before) == set(told)


@pytest.mark.parametrize(
    "entry", [{"a": 1}, {"start": 1, "end": 2}, [{"start": 1, "end": 2}], "1-2", 5, [1], [1, 2, 3], [[2, 1]], [[]], {}]
)
def test_megammdf_names_every_stretch_that_it_does_not_understand(entry: object, tmp_path: Path) -> None:
    newer.make_megammdf(tmp_path)
    good, bad, real, gone = (
        f"Mega-MMDF/{path}.mp4" for path in ("RAFV/p0/clip0", "FARV/p0/clip0", "RARV/p0/clip0", "x")
    )
    told = {good: {"partial_fake_segments": [1, 2]}, bad: {"partial_fake_segments": entry}, real: {"partial": 1}}
    more = {real: {"partial_fake_segments": [1, 2]}, gone: {"partial_fake_segments": [1, 2]}, "Mega-MMDF/y.mp4": [1, 2]}
    newer.write(tmp_path, "Mega-MMDF/attributes.json", {**told, **more})
    listing = read_layout("megammdf", tmp_path)
    segments = listing.table.set_index("path")["video_segments"] + listing.table.set_index("path")["audio_segments"]
    assert segments[segments != ""].to_dict() == {good: "1.000-2.000"}
    wrong = listing.problems[listing.problems["detail"].str.contains("partial_fake_segments|attributes")]
    assert sorted(wrong["name"]) == sorted([bad, gone, "Mega-MMDF/y.mp4"])
    assert named(listing, "segments repaired") == ["clip0.mp4"]


@pytest.mark.parametrize(
    ("layout", "name", "content"),
    [
        ("avdeepfake1mpp", "val_metadata.json", "{"),
        ("deepspeak", "annotations-split-def.csv", "who,where\n1,train\n"),
        ("deepfakeeval2024", "video-metadata-publish-with-links.csv", "Filename,Label\na.mp4,Fake\n"),
        ("mavosdd", "data-00000-of-00001.arrow", "no arrow"),
        ("megammdf", "Mega-MMDF/train.json", "["),
    ],
)
def test_tables_that_are_none_are_named(layout: str, name: str, content: str, tmp_path: Path) -> None:
    newer.MAKERS[layout](tmp_path)
    newer.write(tmp_path, name, content)
    with pytest.raises(ManifestError, match=name.replace(".", r"\.")):
        read_layout(layout, tmp_path)


def test_a_table_read_by_columns_is_the_one_read_by_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [np.sort(rng.uniform(0, 20, (n, 2))).tolist() for n in rng.integers(0, 4, 200)]
    entries = [
        {"file": f"a}}, {{/é{n}.mp4", "more": {"x": n}, "spans": part} | ({"kind": str(n)} if n % 2 else {})
        for n, part in enumerate(pairs)
    ]
    fields = {"file": pa.string(), "kind": pa.string(), "spans": PERIODS}
    texts = {
        "list.json": json.dumps(entries),
        "pretty.json": json.dumps(entries, indent=2, ensure_ascii=False),
        "lines.jsonl": "\n".join(map(json.dumps, entries)),
    }
    for name, text in texts.items():
        newer.write(tmp_path, name, text)
        table, odd = read_objects(tmp_path / name, fields)
        assert odd == []
        assert table["file"].to_pylist() == [entry["file"] for entry in entries]
        assert table["kind"].to_pylist() == [entry.get("kind") for entry in entries]
        written, wrong = format_periods(table["spans"])
        assert written.tolist() == [format_segments(part) for part in pairs]
        assert not wrong.any()


def test_objects_of_another_shape_are_told_and_the_others_read(tmp_path: Path) -> None:
    entries = [{"file": "a"}, {"file": 7}, None, "b", {"file": "c", "spans": [[1, "x"]]}, {"file": "d", "spans": None}]
    newer.write(tmp_path, "list.json", entries)
    table, odd = read_objects(tmp_path / "list.json", {"file": pa.string(), "spans": PERIODS})
    assert table["file"].to_pylist() == ["a", "d"]
    assert odd == ["None", "b", "7", "c"]


def test_what_is_no_stretch_of_time_is_told() -> None:
    lists = [[[0, 1]], [[1]], [[2, 1]], [], None, [[-1, 1]], [[1, 1.0001]], [[0, 1, 2]], [[float("nan"), 1]], [[3, 4]]]
    written, wrong = format_periods(pa.array(lists, PERIODS))
    assert written.tolist() == ["0.000-1.000", *[""] * 8, "3.000-4.000"]
    assert np.flatnonzero(wrong).tolist() == [1, 2, 5, 6, 7, 8]


def test_a_copy_is_held_against_what_is_published(trees: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = verify_copy("idforge", trees["idforge"])
    here = found.counts.set_index("videos")["here"]
    assert here["split == 'val' and kind == 'pristine'"] == 1
    parts = found.parts.set_index("archive")
    assert parts.loc["tts_textmismatch.zip"].tolist() == [0, 1]
    assert parts.loc["face_audiomismatch_textmismatch.zip", "here"] == 0
    assert not found.is_whole
    assert main(["manifest", "idforge", str(trees["idforge"]), "--verify"]) == 1
    said = capsys.readouterr().out
    assert "nothing of face_audiomismatch_textmismatch.zip is here" in said
    assert "-6028" in said
    assert not (trees["idforge"] / "manifest.csv").exists()


def test_a_copy_of_which_nothing_is_known_to_be_missing_is_whole(
    trees: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["manifest", "avlips", str(trees["avlips"]), "--verify"]) == 0
    assert "no published count is known" in capsys.readouterr().out
    assert verify_copy("deepspeak", trees["deepspeak"]).counts.empty  # the counts are of the other release
    other = verify_copy("deepspeak", trees["deepspeak_1"])
    assert (len(other.counts), other.missing, other.is_whole) == (2, [], False)  # fewer than were counted


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"folders", "realfake"}))
def test_counts_are_conditions_that_can_be_asked_and_have_a_source(layout: str) -> None:
    release = LAYOUTS[layout]
    assert bool(release.counts) == bool(release.counted)
    assert release.licence
    assert release.ask


def test_the_list_and_the_page_name_every_layout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "--list"]) == 0
    said = capsys.readouterr().out
    assert said.strip() == list_layouts()
    page = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
    for layout in LAYOUTS.values():
        assert f"\n{layout.name} " in f"\n{said}"
        assert f"| `{layout.name}` |" in page


def test_the_command_asks_for_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["manifest"], ["manifest", "celebdf"]):
        assert main(words) == 2
        assert "expected a layout and the dataset's folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "ignored",
    [
        ["--resplit"],
        ["--out", "m.csv"],
        ["--val", "0.15"],
        ["--test", "0.2"],
        ["--split-seed", "0"],
        ["--by", "source"],
    ],
    ids=str,
)
def test_what_counts_a_copy_takes_no_option_that_it_would_ignore(
    ignored: list[str], trees: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["manifest", "avlips", str(trees["avlips"]), "--verify", *ignored]) == 2
    assert f"--verify writes and divides nothing: leave {ignored[0]} out" in capsys.readouterr().err
