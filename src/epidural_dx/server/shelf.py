"""The models that a server answers with: one per scenario, and a few with a client's own mix."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from epidural_dx import store
from epidural_dx.clinical.case import read_case
from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import EvidenceError
from epidural_dx.model import Model, load_model
from epidural_dx.server.problems import Problem
from epidural_dx.server.settings import Settings

if TYPE_CHECKING:
    from epidural_dx.clinical.case import Case
    from epidural_dx.literature.topics import Catalog


class Shelf:
    """Loads models once, in a thread of its own, and hands them out.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.priors: Path = store.data_folder("priors", settings.priors)
        self._scenarios: dict[str, asyncio.Future[Model]] = {}
        self._mixed: OrderedDict[str, asyncio.Future[Model]] = OrderedDict()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="epidural-dx-load")
        self._main: Model | None = None
        self.failure: BaseException | None = None

    # ------------------------------------------------------------- being ready

    @property
    def ready(self) -> bool:
        """Whether the server's own model is loaded and warm."""
        return self._main is not None

    @property
    def main(self) -> Model:
        """The model of the server's own scenario.

        Raises
        ------
        Problem
            It is not ready yet.
        """
        if self._main is None:
            raise Problem(
                "starting", "The model is being loaded; ask again in a moment.", retry_after=2
            )
        return self._main

    async def warm_up(self) -> None:
        """Load the server's own model and ask it one of everything, so that the next are fast."""

        def load() -> Model:
            model = self._load(self.settings.scenario, None)
            from epidural_dx.documents import answers

            # A unit among them: reading the first one takes most of a second.
            evidence = model.read_evidence({"back_pain": "present", "hemoglobin": "79 g/L"})
            model.diagnose(evidence).to_dict()
            answers.weights(model, evidence)
            model.built  # noqa: B018  (what figures and their sources are read from)
            self.catalog, self.cases, self.scenario_names  # noqa: B018
            return model

        try:
            model = await asyncio.get_running_loop().run_in_executor(self._loader, load)
        except Exception as error:
            self.failure = error
            raise
        future: asyncio.Future[Model] = asyncio.get_running_loop().create_future()
        future.set_result(model)
        self._scenarios[model.scenario] = future
        self._main = model

    def close(self) -> None:
        """Stop loading."""
        self._loader.shutdown(wait=True, cancel_futures=True)

    # ----------------------------------------------------------------- models

    async def get(self, scenario: str | None, mix: Mapping[str, float] | None) -> Model:
        """Return the model of a scenario, with a mix of causes where one is given.

        Raises
        ------
        EpiduralDxError
            Unknown scenario or cause.
        Problem
            Not ready yet, or loading takes too long.
        """
        main = self.main
        name = scenario or self.settings.scenario
        if name is not None and name not in self.scenario_names:
            raise EvidenceError(
                f"unknown scenario {name!r}",
                variable="scenario",
                value=name,
                allowed=self.scenario_names,
                nearest=nearest(name, self.scenario_names, 1),
            )
        if mix is None:
            if name is None or name == main.scenario:
                return main
            return await self._wait(self._scenarios, name, lambda: self._load(name, None))
        unknown = [cause for cause in mix if cause not in main.causes]
        if unknown:
            raise EvidenceError(
                f"unknown cause {unknown[0]!r}",
                variable="cause_mix",
                value=unknown[0],
                allowed=main.causes,
                nearest=nearest(unknown[0], main.causes, 1),
            )
        key = json.dumps([name, sorted(mix.items())])
        if key in self._mixed:
            self._mixed.move_to_end(key)
        model = await self._wait(self._mixed, key, lambda: self._load(name, mix))
        while len(self._mixed) > self.settings.mixes:
            self._mixed.popitem(last=False)
        return model

    async def _wait(
        self,
        place: dict[str, asyncio.Future[Model]] | OrderedDict[str, asyncio.Future[Model]],
        key: str,
        load: Callable[[], Model],
    ) -> Model:
        if key not in place:
            being_built = sum(not future.done() for future in place.values())
            if being_built >= self.settings.mixes:
                raise Problem(
                    "busy", f"{being_built} other models are being built.", retry_after=10
                )
            loop = asyncio.get_running_loop()
            place[key] = asyncio.ensure_future(loop.run_in_executor(self._loader, load))
        try:
            # Shielded: others may wait for the same model.
            return await asyncio.wait_for(asyncio.shield(place[key]), self.settings.seconds)
        except TimeoutError:
            raise Problem("too-slow", "The model is still being built.", retry_after=10) from None
        except Exception:
            place.pop(key, None)
            raise

    def _load(self, scenario: str | None, mix: Mapping[str, float] | None) -> Model:
        model = load_model(
            self.settings.networks,
            self.settings.priors,
            scenario,
            mix,
            store_compiled=mix is None,
        )
        model.bank()
        # Draws with a client's own seed stay out of the cache on disk.
        model.store_compiled = False
        return model

    # ------------------------------------------------------------------ files

    @cached_property
    def scenario_names(self) -> tuple[str, ...]:
        """Names of the base rates."""
        from epidural_dx.network.declared import read_scenarios

        return tuple(read_scenarios(self.priors))

    @cached_property
    def catalog(self) -> Catalog:
        """Published figures and their sources."""
        from epidural_dx.literature.topics import read_catalog

        return read_catalog(self.priors)

    @cached_property
    def cases(self) -> dict[str, Case]:
        """Published patients by name."""
        return {name: read_case(path) for name, path in store.published_patients().items()}
