"""YAML without its surprises: no doubled keys, no numbers made of underscores, no dates."""

from __future__ import annotations

import functools
import re
from typing import Any

from epidural_dx.errors import ModelError

__all__ = ["load_yaml"]


@functools.lru_cache(maxsize=2)
def _loader(aliases: bool) -> Any:
    import yaml  # type: ignore[import-untyped,unused-ignore]

    class Loader(yaml.SafeLoader):  # type: ignore[misc,unused-ignore]
        """Reads what a person meant: ``18_39`` and ``2024-10-23`` stay text."""

        yaml_implicit_resolvers = {
            first: [
                (tag, pattern)
                for tag, pattern in resolvers
                if tag
                not in (
                    "tag:yaml.org,2002:int",
                    "tag:yaml.org,2002:float",
                    "tag:yaml.org,2002:timestamp",
                    "tag:yaml.org,2002:value",
                )
            ]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def compose_node(self, parent: Any, index: Any) -> Any:
            """Refuse aliases: a few lines of them can stand for gigabytes."""
            if not aliases and self.check_event(yaml.AliasEvent):
                event = self.get_event()  # type: ignore[no-untyped-call,unused-ignore]
                raise ModelError(
                    f"the alias *{event.anchor} is not read; write the value out",
                    line=event.start_mark.line + 1,
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            """Refuse a key that stands twice."""
            seen: set[object] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                try:
                    again = key in seen
                except TypeError:
                    again = False
                if again:
                    raise ModelError(
                        "stands twice in one mapping",
                        line=key_node.start_mark.line + 1,
                        name=str(key),
                    )
                if key_node.tag != "tag:yaml.org,2002:merge":
                    seen.add(key if not isinstance(key, list | dict) else id(key))
            return super().construct_mapping(node, deep=deep)

        def construct_number(self, node: Any) -> int | float:
            """Read a decimal number."""
            text = self.construct_scalar(node)
            try:
                # Longer ones are no counts, and integers without end are slow to read.
                return int(text) if len(text) <= 18 else float(text)
            except ValueError:
                return float(text)

    Loader.add_implicit_resolver(
        "tag:epidural-dx:number",
        re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z"),
        list("-+.0123456789"),
    )
    Loader.add_constructor("tag:epidural-dx:number", Loader.construct_number)
    return yaml, Loader


def load_yaml(text: str, *, aliases: bool = False) -> Any:
    """Read one YAML document.

    Parameters
    ----------
    text : str
        The document.
    aliases : bool
        Whether ``*name`` may repeat an anchored value, as the model's own files do.

    Returns
    -------
    object
        Mappings, lists, text, numbers, booleans and None.

    Raises
    ------
    ModelError
        If it is not YAML, holds several documents, an alias or a doubled key; `line` says
        where.
    """
    yaml, loader = _loader(aliases)
    try:
        return yaml.load(text, Loader=loader)
    except ModelError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        line = None if mark is None else mark.line + 1
        if "chomping" in str(problem):
            # ">" and "|" begin block text in YAML; ">=5" and ">20 mg/L" must stand in quotes.
            problem = "a value that begins with > or | needs quotes"
        raise ModelError(f"is not YAML ({' '.join(str(problem).split())})", line=line) from error
    except RecursionError as error:
        raise ModelError("is nested too deeply to be read") from error
    except (ValueError, LookupError, AttributeError, OverflowError) as error:
        # PyYAML's own readers of explicit tags such as !!int fail so.
        raise ModelError("is not YAML (a value does not fit its tag !!)") from error
