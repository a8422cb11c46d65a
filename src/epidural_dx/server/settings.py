"""What a server may be told: where to listen, whom to answer, and its limits."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epidural_dx.errors import ModelError

#: Variable that carries the settings from the command to its worker processes.
SETTINGS = "EPIDURAL_DX_SERVER"
#: Variable that carries the bearer token.
TOKEN = "EPIDURAL_DX_TOKEN"

#: Names of this machine for itself.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOG_LEVELS = ("debug", "info", "warning", "error")
#: A shorter token can be guessed.
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Settings:
    """How a server behaves.

    Attributes
    ----------
    host, port
        Where it listens; the host decides whether a token is needed.
    token : str or None
        Bearer token that every question must carry.
    networks, priors : Path or None
        Own folders of structure and figures.
    scenario : str or None
        Base rates where a question names none; None as :func:`epidural_dx.load_model`.
    threads : int
        Questions that are computed at the same time in one process.
    waiting : int
        Questions that may wait for a thread; one more is refused with 503.
    seconds : float
        A question that takes longer, waiting included, is given up with 503.
    body_seconds : float
        A client that takes longer to send its question is given up with 408.
    body_bytes, batch_bytes : int
        Largest question, and largest batch.
    findings : int
        Most findings of one patient.
    patients, streamed_patients : int
        Most patients of a batch answered as one document, and of one answered line by line.
    draws : int
        Most draws of the parameters that a question may ask for.
    remembered : int
        Answers kept in memory, so that a repeated question costs nothing; 0 keeps none.
    mixes : int
        Models with a client's own mix of causes that are kept.
    origins : tuple of str
        Web origins whose pages may ask (CORS); none by default.
    hosts : tuple of str
        Further names under which the server is reached.
    log_level : str
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = field(default=None, repr=False)
    networks: Path | None = None
    priors: Path | None = None
    scenario: str | None = None
    threads: int = 2
    waiting: int = 128
    seconds: float = 120.0
    body_seconds: float = 15.0
    body_bytes: int = 256 * 1024
    batch_bytes: int = 16 * 1024 * 1024
    findings: int = 400
    patients: int = 256
    streamed_patients: int = 20_000
    draws: int = 1000
    remembered: int = 512
    mixes: int = 4
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    log_level: str = "info"

    def __post_init__(self) -> None:
        """Refuse settings that are unsafe or senseless.

        Raises
        ------
        ModelError
            A limit that is not positive, a weak token, or no token away from loopback.
        """
        for name in ("threads", "seconds", "body_seconds", "body_bytes", "batch_bytes"):
            if not getattr(self, name) > 0:
                raise ModelError("must be more than 0", name=name)
        for name in ("findings", "patients", "streamed_patients", "mixes"):
            if getattr(self, name) < 1:
                raise ModelError("must be at least 1", name=name)
        for name in ("waiting", "remembered"):
            if getattr(self, name) < 0:
                raise ModelError("must be at least 0", name=name)
        if not 0 <= self.port <= 65535:
            raise ModelError(f"must be 0 to 65535, got {self.port}", name="port")
        if self.token is not None and (
            len(self.token) < SHORTEST_TOKEN
            or not self.token.isascii()
            or not self.token.isprintable()
            or " " in self.token
        ):
            raise ModelError(
                f"must be at least {SHORTEST_TOKEN} printable ASCII characters without spaces",
                name="token",
            )
        if not self.is_loopback and self.token is None:
            raise ModelError(
                f"a server on {self.host} can be reached by others and needs a bearer token: "
                f"set {TOKEN} or give --token-file, or listen on 127.0.0.1",
                name="host",
            )
        if self.log_level not in LOG_LEVELS:
            raise ModelError(
                f"{self.log_level!r} is none of {', '.join(LOG_LEVELS)}", name="log level"
            )
        if "*" in self.origins:
            raise ModelError("name every origin; * would let any page ask", name="origins")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK or self.host.startswith("127.")

    @property
    def known_hosts(self) -> frozenset[str]:
        """Names by which requests may call the server."""
        return frozenset(h.lower() for h in (*LOOPBACK, self.host, *self.hosts))

    def to_environment(self) -> dict[str, str]:
        """Write the settings for worker processes; :meth:`from_environment` reads them."""
        plain = {
            one.name: getattr(self, one.name)
            for one in dataclasses.fields(self)
            if one.name != "token"
        }
        found = {SETTINGS: json.dumps(plain, default=str)}
        if self.token is not None:
            found[TOKEN] = self.token
        return found

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read settings from the environment; what it does not name has its default.

        Raises
        ------
        ModelError
            A setting that does not exist or has a wrong value.
        """
        environment = os.environ if environment is None else environment
        try:
            plain: dict[str, Any] = json.loads(environment.get(SETTINGS) or "{}")
            for name in ("networks", "priors"):
                if plain.get(name) is not None:
                    plain[name] = Path(plain[name])
            for name in ("origins", "hosts"):
                if name in plain:
                    plain[name] = tuple(plain[name])
            return cls(**plain, token=environment.get(TOKEN) or None)
        except (TypeError, ValueError, AttributeError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"cannot be read ({error})", name=SETTINGS) from None
