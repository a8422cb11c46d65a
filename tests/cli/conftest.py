"""Run the command line in this process, and ready-made broken copies of its data."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest
from cli_runs import ROOT, Command, Ran

from epidural_dx.cli import main


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs ``epidural-dx`` with its arguments."""

    def run(*arguments: str, stdin: bytes | None = None) -> Ran:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Return a folder with copies of networks/ and priors/ to break."""
    for name in ("networks", "priors"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path
