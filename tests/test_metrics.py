"""What Prometheus reads is true, named as its conventions say, documented, and all that dashboard and alerts read."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from conftest import Server, wait_for
from limner import counters
from limner.counters import Count, Timing
from limner.errors import Code, StorageFailed
from limner.storage.database import Database

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "operations.md").read_text("utf-8")
ALERTS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "limner.json").read_text("utf-8"))
EXPRESSIONS = [rule["expr"] for group in ALERTS for rule in group["rules"]] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])
]
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "summary": ("_count", "_sum"),
    "histogram": ("_bucket", "_count", "_sum"),
}


def families(server: Server) -> dict[str, Metric]:
    text = server.client.get("/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(server: Server) -> dict[tuple[str, ...], float]:
    """Of every sample, by its name and its labels' values, which stand in the order of their names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(server).values()
        for sample in family.samples
    }


def series(server: Server) -> set[str]:
    """Every name that a query may read, those among them that have no value yet."""
    return {name + suffix for name, family in families(server).items() for suffix in SUFFIXES[family.type]}


def read_by(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:limner|process)_[a-z0-9_]+", re.sub(r"\{[^}]*\}", "", expression)))


def test_what_is_painted_is_counted_once_and_by_model(server: Server) -> None:
    before = values(server)
    answer = server.paint(n=2, seed=1, guidance=1.0)
    server.paint(seed=1, width=512, height=512)
    after = values(server)

    def more(*name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    assert answer.json()["metadata"]["success_count"] == "2"
    assert more("limner_pictures_total", "image-01") == 3
    assert more("limner_jobs_total", "image-01", "done") == 2
    assert more("limner_evaluations_total", "image-01") == 12
    assert more("limner_evaluations_total", "image-01-live") == 0
    assert more("limner_evaluation_seconds_total", "image-01") > 0
    assert more("limner_picture_bytes_total", "image-01") > 3000
    assert more("limner_requests_total", "0", "image_generation") == 2
    assert more("limner_request_seconds_count", "image_generation") == 2
    assert more("limner_database_seconds_count", "write") >= 4
    assert more("limner_store_seconds_count", "put") == 3
    assert after["limner_ready",] == 1
    assert after["limner_queue_waiting", "image-01"] == after["limner_queue_running", "image-01"] == 0
    assert after["limner_backlog_pictures",] == 0
    assert after["limner_model_loaded", "image-01"] == 1
    assert after["process_resident_memory_bytes",] > 10**7


def test_what_waits_and_runs_is_seen_while_it_does(serve: Callable[..., Server]) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate, queue_limit=18)
    calls = [threading.Thread(target=server.paint, kwargs={"n": 2}) for _ in range(2)]
    for call in calls:
        call.start()
    wait_for(lambda: sum(one.waiting + one.running for one in server.engine.activity.values()) == 4)
    wait_for(lambda: server.engine.running)
    seen = values(server)
    assert seen["limner_queue_waiting", "image-01"] + seen["limner_queue_running", "image-01"] == 4
    assert seen["limner_queue_running", "image-01"] >= 1
    assert seen["limner_queue_running", "image-01-live"] == 0
    gate.release(1000)
    for call in calls:
        call.join()


def test_refusals_are_counted_by_their_reason_and_calls_by_their_code(server: Server) -> None:
    before = values(server)
    server.paint(subject_reference=[{"type": "character", "image_file": "http://127.0.0.1/x.png"}])
    server.paint(prompt="")
    server.client.get("/nowhere")
    after = values(server)
    assert after["limner_references_refused_total", "address"] == 1 + before.get(
        ("limner_references_refused_total", "address"), 0
    )
    assert after["limner_requests_total", "2013", "image_generation"] >= 1
    assert after["limner_requests_total", "404", "none"] >= 1


