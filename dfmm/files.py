"""Files that appear whole or not at all, written beside and renamed; and what a file's content is known by."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class EndingError(ValueError):
    """A name whose ending is not that of what would be written; the message lists those that are."""


def check_file_name(path: str | Path, endings: Sequence[str], example: str) -> None:
    """Raise unless a file with one of these endings may be written under this name: asked before the work, not after.

    Args:
        example: a file's name, for who gave a folder's.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file, such as {path / example}")
    if path.suffix.lower() not in endings:
        raise EndingError(f"{path}: expected a name that ends in {' or '.join(endings)}, as what is written does")


def name_partial(path: Path) -> Path:
    """Return a name beside `path`, of the same ending, that no other process or thread uses."""
    return path.with_name(f".{path.stem}.partial-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def write_beside(path: str | Path) -> Iterator[Path]:
    """Yield where to write a file, which takes its place as the block ends; after an error nothing is left of it."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = name_partial(path)
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if partial.name not in str(error):  # it is of another file, which the block reads
            raise
        raise name_target(error, path) from error
    finally:
        partial.unlink(missing_ok=True)


def name_target(error: OSError, path: Path) -> OSError:
    """Return an error about a file's hidden name as one, of the same class, about the name that somebody asked for."""
    number = error.errno or errno.EIO
    why = os.strerror(number) if number in errno.errorcode else error.strerror
    message = f"{path}: cannot be written ({why}); name another place, or make room for it there"
    named = type(OSError(number, why))(message)  # Python has a class for each of the common numbers
    named.errno = number
    return named


def write_whole(content: str | bytes, path: str | Path) -> Path:
    """Write a file that a reader finds as it was or as it is to be, never in part; texts are UTF-8."""
    with write_beside(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


def hash_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal, without holding the whole of it."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def write_json(values: Any, path: str | Path) -> Path:
    """Write strict JSON; the file appears whole or not at all."""
    return write_whole(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)
