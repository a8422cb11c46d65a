"""Who may ask: names, tokens, origins; and what every answer carries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_patient import wait_until_ready
from starlette.testclient import TestClient

from epidural_dx.errors import ModelError
from epidural_dx.server import Settings, create_app

TOKEN = "0123456789abcdef-for-tests"


@pytest.fixture(scope="module")
def guarded() -> Iterator[TestClient]:
    """Give a client of a server that others can reach, whose pages of one origin may ask."""
    settings = Settings(
        host="0.0.0.0", token=TOKEN, origins=("https://ward.example",), hosts=("testserver",)
    )
    with TestClient(create_app(settings)) as client:
        wait_until_ready(client)
        yield client


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "server.example"])
def test_a_server_that_others_can_reach_needs_a_token(host: str) -> None:
    """Away from loopback there is no server without a token, nor with a weak one."""
    with pytest.raises(ModelError, match="bearer token"):
        Settings(host=host)
    with pytest.raises(ModelError, match="at least 16"):
        Settings(host=host, token="short")
    assert not Settings(host=host, token=TOKEN).is_loopback


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/diagnose"),
        ("GET", "/v1/variables"),
        ("GET", "/v1/cases"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/nothing"),
    ],
)
def test_every_question_needs_the_token(guarded: TestClient, method: str, path: str) -> None:
    """Without the token, or with another, the answer is 401 and names the scheme."""
    wrong = [
        {},
        bearer("0123456789abcdef-for-tesTs"),
        bearer(TOKEN + "x"),
        bearer(TOKEN[:-1]),
        bearer(""),
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer Ünïcode".encode("latin-1").decode("latin-1")},
    ]
    for headers in wrong:
        encoded = {k: v.encode("latin-1") for k, v in headers.items()}
        reply = guarded.request(method, path, headers=encoded)  # type: ignore[arg-type]
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert reply.json()["type"] == "urn:epidural-dx:problem:unauthorized"


def test_the_token_opens_and_probes_need_none(guarded: TestClient) -> None:
    """With the token questions are answered; a supervisor may watch without it."""
    reply = guarded.post(
        "/v1/diagnose",
        json={"evidence": {}, "intervals": False, "next_tests": False},
        headers=bearer(TOKEN),
    )
    assert reply.status_code == 200
    assert guarded.get("/healthz").status_code == 200
    assert guarded.get("/readyz").status_code == 200
    described = guarded.get("/openapi.json", headers=bearer(TOKEN)).json()
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("localhost", 200),
        ("localhost:8765", 200),
        ("127.0.0.1:8765", 200),
        ("[::1]:8765", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("evil.example:8765", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
def test_a_page_that_rebinds_its_name_cannot_ask(
    client: TestClient, name: str, status: int
) -> None:
    """On loopback only the names of this machine are answered."""
    reply = client.get("/healthz", headers={"Host": name})
    assert reply.status_code == status


def test_other_origins_are_closed_unless_they_are_named(
    client: TestClient, guarded: TestClient
) -> None:
    """No CORS header by default; with --allow-origin for that origin alone, errors included."""
    preflight = {
        "Origin": "https://ward.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    closed = client.options("/v1/diagnose", headers=preflight)
    assert closed.status_code == 405
    assert not [h for h in closed.headers if h.startswith("access-control")]
    opened = guarded.options("/v1/diagnose", headers=preflight)
    assert opened.status_code == 200
    assert opened.headers["access-control-allow-origin"] == "https://ward.example"
    refused = guarded.get("/v1/model", headers={"Origin": "https://ward.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://ward.example"
    other = guarded.get("/v1/model", headers={"Origin": "https://evil.example", **bearer(TOKEN)})
    assert "access-control-allow-origin" not in other.headers
    with pytest.raises(ModelError, match="name every origin"):
        Settings(origins=("*",))


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    """Answers, listings, errors and probes forbid framing, sniffing, and inline or foreign code."""
    replies = [
        client.get("/healthz"),
        client.get("/v1/model"),
        client.get("/nothing"),
        client.post("/v1/diagnose", content=b"{"),
        client.post("/v1/explain", json={"evidence": {"fever": "present"}}),
        client.get("/healthz", headers={"Host": "evil.example"}),
    ]
    for reply in replies:
        policy = reply.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"https?:|\*", policy)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "server" not in reply.headers
    assert replies[4].headers["cache-control"] == "no-store"


def test_settings_reach_worker_processes_whole() -> None:
    """What the command was told, each worker reads; the token stands apart from the rest."""
    settings = Settings(
        host="::1", port=1, token=TOKEN, priors=Path("priors"), origins=("https://a.example",),
        scenario="child", seconds=3.5,
    )  # fmt: skip
    environment = settings.to_environment()
    assert Settings.from_environment(environment) == settings
    assert TOKEN not in environment["EPIDURAL_DX_SERVER"]
    assert Settings.from_environment({}) == Settings()
    with pytest.raises(ModelError, match="EPIDURAL_DX_SERVER"):
        Settings.from_environment({"EPIDURAL_DX_SERVER": '{"prot": 1}'})


def test_the_token_is_not_shown_by_settings() -> None:
    """A repr of the settings, as a traceback may show it, does not hold the token."""
    assert TOKEN not in repr(Settings(token=TOKEN))


def test_the_page_is_served_without_a_token_and_nothing_beside_it(guarded: TestClient) -> None:
    """The page's own files are open; no path leads out of their folder."""
    page = guarded.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "unsafe" not in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([^"#:]+\.[a-z]+)"', page.text)
    assert named
    for name in named:
        assert guarded.get(f"/{name}").status_code == 200
        assert guarded.head(f"/{name}").status_code == 200
    assert guarded.post("/", json={}).status_code == 405
    for path in ("/../settings.py", "/..%2fserver%2fsettings.py", "/static/index.html", "/x.js"):
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, headers=bearer(TOKEN)).status_code == 404
