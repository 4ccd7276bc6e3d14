"""The house: imports follow a video's way, and a room is entered by its door."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dfmm"
GROUND = [
    *("files", "words", "bars", "processes", "memory", "compiler", "sections", "settings", "environment"),
    *("paths", "tables", "manifest", "people", "metrics", "runs"),
]
# From the ground up: a room imports what stands before it, and nothing that comes after.
ORDER = [
    *GROUND,
    *("media", "faces", "extraction", "degrade", "forge", "layouts", "sample", "dataset", "audit"),
    *("model", "training", "figures", "evaluation"),
    *("proposal", "strip", "webpage", "headless", "cli", "__main__"),
]
ROOMS = [room.parent.name for room in sorted(PACKAGE.glob("*/__init__.py"))]


def find_imports(source: str, place: str) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of every import of the package's own, wherever in a file it stands."""
    for node in ast.walk(ast.parse(source, place)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "dfmm":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "dfmm")
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "dfmm.relative", "a relative import"


def list_doors(room: str) -> set[str]:
    """Return what others may use of a room: modules and names, as its `__init__` lists them."""
    return set(importlib.import_module(f"dfmm.{room}").__all__)


def find_faults(source: str, place: str, doors: dict[str, set[str]]) -> list[str]:
    """Return what is wrong with the imports of a file of the package: `place` is its path below `dfmm/`."""
    faults, home = [], place.split("/")[0].removesuffix(".py")
    for module, name in find_imports(source, place):
        path = module.split(".")[1:] or [name]  # `from dfmm import figures`
        room, inside = path[0], path[1] if len(path) > 1 else name
        if room == home:
            continue
        if room not in ORDER:
            faults.append(f"dfmm/{place} imports {module} {name}, which is no room")
        elif ORDER.index(room) > ORDER.index(home):
            faults.append(f"dfmm/{place} imports dfmm.{room}, which stands above dfmm.{home}")
        elif room in doors and module != "dfmm" and inside not in doors[room]:
            faults.append(f"dfmm/{place} imports {module} {name}, which dfmm/{room}/__init__.py does not name")
    return faults


@pytest.fixture(scope="module")
def doors() -> dict[str, set[str]]:
    return {room: list_doors(room) for room in ROOMS}


def test_every_room_has_its_place_in_the_order() -> None:
    modules = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__"}
    assert {*modules, *ROOMS} == set(ORDER)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_does_and_what_others_may_use(room: str, doors: dict[str, set[str]]) -> None:
    assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))
    assert doors[room]


def test_imports_follow_a_videos_way_and_enter_by_the_door(doors: dict[str, set[str]]) -> None:
    files = [file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py"]
    faults = [
        fault
        for file in files
        for fault in find_faults(file.read_text(encoding="utf-8"), file.relative_to(PACKAGE).as_posix(), doors)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("source", "place", "why"),
    [
        ("from dfmm.dataset import load_manifest", "media/decode.py", "dfmm/media/decode.py imports dfmm.dataset"),
        ("def late():\n    from dfmm.cli import main", "runs.py", "dfmm/runs.py imports dfmm.cli"),
        ("from dfmm import training", "faces/track.py", "stands above dfmm.faces"),
        ("from dfmm.faces.detect import link_faces", "audit/facts.py", "does not name"),
        ("from .track import Track", "faces/follow.py", "relative"),
        ("import dfmm.attic", "faces/follow.py", "no room"),
    ],
)
def test_a_wrong_import_is_named_with_its_file(source: str, place: str, why: str, doors: dict[str, set[str]]) -> None:
    (fault,) = find_faults(source, place, doors)
    assert why in fault
    assert fault.startswith(f"dfmm/{place} ")


def test_the_walk_through_the_house_names_what_is_there() -> None:
    """Every function that docs/architecture.md sends a reader to is where it says."""
    walk = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = [name for name in re.findall(r"`([a-z_]+(?:\.[A-Za-z_]+)+)`", walk) if name.split(".")[0] in ORDER]
    assert len(names) > 20
    for name in names:
        module, _, member = name.rpartition(".")
        assert member == "py" or hasattr(importlib.import_module(f"dfmm.{module}"), member), name
    files = [file for file in re.findall(r"`([a-z_]+/[a-z_]+\.py)`", walk) if not file.startswith("tests/")]
    assert [file for file in files if not (PACKAGE / file).is_file()] == []


@pytest.mark.parametrize(
    ("start", "heavy"),
    [
        ("import dfmm", {"torch", "pandas", "numpy", "av", "cv2", "matplotlib", "sklearn"}),
        ("import dfmm.cli; dfmm.cli.make_parser().format_help()", {"torch", "pandas", "numpy", "av", "cv2"}),
        # What workers are started for: each would import PyTorch anew.
        ("import dfmm.extraction.extract, dfmm.dataset.skimming, dfmm.audit.facts", {"torch", "matplotlib"}),
        ("import dfmm.dataset.manifests", {"torch", "matplotlib"}),  # as `dfmm extract` does, which starts them
        ("import dfmm.evaluation; dfmm.evaluation.open_judge", {"torch", "matplotlib", "sklearn"}),
        (
            "import dfmm.cli; assert dfmm.cli.main(['score', dfmm.cli.__file__, '--run', 'outputs/nothing']) == 1",
            {"torch", "matplotlib", "sklearn"},
        ),
        ("import dfmm.evaluation.evaluate", {"matplotlib", "triton", "torch._dynamo", "sklearn", "scipy.stats"}),
    ],
    ids=["package", "help", "worker", "manifest", "synchrony alone", "no such run", "model"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(start: str, heavy: set[str]) -> None:
    code = f"{start}; import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)
