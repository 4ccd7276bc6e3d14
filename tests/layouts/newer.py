"""Made-up trees in the shape of newer datasets, with the traps that they are known for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa

HEX = "0123456789abcdef0123"
IDFORGE = (  # split, path
    ("train", "pristine/id00/id00_03/id00_scene_0010-0.mp4"),
    ("train", "lip_rvc_textmismatch/id00/id00_03/id00_scene_0010-0.mp3.mp4"),
    ("train", "lip_tts_textgen/id00/id00_03/id00_scene_0010-0_fake.mp4"),
    ("train", "lip_audiomismatch_textmismatch/id00/id00_03/id00_scene_0010-0.mp4"),
    ("train", "face_tts_textgen/id00/id00_03/id00_scene_0015_0_infoswap.mp4"),
    ("train", "face_tts/id00/id00_03/id00_scene_0015_0_infoswap.mp4"),
    ("train", "tts_textgen/id00/id00_03/id00_scene_0010-0.mp4"),
    ("train", "rvc_textmismatch/id00/id00_03/id00_scene_0002.mp3.mp4"),
    ("val", "pristine/id03/id03_00/id03_scene_0001-0.mp4"),
    ("val", "face_rvc_textmismatch/id03/id03_00/id03_scene_0090_0_roop.mp4"),
    ("test", "pristine/id00/id00_04/id00_scene_0099-0.mp4"),  # a person of train
    ("test", "tts_textmismatch/id04/id04_00/id04_scene_0001-0.mp4"),
)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(root: Path, name: str, content: object) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def write_csv(root: Path, name: str, *rows: tuple[object, ...]) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    with (root / name).open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(rows)


def make_avdeepfake1mpp(root: Path) -> None:
    def entry(name: str, kind: str, *, original: str | None = None, **values: object) -> dict[str, object]:
        fake = [] if kind == "real" else [[0.5, 0.75], [1, 2.0004]]
        sound, picture = fake * (kind != "visual_modified"), fake * (kind != "audio_modified")
        models = {"audio_model": "VITS" if sound else None, "video_model": "Talklip" if picture else None}
        segments = {"fake_segments": fake, "audio_fake_segments": sound, "visual_fake_segments": picture}
        told = {"original": original, "split": "", "modify_type": kind, "video_frames": 100, "audio_frames": 1}
        return {"file": name, **told, **models, **segments, **values}

    clip, talk, silent = "vox_celeb_2/id01358/_1n/00030", "lrs3/0Fi83BHQsMA/00002", "silent_videos/subject_7_ab_vid_1_2"
    train = [
        entry(f"{clip}/real.mp4", "real", original="VoxCeleb2/dev/mp4/id01358/_1n/00030.mp4"),
        entry(f"{clip}/fake_video_fake_audio.mp4", "both_modified", original=f"{clip}/real.mp4"),
        entry(f"{clip}/diff.mp4", "visual_modified", original=f"{clip}/real.mp4", video_model="diff2lip"),
        entry(f"{talk}/real.mp4", "real"),
        entry(f"{talk}/fake.mp4", "visual_modified", original="lrs3/pretrain/x.mp4", video_model=None),
        entry(f"{silent}/real.mp4", "real"),
        entry(f"{talk}/odd.mp4", "visual_modified", visual_fake_segments=[[2, 1]]),
        entry(f"{talk}/short.mp4", "visual_modified", visual_fake_segments=[[2]]),
        entry(f"{talk}/askew.mp4", "real", fake_segments=[[1, 2]]),
    ]
    val = [entry(f"{clip.replace('00030', '00031')}/real.mp4", "real"), entry(f"{silent}/x.mp4", "audio_modified")]
    for split, rows in {"train": train, "val": val}.items():
        write(root, f"{split}_metadata.json", rows)
        touch(root, *(f"{split}/{row['file']}" for row in rows), f"{split}/{clip}/real.json")
    write(root, "testA_files.txt", "000001.mp4\n000002.mp4\n")
    touch(root, "testA/000001.mp4", "testB/000009.mp4")


def make_celebdfpp(root: Path) -> None:
    touch(root, *(f"Celeb-real/id{i}_{n:04d}.mp4" for i in range(4) for n in range(2)), "YouTube-real/00170.mp4")
    swaps = [f"id{i}_id{j}_{n:04d}" for i in range(4) for j in range(4) if i != j for n in range(2)]
    for method in ("FaceSwap/BlendFace", "FaceReenact/LIA"):  # the same names under both
        touch(root, *(f"Celeb-synthesis/{method}/{name}.mp4" for name in swaps))
    touch(root, *(f"Celeb-synthesis/TalkingFace/IP_LAP/id{i}_0000_test_0{i}.mp4" for i in range(4)))
    touch(root, "Celeb-synthesis/FaceSwap/BlendFace/odd.mp4", "Celeb-synthesis/id0_id1_0000.mp4", "more/id0_0000.mp4")
    lines = ("1 YouTube-real/00170.mp4", "0 Celeb-synthesis/FaceSwap/BlendFace/id0_id1_0000.mp4", "what is this")
    more = ("0 Celeb-synthesis/TalkingFace/IP_LAP/id3_0000_test_03.mp4", "1 Celeb-real/id99_0000.mp4")
    write(root, "List_of_testing_videos.txt", "\n".join((*lines, *more)))


def make_deepspeak(root: Path) -> None:
    """Release 2; `make_deepspeak_1` is 1.1."""
    touch(root, *(f"videos/{who}-{who}00.mp4" for who in range(10, 18)))
    fakes = [
        ("diff2lip-1100-1000-playht.mp4", "diff2lip", 11, 10, 1000, "playht"),
        ("diff2lip-1100-1000-real.mp4", "diff2lip", 11, 10, 1000, "real"),
        ("facefusion-1700-1100-.mp4", "facefusion", 17, 11, 1100, ""),  # its source is in the other split
        ("memo-1200-1300-whoever.mp4", "memo", 12, 13, 1300, "whoever"),
        ("memo-1200-1300-gone.mp4", "memo", 12, 13, 1300, "real"),
    ]
    header = ("video-file", "engine", "identity-source", "identity-target", "recording-target", "audio-config")
    write_csv(root, "annotations-fake.csv", header, *fakes)
    touch(root, *(f"videos/{row[0]}" for row in fakes[:4]), "videos/latentsync-1-2-real.mp4", "videos/notes 1.mp4")
    people = [(who, "test" if who > 15 else "train") for who in range(10, 18)]
    write_csv(root, "annotations-split-def.csv", ("identity", "split"), *people, (99, "dev"))


def make_deepspeak_1(root: Path) -> None:
    touch(root, "10-4100.mp4", "11-4897.mp4", "facefusion_gan--10-11--4100-4897--0.mp4")
    touch(root, "wav2lip--10-10--4100-4100--3.mp4")
    write_csv(root, "annotations-split-def.csv", ("identity", "split"), (10, "train"), (11, "test"))


def make_talkingheadbench(root: Path) -> None:
    reals = {
        "Train": {"FaceForensics++": ["071.mp4", "072.mp4"], "CelebV-HQ": ["-5be_UPkLRw_4.mp4", "aaaaaaaaaaa_0.mp4"]},
        "Val": {"CelebV-HQ": ["bbbbbbbbbbb_0.mp4", "-5be_UPkLRw_4.mp4"]},  # one of train again
        "Test": {"CelebV-HQ": ["aaaaaaaaaaa_1.mp4"]},
    }
    write(root, "real/real_dataset_split_official_ff++.json", reals)
    touch(root, "real/ff++/071.mp4", "real/celebvhq/-5be_UPkLRw_4.mp4", "real/celebvhq/unlisted_0.mp4")
    for method in ("Hallo", "EmoPortrait"):
        touch(root, f"fake/{method}/train/00198---5be_UPkLRw_4--{method}.mp4")
        touch(root, f"fake/{method}/val/00199--bbbbbbbbbbb_0--{method}.mp4")
        touch(root, f"fake/{method}/test/00200--aaaaaaaaaaa_1--{method}.mp4")  # clip 0 of this video is in train
    touch(root, "fake/Hallo/test/00201--bbbbbbbbbbb_0--Hallo.mp4", "fake/Hallo/test/odd.mp4")  # its driver is in val
    touch(root, "fake/additional_dataset/MAGI-1/3.mp4", "fake/additional_dataset/Hallo3/7--5be_UPkLRw_4.mp4")
    touch(root, "audio/celebvhq/aaaaaaaaaaa_1.wav")


def make_idforge(root: Path) -> None:
    for split in ("train", "val", "test"):
        lines = [path for where, path in IDFORGE if where == split]
        write(root, f"IDForge_v1/{split}.csv", "\n".join([*lines, "" if split == "val" else f"odd/{split}.mp4"]))
    touch(root, *(f"main/{path}" for _, path in IDFORGE[:-1]), "ref/id00/id00_00/id00_scene_0001-0.mp4")


def make_polyglotfake(root: Path) -> None:
    for language, other in (("en", "ja"), ("ja", "en")):
        touch(root, *(f"real/{language}_{n}.mp4" for n in range(6)))
        touch(
            root,
            *(f"fake/to_{other}/{language}_{n}_to_{other}_{v}.mp4" for n in range(6) for v in ("xtts", "bark_freevc")),
        )
    touch(root, "fake/to_en/ja_9_to_en_xtts.mp4", "fake/to_en/nothing.mp4", "more/en_0.mp4")
    videos = [
        {"filename": f"en_{n}.mp4", "source": f"talk|{n // 2}", "characters": [{"age": 40, "sex": "f"}] * (n > 0)}
        for n in range(6)
    ]
    write(root, "json/real_json_files/en.json", {"videos": videos})
    write(root, "json/real_json_files/ja.json", "{")


def make_mavosdd(root: Path, *, streams: bool = True) -> None:
    names = [
        ("english/real/aaaaaaaaaaa_10_0.mp4", "real", "train", "english", "real", False, False, "real"),
        ("english/memo/face1.png_aaaaaaaaaaa_10_0.mp4.mp4", "fake", "train", "english", "memo", False, False, "real"),
        ("arabic/real/bbbbbbbbbbb_0_3.mp4", "real", "validation", "arabic", "real", False, False, "real"),
        ("english/memo/face2.png_ccccccccccc_5_0.mp4.mp4", "fake", "test", "english", "memo", False, False, "xtts_v2"),
        ("english/sonic/face2.png_aaaaaaaaaaa_7_0.mp4.mp4", "fake", "test", "english", "sonic", True, False, "real"),
        ("german/real/ddddddddddd_1_1.mp4", "real", "test", "german", "real", False, True, "real"),
        ("hindi/knnvc/odd name.mp4", "fake", "test", "hindi", "real", True, True, "knnvc"),
        ("hindi/gone.mp4", "fake", "test", "hindi", "roop", True, True, "real"),
        ("hindi/odd.mp4", "perhaps", "test", "hindi", "roop", True, True, "real"),
    ]
    columns = ("video_path", "label", "split", "language", "generative_method", "open_set_model", "open_set_language")
    rows = [dict(zip((*columns, "audio_generative_method"), row, strict=True)) for row in names]
    for row in rows:
        row["video_fake"], row["audio_fake"] = (
            row["generative_method"] != "real",
            row["audio_generative_method"] != "real",
        )
    kept = rows if streams else [{name: row[name] for name in columns} for row in rows]
    root.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(kept)
    with pa.ipc.new_stream(root / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    write(root, "state.json", {})
    touch(root, *(row[0] for row in names if row[0] != "hindi/gone.mp4"), "hindi/extra.mp4")


def make_avlips(root: Path) -> None:
    touch(root, *(f"AVLips/{folder}/{n}.mp4" for folder in ("0_real", "1_fake") for n in range(12)))
    touch(root, *(f"AVLips/wav/{folder}/{n}.wav" for folder in ("0_real", "1_fake") for n in range(12)))
    touch(root, "AVLips/0_real/0.avi", "AVLips/other/0.mp4")


def make_deepfakeeval2024(root: Path) -> None:
    header = ("Filename", "Video Ground Truth", "Finetuning Set", "Media Link")
    rows = [(f"{n}.mp4", ("Real", "Fake")[n % 2], "Train", f"https://www.x.com/a/{n}") for n in range(8)]
    rows += [
        ("8.mp4", "Unknown", "Train", ""),
        ("9.mp4", "Fake", "Test", "https://x.com/a/1"),
        ("10.mp4", "Real", "Test", ""),
    ]
    rows += [("11.mp4", "Real", "Neither", ""), ("12.mp4", "Fake", "Test", "https://y.org")]
    write_csv(root, "video-metadata-publish-with-links.csv", header, *rows)
    touch(root, *(f"video-data/{n}.mp4" for n in range(12)), "video-data/99.mp4", "audio-data/1.mp3")


def make_asvspoof5(root: Path) -> None:
    lists = {
        "ASVspoof5.train.tsv": ("flac_T", [
            "T_4850 T_1 F - - - AC3 A05 spoof -", "T_4850 T_2 F - - - - bonafide bonafide -",
            "T_4851 T_3 M - - - AC1 A01 spoof -", "T_4851 T_4 M - - - - bonafide spoof -", "T_4851 T_5 M - - -",
        ]),
        "ASVspoof5.dev.track_1.tsv": ("flac_D", [
            "D_0062 D_1 F - - - AC1 A11 spoof -", "D_0062 D_2 F - - - - bonafide bonafide -",
        ]),
        "ASVspoof5.eval.track_1.tsv": ("flac_E_eval", [
            "E_1607 E_1 M - - - - bonafide bonafide -", "E_1607 E_2 M C05 3 E_1 - bonafide bonafide -",
            "T_4850 E_3 F C01 1 E_9 AC2 A17 spoof -",
        ]),
    }  # fmt: skip
    for name, (folder, lines) in lists.items():
        write(root, f"ASVspoof5_protocols/{name}", "\n".join(lines) + "\n")
        touch(root, *(f"{folder}/{line.split()[1]}.flac" for line in lines))
    touch(root, "flac_D/D_9.flac")  # for enrolment


def make_kodf(root: Path) -> None:
    people = [f"{n:06d}" for n in range(12)] + [HEX]
    touch(root, *(f"original/{who}/{who}_{n:03d}.mp4" for who in people for n in range(2)))
    for n, who in enumerate(people):
        source = people[n ^ 1] if n < 12 else who
        touch(root, f"dfl/20200801/{who}/{who}_{source}_1_0001.mp4")
        touch(root, f"fsgan/20200801/{who}/{who}_{source}_3_0001.mp4")
    touch(root, f"dffs/20200801/{HEX}/{HEX}_000000_5_0001.mp4")  # by its code driven by sound
    touch(root, f"dfl/1/{HEX}/{HEX}_000000_9_0001.mp4", "attack/000000_adv.mp4")


def make_megammdf(root: Path) -> None:
    made = [f"Mega-MMDF/{kind}/p{n}/clip{n}.mp4" for n in range(3) for kind in ("RARV", "RAFV", "FARV", "FAFV")]
    lists = {"train": made[:4], "val": made[4:8], "test": made[8:]}
    for split, paths in lists.items():
        told = [path.replace("/", "\\") if split == "val" else path for path in paths]
        write(root, f"Mega-MMDF/{split}.json", [*told, *["Mega-MMDF/FACEV/x.mp4"] * (split == "test")])
    periods = {made[1]: [0.5, 1.25], made[7].replace("/", "\\"): [[1, 2], [3, 4]], made[2]: "all"}
    told = {path: {"partial_fake_segments": periods.get(path), "method": {"video": 1}} for path in [*made, *periods]}
    write(root, "Mega-MMDF/attributes.json", told)
    touch(root, *made[:-1], "Mega-MMDF/FAFV/more.mp4")


MAKERS = {
    name.removeprefix("make_"): make
    for name, make in list(globals().items())
    if name.startswith("make_") and name != "make_deepspeak_1"
}