def test_a_replay_and_a_policy_that_refuses_are_counted(serve: Callable[..., Server], tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[[rule]]\nname = 'r'\nterms = ['forbidden']\n")
    server = serve(policy_file=policy)
    before = values(server)
    for _ in range(2):
        assert server.paint({"Idempotency-Key": "once"}, seed=3).json()["base_resp"]["status_code"] == 0
    assert server.paint(prompt="something forbidden").json()["base_resp"]["status_code"] == 1026
    after = values(server)
    assert after["limner_idempotent_replays_total",] - before["limner_idempotent_replays_total",] == 1
    refused = "limner_policy_refusals_total", "prompt"
    assert after[refused] - before.get(refused, 0) == 1


def test_the_metrics_answer_without_the_database(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise StorageFailed("away")

    monkeypatch.setattr(Database, "run", away)
    found = families(server)
    assert "limner_backlog_pictures" not in found
    assert "limner_queue_waiting" in found


def test_a_database_that_fails_is_counted(tmp_path: Path) -> None:
    before = counters.DATABASE.failed.values().get(("read",), 0)
    (tmp_path / "x").write_text("no database, but text\n" * 100)
    with pytest.raises(StorageFailed), Database(f"sqlite:///{tmp_path}/x").transaction(writing=False):
        raise AssertionError("opened")
    assert counters.DATABASE.failed.values()["read",] == before + 1


def test_names_are_as_prometheus_has_them_and_labels_few(server: Server) -> None:
    server.paint()
    labels = {
        "model", "route", "code", "le", "reason", "stage", "result", "outcome", "kind", "operation", "phase",
    }  # fmt: skip
    for name, family in families(server).items():
        assert re.fullmatch(r"(limner|process)_[a-z_]+", name), name
        assert "_ms" not in name
        assert family.documentation.endswith("."), name
        for sample in family.samples:
            assert sample.labels.keys() <= labels, (name, sample.labels)


def test_every_metric_is_in_the_guide_and_the_guide_names_no_other(server: Server) -> None:
    told = set(re.findall(r"^\| `((?:limner|process)_[a-z_]+)`", GUIDE, re.MULTILINE))
    there = {name + ("_total" if family.type == "counter" else "") for name, family in families(server).items()}
    assert told == there


def test_dashboard_and_alerts_read_what_there_is(server: Server) -> None:
    there = series(server)
    read = [read_by(expression) for expression in EXPRESSIONS]
    assert set().union(*read) <= there
    assert [expression for expression, names in zip(EXPRESSIONS, read, strict=True) if not names] == [
        'up{job="limner"} == 0'
    ]


def test_queries_name_labels_that_their_metrics_have(server: Server) -> None:
    """A label that no series has would select nothing, and an alert on it never fire."""
    own = {count.name: set(count.labels) for count in counters.COUNTS}
    server.paint()
    for name, family in families(server).items():
        own.setdefault(name, set()).update(*(sample.labels for sample in family.samples))
    for timing in counters.TIMINGS:
        own[timing.name], own[timing.failed.name] = {timing.label}, {timing.label}
    own["limner_references_refused"] = {"reason"}
    for expression in EXPRESSIONS:
        for name, selector in re.findall(r"\b((?:limner|process)_[a-z0-9_]+)\{([^}]*)\}", expression):
            base = re.sub(r"_(total|bucket|sum|count)$", "", name)
            chosen = set(re.findall(r"(\w+)\s*[=!]", selector))
            assert chosen <= own[base] | {"job", "instance"}, expression
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            names = {label.strip() for label in grouped.split(",")}
            having = set().union(
                *(own[re.sub(r"_(total|bucket|sum|count)$", "", name)] for name in read_by(expression))
            )
            assert names <= having | {"job", "instance", "le"}, expression
        assert expression.count("(") == expression.count(")")


def test_the_codes_that_alerts_count_are_codes() -> None:
    known = {str(int(code)) for code in Code} | {"5.."}
    for expression in EXPRESSIONS:
        for codes in re.findall(r'code=~?"([^"]*)"', expression):
            assert set(codes.split("|")) <= known


def test_the_routes_that_queries_name_are_routes() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src" / "limner" / "api").glob("*.py"))
    named = set(re.findall(r"async def (\w+)\(", source))
    for expression in EXPRESSIONS:
        for routes in re.findall(r'route[=!]~"([^"]*)"', expression):
            assert set(routes.split("|")) <= named, routes


def test_every_alert_is_whole_and_explained() -> None:
    rules = [rule for group in ALERTS for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    assert set(re.findall(r"^### (Limner\w+)$", GUIDE, re.MULTILINE)) == {rule["alert"] for rule in rules}


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= DASHBOARD.keys()
    source, *variables = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + across, place["y"] + down) for across in range(place["w"]) for down in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            unknown = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert unknown <= {variable["name"] for variable in variables}


# The counters themselves


def test_a_count_is_exact_between_threads() -> None:
    count = Count("limner_test", "A test.", "kind")
    threads = [
        threading.Thread(target=lambda: [count.add("a", amount=0.5) for _ in range(2000)] and None) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.values() == {("a",): 4000.0}


def test_a_count_takes_exactly_its_labels() -> None:
    with pytest.raises(ValueError, match="limner_test"):
        Count("limner_test", "A test.", "kind").add()
    assert Count("limner_test", "A test.").values() == {(): 0.0}


def test_a_timing_counts_what_fails_too() -> None:
    timing = Timing("limner_test", "Tests", "kind")
    with pytest.raises(KeyError), timing.of("a"):
        raise KeyError
    assert timing.done.values() == {("a",): 1}
    assert timing.seconds.values()["a",] > 0
    assert timing.failed.values() == {}
