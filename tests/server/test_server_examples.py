"""The client examples run against a real server and show what they promise."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_process import Served, serving

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve for both examples."""
    with serving(tmp_path_factory.mktemp("served")) as one:
        yield one


@pytest.mark.parametrize(
    ("program", "file"), [(sys.executable, "client.py"), ("node", "client.mjs")]
)
def test_example_shows_causes_tests_and_a_refusal(served: Served, program: str, file: str) -> None:
    """An example prints the leading cause, a next test, and the sentence on a misspelling."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    ran = subprocess.run(
        [program, str(ROOT / "examples" / file), f"http://127.0.0.1:{served.port}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    status, answer = served.ask("/v1/explain", {"evidence": {"age_years": 30}})
    assert status == 200 and answer["model"]["digest"][:12] in ran.stdout
    lines = ran.stdout.splitlines()
    assert lines[1].split()[0] == "emh"
    assert " bits " in lines[5]
    refused = "refused: hemoglobn is not a variable of the model; did you mean hemoglobin"
    assert any(line.startswith(refused) for line in lines)
    assert "Not a medical device" in lines[-1]
