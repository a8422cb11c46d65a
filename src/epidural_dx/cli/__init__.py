"""The command line: ``epidural-dx``. It shows what the layers below compute, nothing more."""

from epidural_dx.cli.run import main

__all__ = ["main"]
