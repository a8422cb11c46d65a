"""Files that commands write: whole or not at all, and refused before the work begins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epidural_dx.errors import CaseError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Endings of pictures, each with what keeps the date out of the file.
PICTURES: dict[str, dict[str, Any]] = {
    ".png": {},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


def save_picture(figure: Figure, out: Path) -> None:
    """Write a picture whole, the same bytes for the same drawing.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    out : Path
        Its ending says the format; see `check_place` with `PICTURES`.

    Raises
    ------
    CaseError
        It cannot be written.
    """
    import matplotlib

    ending = out.suffix.lower()
    with matplotlib.rc_context({"svg.hashsalt": "epidural-dx"}), written_whole(out) as temporary:
        figure.savefig(temporary, format=ending[1:], dpi=150, metadata=PICTURES[ending])


def check_place(out: Path, endings: Sequence[str] = ()) -> None:
    """Refuse a file that could not be written, before anything is computed for it.

    Parameters
    ----------
    out : Path
    endings : sequence of str
        Endings that say a format that can be written, such as ``.csv``; empty for any.

    Raises
    ------
    CaseError
        Another ending, a folder, or a place in no folder.
    """
    if endings and out.suffix.lower() not in endings:
        raise CaseError(
            "cannot be written: its ending says no format", where=str(out), allowed=endings
        )
    if out.is_dir():
        raise CaseError("cannot be written (is a folder)", where=str(out))
    if not out.parent.is_dir():
        raise CaseError("cannot be written (there is no such folder)", where=str(out))


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """Yield a temporary file with the same ending, which takes the place of `out` at the end.

    Raises
    ------
    CaseError
        It cannot be written; an older file stays as it was.
    """
    if out.exists() and not out.is_file():
        raise CaseError("cannot be written (is no ordinary file)", where=str(out))
    name = ""
    out = out.resolve()  # what a link points to is written, not the link replaced
    try:
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=".", suffix=out.suffix)
        os.close(handle)
        yield Path(name)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, out)
    except OSError as error:
        raise CaseError(f"cannot be written ({error.strerror or error})", where=str(out)) from None
    finally:
        if name and os.path.exists(name):
            os.unlink(name)
