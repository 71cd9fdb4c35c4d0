"""The server serves its own page, keeps few sessions, and refuses everybody else with a reason."""

from __future__ import annotations

import re
from typing import Any

import pytest

from explorer.page import export, page

pytest.importorskip("starlette", reason="the extra 'explore' is not installed")
pytest.importorskip("httpx2", reason="the server's own client needs it")

from starlette.testclient import TestClient

from explorer.server import MOST_BYTES, Sessions, application

ADDRESS = "http://127.0.0.1:8765"


def client(**sessions: Any) -> TestClient:
    return TestClient(application(sessions=Sessions(**sessions)), base_url=ADDRESS, raise_server_exceptions=True)


def begin(browser: TestClient, **wish: Any) -> str:
    answer = browser.post("/api/episodes", json={"problem": "Booth", **wish})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["episode"])


def test_an_episode_by_requests() -> None:
    browser = client()
    name = begin(browser, agent="relative decrease")
    for verb, body in (("act", {"action": 1}), ("move", {"along": 0.25}), ("view", {"near": True}), ("finish", {})):
        answer = browser.post(f"/api/episodes/{name}/{verb}", json=body)
        assert answer.status_code == 200, answer.text
    state = answer.json()["state"]
    assert [entry["kind"] for entry in state["course"][:3]] == ["start", "step", "move"]
    assert state["over"]
    assert browser.post(f"/api/episodes/{name}/undo", json={}).json()["state"]["over"] == ""
    saved = browser.get(f"/api/episodes/{name}/export")
    assert saved.headers["content-disposition"] == 'attachment; filename="booth-episode.html"'
    assert '"problem":"Booth"' in saved.text
    assert "relative decrease" in browser.get("/api/problems/Booth").json()["agents"]


@pytest.mark.parametrize(
    ("verb", "body", "status", "reason"),
    [
        ("act", {"action": 99}, 400, "got 99"),
        ("act", {"action": True}, 400, "got True"),
        ("act", {}, 400, "takes the field 'action' alone, got none"),
        ("act", {"action": 0, "more": 1}, 400, "got action, more"),
        ("undo", {"action": 0}, 400, "takes no field"),
        ("move", {"along": "far"}, 400, "got 'far'"),
        ("finish", {}, 400, "no agent advises"),
        ("__class__", {}, 404, "it has act, move"),
    ],
)
def test_bad_requests_are_refused_with_words(verb: str, body: dict[str, Any], status: int, reason: str) -> None:
    browser = client()
    answer = browser.post(f"/api/episodes/{begin(browser)}/{verb}", json=body)
    assert answer.status_code == status
    assert reason in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"{", "application/json", 400),
        (b"[" * 4000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"problem": NaN}', "application/json", 400),
        (b'{"seed": 1e999}', "application/json", 400),
        (b'{"problem": "Both"}', "application/json", 400),
        (b'{"instance": -1}', "application/json", 400),
        (b" " * (MOST_BYTES + 1), "application/json", 413),
    ],
)
def test_bodies_are_read_without_trust(content: bytes, kind: str, status: int) -> None:
    answer = client().post("/api/episodes", content=content, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


def test_other_pages_are_kept_out() -> None:
    browser = client()
    assert browser.get("/", headers={"host": "evil.example"}).status_code == 400
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        answer = browser.post("/api/episodes", json={}, headers={"origin": origin})
        assert answer.status_code == 403
        assert origin in answer.json()["error"]
    assert browser.post("/api/episodes", json={"problem": "Booth"}, headers={"origin": ADDRESS}).status_code == 200
    assert "default-src 'none'" in browser.get("/").headers["content-security-policy"]
    assert browser.get("/api/episodes").status_code == 405


def test_sessions_are_bounded_in_number_and_age() -> None:
    browser = client(most=2)
    names = [begin(browser) for _ in range(2)]
    browser.post(f"/api/episodes/{names[0]}/act", json={"action": 0})  # so that the other one is the oldest
    names.append(begin(browser))
    answers = [browser.post(f"/api/episodes/{name}/act", json={"action": 0}) for name in names]
    assert [answer.status_code for answer in answers] == [200, 404, 200]
    assert "keeps the last 2 episodes" in answers[1].json()["error"]
    brief = client(age=-1.0)
    assert brief.post(f"/api/episodes/{begin(brief)}/act", json={"action": 0}).status_code == 404


def test_a_page_loads_nothing_and_is_not_ended_by_its_data() -> None:
    text = export({"problem": "</script><script>alert(1)</script>", "sentence": "@@STYLE@@ & <b>"})
    assert "alert(1)</script>" not in text
    assert not re.search(r"(src|href)=\"(?!data:)|https?://|@import|url\(", text.replace(ADDRESS, ""))
    for name in ("STYLE", "SCRIPT", "DATA"):
        assert f"@@{name}@@" not in page({"choices": {}})
