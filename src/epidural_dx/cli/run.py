"""Run one command: errors become one line on standard error, a closed pipe ends quietly."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from epidural_dx.errors import EpiduralDxError

#: Exit code of bad input.
BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Raises
    ------
    SystemExit
        Always: 0 done, 2 bad input.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            # A terminal without Unicode shows a question mark instead of a traceback.
            reconfigure(errors="replace")
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    import typer

    from epidural_dx.cli.commands import app

    # Typer carries Click inside since 0.16 and imports it before: only this name is in both.
    bad_usage: type[Any] = typer.BadParameter.__mro__[2]
    try:
        code = app(arguments, prog_name="epidural-dx", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except EpiduralDxError as error:
        return _complain(str(error))
    except bad_usage as error:
        return _complain(error.format_message())
    except BrokenPipeError:
        # Whatever read the output has what it wanted; flushing at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is not None:
            return _complain(f"{str(error.filename)[:80]} cannot be opened ({error.strerror})")
        # A full disk: what could not be written is not tried again at exit.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _complain(f"the output cannot be written ({error.strerror or error})")
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted")
    return int(code) if isinstance(code, int) else 0


def _complain(message: str) -> int:
    print(f"epidural-dx: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT
