"""Where networks and priors lie, what they are worth (digest), and compiled models on disk."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from epidural_dx import __version__
from epidural_dx.errors import ModelError

#: Written into every stored model; a change of the stored classes needs a new number.
FORMAT = 3

#: What of the networks folder is read, as patterns of names below it.
NETWORK_FILES = ("*.yaml",)

#: What of the priors folder is read, as patterns of names below it.
PRIOR_FILES = (
    *(
        f"{name}.csv"
        for name in (
            "associations",
            "deviations",
            "gates",
            "indirect",
            "rates",
            "sources",
            "stated",
            "terminology",
            "tests",
            "thresholds",
            "units",
        )
    ),
    *(f"{name}.yaml" for name in ("fhir", "pooling", "scenarios", "topics", "utilities")),
    "elicited/*.csv",
    "literature/*.csv",
    "patients/*.csv",
)

#: Bytes of the SHA-256 that precede a stored model.
_CHECKSUM = 32


def data_folder(name: str, given: str | os.PathLike[str] | None) -> Path:
    """Folder ``networks``, ``priors`` or ``cases``: the one given, the checkout's, or the wheel's.

    Raises
    ------
    ModelError
        The folder does not exist.
    """
    if given is not None:
        folder = Path(given)
        if not folder.is_dir():
            raise ModelError(f"the {name} folder does not exist", file=str(folder))
        return folder
    package = Path(__file__).resolve().parent
    for folder in (package.parent.parent / name, package / name):
        if folder.is_dir():
            return folder
    raise ModelError(f"the {name} folder does not exist", file=str(package / name))


def cases_folder() -> Path | None:
    """Folder of the published patients, or None where they are not installed."""
    try:
        return data_folder("cases", None)
    except ModelError:
        return None


def published_patients() -> dict[str, Path]:
    """Files of the published patients by name; none where they are not installed."""
    folder = cases_folder()
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def unread_files(networks: Path, priors: Path) -> list[Path]:
    """Tables and settings below both folders that nothing reads, such as a misspelled name.

    Returns
    -------
    list of Path
        Of the ``.yaml``, ``.yml`` and ``.csv`` files there.
    """
    read = _read_files(networks, NETWORK_FILES) | _read_files(priors, PRIOR_FILES)
    return [
        path
        for folder in (networks, priors)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in (".yaml", ".yml", ".csv") and path.is_file() and path not in read
    ]


def _read_files(folder: Path, patterns: Iterable[str]) -> set[Path]:
    return {path for pattern in patterns for path in folder.glob(pattern)}


def digest(networks: Path, priors: Path, *extra: str) -> str:
    """SHA-256 over version, names and contents of all files that are read of both folders.

    Parameters
    ----------
    networks, priors : Path
    extra : str
        Options that change the model (scenario, cause mix).

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ModelError
        A folder that holds no networks or no priors.
    """
    sha = hashlib.sha256(f"{__version__}/{FORMAT}".encode())
    for text in extra:
        sha.update(b"\0" + text.encode())
    for folder, needed, read in (
        (networks, "*.yaml", NETWORK_FILES),
        (priors, "sources.csv", PRIOR_FILES),
    ):
        if next(folder.glob(needed), None) is None:
            raise ModelError(f"the folder has no {needed}", file=str(folder))
        for path in sorted(_read_files(folder, read)):
            sha.update(b"\0" + path.relative_to(folder).as_posix().encode() + b"\0")
            sha.update(path.read_bytes())
    return sha.hexdigest()


def storage_key(model_digest: str) -> str:
    """Name of a stored model: its digest, and the state of the code that reads it back."""
    sha = hashlib.sha256(f"{model_digest}/{sys.version_info[:2]}".encode())
    package = Path(__file__).resolve().parent
    for path in sorted(package.rglob("*.py")):
        stat = path.stat()
        sha.update(f"{path.relative_to(package)}:{stat.st_size}:{stat.st_mtime_ns}".encode())
    return sha.hexdigest()[:32]


def cache_folder() -> Path | None:
    """Folder of compiled models, or None where EPIDURAL_DX_CACHE is ``off``."""
    setting = os.environ.get("EPIDURAL_DX_CACHE", "")
    if setting == "off":
        return None
    if setting:
        return Path(setting)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "epidural-dx"


def read_stored(key: str) -> Any | None:
    """Return the compiled model with that key, or None where none (readable) is stored.

    Only files that this user wrote are read: a stored model is a pickle.
    """
    folder = cache_folder()
    if folder is None:
        return None
    path = folder / f"{key}.pickle"
    try:
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            return None
        written = path.read_bytes()
        checksum, content = written[:_CHECKSUM], written[_CHECKSUM:]
        # A damaged file could still load, and answer wrongly.
        if hashlib.sha256(content).digest() != checksum:
            return None
        return pickle.loads(content)  # noqa: S301
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError):
        return None


def write_stored(key: str, value: Any) -> None:
    """Store a compiled model whole or not at all; a read-only disk is no error."""
    folder = cache_folder()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as handle:
            content = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
            handle.write(hashlib.sha256(content).digest())
            handle.write(content)
        os.replace(handle.name, folder / f"{key}.pickle")
    except OSError:
        return
