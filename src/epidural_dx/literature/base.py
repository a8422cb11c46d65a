"""The literature base as a whole: rows, sources and experts, and pooled columns from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from epidural_dx.errors import ModelError
from epidural_dx.literature.pooling import (
    ExpertColumn,
    Observation,
    Pooled,
    Settings,
    interval_count,
    pool,
    pool_group,
    settings_from,
)
from epidural_dx.literature.rows import (
    ExpertCell,
    Figure,
    Source,
    check_source_ids,
    read_experts,
    read_figures,
    read_indirect,
    read_sources,
)


@dataclass(frozen=True)
class LiteratureBase:
    """Everything below ``priors/`` that feeds probabilities.

    Attributes
    ----------
    figures : tuple of Figure
    experts : tuple of ExpertCell
    sources : dict of str to Source
    settings : Settings
    indirect : dict of str to str
        Why a figure is about other people or another definition than its cell, by row id.
    """

    figures: tuple[Figure, ...]
    experts: tuple[ExpertCell, ...]
    sources: Mapping[str, Source]
    settings: Settings
    indirect: Mapping[str, str] = field(default_factory=dict)

    def figure(self, row: str) -> Figure:
        """Return the figure with the id `row`.

        Raises
        ------
        KeyError
            No such row.
        """
        for figure in self.figures:
            if figure.id == row:
                return figure
        raise KeyError(row)

    @cached_property
    def _cells(self) -> dict[tuple[str, str], list[ExpertCell]]:
        found: dict[tuple[str, str], list[ExpertCell]] = {}
        for cell in self.experts:
            found.setdefault((cell.variable, cell.given), []).append(cell)
        return found

    def cells(self, variable: str, given: str) -> Sequence[ExpertCell]:
        """Return the experts' cells of P(variable | given), in the order of their files."""
        return self._cells.get((variable, given), ())

    def pooled_columns(
        self,
        variable: str,
        states: Sequence[str],
        given: str,
        given_states: Sequence[str],
        *,
        shares: Mapping[str, float] | None = None,
        context: str = "",
        keep: Callable[[Figure], bool] | None = None,
    ) -> dict[str, Pooled]:
        """Pool P(variable | given) for every state of `given`.

        Parameters
        ----------
        variable, states : str, sequence of str
            The variable and its states, in order.
        given, given_states : str, sequence of str
            The conditioning variable and its states.
        shares : mapping, optional
            Weight of each state of `given` inside a group of states that one figure covers.
        context : str
            Only expert cells with this context are used (empty: the plain column).
        keep : callable, optional
            Leave out figures for which it returns False (one source left out, and the like).

        Returns
        -------
        dict of str to Pooled
            One column per state of `given`.
        """
        position = {s: i for i, s in enumerate(states)}
        singles: dict[str, list[Observation]] = {g: [] for g in given_states}
        groups: dict[tuple[str, ...], list[Observation]] = {}
        for figure in self.figures:
            if figure.use != "pool" or figure.variable != variable or figure.given != given:
                continue
            if keep is not None and not keep(figure):
                continue
            observation = self.observation(figure, position)
            members = tuple(g for g in given_states if g in figure.given_states)
            if len(members) != len(set(figure.given_states)):
                unknown = next(g for g in figure.given_states if g not in given_states)
                raise ModelError(
                    f"{unknown!r} is no state of {given}; states are {', '.join(given_states)}",
                    file=figure.file,
                    line=figure.line,
                    name=figure.id,
                )
            if len(members) == 1:
                singles[members[0]].append(observation)
            else:
                groups.setdefault(members, []).append(observation)
        experts = self._expert_columns(variable, position, given, context)
        columns = {
            g: pool(len(states), singles[g], experts.get(g, ()), self.settings)
            for g in given_states
        }
        # small groups first; the order of the rows must not matter
        for members, observations in sorted(groups.items(), key=lambda g: (len(g[0]), g[0])):
            weights = [(shares or {}).get(g, 1.0) for g in members]
            moved = pool_group([columns[g] for g in members], weights, observations, self.settings)
            columns.update(zip(members, moved, strict=True))
        return columns

    def observation(self, figure: Figure, position: Mapping[str, int]) -> Observation:
        """Turn one figure into an observation on the states in `position`.

        Raises
        ------
        ModelError
            A state that the variable does not have.
        """
        unknown = [s for s in figure.states if s not in position]
        if unknown or not figure.states:
            raise ModelError(
                f"{(unknown or [''])[0]!r} is no state of {figure.variable}; "
                f"states are {', '.join(position)}",
                file=figure.file,
                line=figure.line,
                name=figure.id,
            )
        share = figure.proportion
        assert share is not None  # read_figures refuses pooled rows without a number
        rule = self.settings
        recalled = figure.verified != "seen"
        counted = figure.n is not None and figure.n > 0 and not recalled
        if recalled:
            count = rule.recalled_count
        elif counted:
            assert figure.n is not None
            count = figure.n
        elif figure.low is not None and figure.high is not None and figure.high > figure.low:
            count = min(rule.interval_cap, interval_count(share, figure.low, figure.high))
        else:
            count = rule.point_without_n
        if figure.source_id.startswith("own_count"):
            count *= rule.own_count
        elif not recalled:
            count *= rule.seen
        study = "|".join((figure.source_id, figure.population, figure.context, f"{figure.n}"))
        if recalled or not figure.source_id:
            study = figure.id
        return Observation(
            states=frozenset(position[s] for s in figure.states),
            share=share,
            count=count,
            counted=counted,
            study=study,
            fixed=recalled,
            row=figure.id,
            indirect=figure.id in self.indirect,
        )

    def _expert_columns(
        self, variable: str, position: Mapping[str, int], given: str, context: str
    ) -> dict[str, list[ExpertColumn]]:
        """Experts' columns of P(variable | given), normalised, keyed by the given state."""
        raw: dict[tuple[str, str], list[ExpertCell]] = {}
        for cell in self.cells(variable, given):
            if cell.context == context:
                for g in cell.given_states:
                    raw.setdefault((g, cell.expert), []).append(cell)
        columns: dict[str, list[ExpertColumn]] = {}
        for (g, expert), cells in raw.items():
            mean = np.zeros(len(position))
            for cell in cells:
                members = [position[s] for s in cell.states if s in position]
                if not members:
                    raise ModelError(
                        f"{'|'.join(cell.states)!r} is no state of {variable}; "
                        f"states are {', '.join(position)}",
                        file=cell.file,
                        line=cell.line,
                        name=f"{given}={g}",
                    )
                mean[members] += cell.probability / len(members)
            if mean.sum() <= 0:
                continue
            ess = min(float(np.mean([c.ess for c in cells])), self.settings.expert_cap)
            if any(c.basis == "published" for c in cells):
                ess *= self.settings.published_basis
            columns.setdefault(g, []).append(ExpertColumn(expert, mean / mean.sum(), ess))
        return columns


def read_literature(priors: Path) -> LiteratureBase:
    """Read the whole base below the folder `priors`.

    Raises
    ------
    ModelError
        Any malformed file, and any row of any file whose source is not in ``sources.csv``.
    """
    figures = read_figures(priors)
    sources = read_sources(priors)
    check_source_ids(priors, sources)
    path = priors / "pooling.yaml"
    try:
        settings = settings_from(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"pooling settings cannot be read: {error}", file=str(path)) from None
    return LiteratureBase(
        figures, read_experts(priors), sources, settings, read_indirect(priors, figures)
    )
