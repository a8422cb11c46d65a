"""Ask a running server from Python, with the standard library alone.

    epidural-dx serve                       # in another window
    python examples/client.py [ADDRESS]

The token of a guarded server is read from EPIDURAL_DX_TOKEN.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8765"


class BadQuestionError(Exception):
    """The server could not read the question; the sentence says what is wrong in it."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"])
        self.problem = problem


def ask(path: str, question: dict[str, Any] | None = None, tries: int = 5) -> dict[str, Any]:
    """Ask one question; wait and ask again where the server is busy."""
    request = urllib.request.Request(
        f"{ADDRESS}{path}",
        data=None if question is None else json.dumps(question).encode(),
        headers={"Content-Type": "application/json"},
    )
    token = os.environ.get("EPIDURAL_DX_TOKEN")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    for attempt in range(tries):
        try:
            with urllib.request.urlopen(request, timeout=150) as reply:
                answer: dict[str, Any] = json.load(reply)
                return answer
        except urllib.error.HTTPError as error:
            problem = json.load(error)
            if error.code == 503 and attempt < tries - 1:
                time.sleep(float(error.headers.get("Retry-After", "1")))
                continue
            raise BadQuestionError(problem) from None
    raise AssertionError("unreachable")


def main() -> None:
    """Show causes, next tests, and what a misspelling gets."""
    evidence = {
        "age_years": 30,
        "sex": "male",
        "known_thalassemia": "present",
        "hemoglobin": "79 g/L",
        "enhancement": {"not": "rim"},
    }
    answer = ask("/v1/diagnose", {"evidence": evidence})
    print(f"model {answer['model']['digest'][:12]}, base rates {answer['model']['scenario']}")
    for cause in answer["causes"][:3]:
        print(
            f"  {cause['cause']:20} {cause['probability']:6.1%}"
            f"  (90 %: {cause['lower']:.1%} to {cause['upper']:.1%})"
        )
    print("next:")
    for test in answer["next_tests"][:3]:
        print(f"  {test['test']:20} {test['information_bits']:.2f} bits  {test['reason']}")
    try:
        ask("/v1/diagnose", {"evidence": {"hemoglobn": "79 g/L"}})
    except BadQuestionError as error:
        print(f"refused: {error}")
    print(answer["notice"])


if __name__ == "__main__":
    main()
