"""Which CDS clients may call: signed requests, checked against keys that are configured here.

CDS Hooks clients sign every request with a JSON web token. Keys are never fetched: whoever runs
the service names each client, its issuer and its public keys.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from epidural_dx.errors import ModelError
from epidural_dx.server.problems import Problem

__all__ = ["Client", "Trust", "read_trust"]

#: Variable that names the file of clients (`read_trust`).
CLIENTS = "EPIDURAL_DX_CDS_CLIENTS"

#: Asymmetric algorithms; CDS Hooks recommends ES384 and RS384.
ALGORITHMS = ("ES384", "RS384", "ES256", "ES512", "RS256", "RS512", "PS256", "PS384", "PS512")
_REQUIRED = ["iss", "aud", "exp", "iat", "jti"]


@dataclass(frozen=True)
class Client:
    """One client that may call.

    Attributes
    ----------
    issuer : str
        Its ``iss``.
    keys : mapping of str to mapping
        Public keys (JWK) by ``kid``.
    key_urls : tuple of str
        Values of ``jku`` that it may name (they are compared, not fetched).
    """

    issuer: str
    keys: Mapping[str, Mapping[str, Any]]
    key_urls: tuple[str, ...] = ()


@dataclass
class Trust:
    """Checks the token of every request.

    Attributes
    ----------
    base_url : str
        Public address of the server, without ``/cds-services``; the ``aud`` of a token is this
        and the path.
    clients : mapping of str to Client
        By issuer.
    algorithms : tuple of str
        Accepted algorithms, some of `ALGORITHMS`.
    longest : int
        Longest time in seconds between ``iat`` and ``exp``.
    remembered : int
        Tokens that are remembered until they expire, so that none is used twice; when so many
        are waiting, further requests are refused.
    """

    base_url: str
    clients: Mapping[str, Client]
    algorithms: tuple[str, ...] = ALGORITHMS[:2]
    longest: int = 3600
    remembered: int = 100_000
    _seen: dict[tuple[str, str], float] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        """Refuse a trust that trusts too much.

        Raises
        ------
        ModelError
            Symmetric or no algorithm, no client, no absolute address.
        """
        for name in self.algorithms:
            if name not in ALGORITHMS:
                raise ModelError(
                    f"{name!r} is no asymmetric algorithm of {', '.join(ALGORITHMS)}",
                    name="algorithms",
                )
        if not self.algorithms or not self.clients:
            raise ModelError("needs at least one algorithm and one client", name="CDS clients")
        if not self.base_url.startswith(("https://", "http://")):
            raise ModelError("must be an absolute address", name="base_url")

    def verify(self, authorization: str | None, path: str) -> Mapping[str, Any]:
        """Return the claims of a request's token.

        Parameters
        ----------
        authorization : str or None
            The header ``Authorization``.
        path : str
            Path of the request, such as ``/cds-services``.

        Raises
        ------
        Problem
            401 with one sentence: no token, a wrong one, or one that was used before.
        """
        import jwt

        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise _refusal("The request needs the header Authorization: Bearer with a signed JWT.")
        token = token.strip()
        try:
            header = jwt.get_unverified_header(token)
            unverified = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise _refusal("The bearer token is no JWT.") from None
        client = self.clients.get(str(unverified.get("iss")))
        if client is None:
            raise _refusal("The issuer of the token is not on the list of clients.")
        algorithm = header.get("alg")
        if algorithm not in self.algorithms:
            raise _refusal(f"The token must be signed with {' or '.join(self.algorithms)}.")
        if header.get("typ") != "JWT":
            raise _refusal("The header of the token must say typ JWT.")
        if "jku" in header and header["jku"] not in client.key_urls:
            raise _refusal("The token names a key set (jku) that is not on the list.")
        key = client.keys.get(str(header.get("kid")))
        if key is None:
            raise _refusal("The token names a key (kid) that is not on the list.")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key=jwt.PyJWK(dict(key), algorithm=algorithm),
                algorithms=[algorithm],
                audience=self.base_url.rstrip("/") + path,
                issuer=client.issuer,
                options={"require": _REQUIRED},
            )
        except jwt.PyJWTError as error:
            raise _refusal(f"The token is refused ({_reason(error)}).") from None
        except (TypeError, ValueError):
            raise _refusal("The token is refused (its key cannot be used).") from None
        if not 0 < int(claims["exp"]) - int(claims["iat"]) <= self.longest:
            raise _refusal(f"The token must expire within {self.longest} s of its issue.")
        self._use_once(client.issuer, str(claims["jti"]), float(claims["exp"]))
        return claims

    def _use_once(self, issuer: str, name: str, expires: float) -> None:
        import time

        now = time.time()
        with self._lock:
            if (issuer, name) in self._seen:
                raise _refusal("The token was used before (jti).")
            if len(self._seen) >= self.remembered:
                self._seen = {k: end for k, end in self._seen.items() if end > now}
            if len(self._seen) >= self.remembered:
                raise Problem("busy", "Too many tokens are in use.", retry_after=60)
            self._seen[issuer, name] = expires


def _refusal(sentence: str) -> Problem:
    return Problem(
        "unauthorized", sentence, headers={"WWW-Authenticate": 'Bearer realm="epidural-dx"'}
    )


def _reason(error: Exception) -> str:
    import jwt

    reasons = {
        jwt.ExpiredSignatureError: "it has expired",
        jwt.InvalidAudienceError: "its aud is not the address that was called",
        jwt.InvalidIssuerError: "its iss is another",
        jwt.ImmatureSignatureError: "its time lies in the future",
        jwt.InvalidSignatureError: "its signature does not fit the key",
        jwt.MissingRequiredClaimError: f"it needs {', '.join(_REQUIRED)}",
    }
    return next((told for kind, told in reasons.items() if isinstance(error, kind)), "not valid")


def read_trust(path: str | Path) -> Trust:
    """Read the clients that may call from a JSON file.

    Parameters
    ----------
    path : path-like
        ``{"base_url": ..., "clients": [{"iss": ..., "jku": [...], "jwks": {"keys": [...]}}],
        "algorithms": [...]}``; ``jku`` and ``algorithms`` may be left out.

    Returns
    -------
    Trust

    Raises
    ------
    ModelError
        It cannot be read, holds private or symmetric keys, or PyJWT is not installed.
    """
    file = Path(path)
    if find_spec("jwt") is None:
        raise ModelError("signed calls need the extra: pip install 'epidural-dx[cds-hooks]'")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read ({error})", file=file) from None
    try:
        clients = {}
        for one in document["clients"]:
            keys = {}
            for key in one["jwks"]["keys"]:
                if key.get("kty") not in ("EC", "RSA") or "d" in key:
                    raise ModelError(
                        "must hold public keys of the kinds EC and RSA only",
                        file=file,
                        name=str(one["iss"]),
                    )
                keys[str(key["kid"])] = key
            clients[str(one["iss"])] = Client(str(one["iss"]), keys, tuple(one.get("jku", ())))
        chosen = document.get("algorithms")
        return Trust(
            base_url=str(document["base_url"]),
            clients=clients,
            algorithms=ALGORITHMS[:2] if chosen is None else tuple(chosen),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"needs base_url and clients with iss and jwks ({type(error).__name__}: {error})",
            file=file,
        ) from None
