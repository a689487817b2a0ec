"""Probes, metrics and log lines."""

from __future__ import annotations

import json
import logging

import aiohttp

from lowtide_operator.telemetry import JsonLines, Metrics, served


async def test_probes_answer_503_with_the_sentence_and_metrics_are_in_prometheus_text() -> None:
    problem = ""
    metrics = Metrics()
    metrics.policy("shop", "nightly", {"consecutiveFailures": 2, "conditions": [{"type": "Ready", "status": "True"}]})
    async with (
        served("127.0.0.1", 0, metrics, lambda: problem, lambda: "not yet") as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        async with session.get("/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        problem = "the watch is dead"
        async with session.get("/healthz") as answer:
            assert (answer.status, await answer.text()) == (503, "the watch is dead\n")
        async with session.get("/readyz") as answer:
            assert answer.status == 503
        async with session.get("/metrics") as answer:
            text = await answer.text()
    assert 'lowtide_policy_consecutive_failures{namespace="shop",policy="nightly"} 2.0' in text
    assert 'lowtide_policy_ready{namespace="shop",policy="nightly"} 1.0' in text
    assert 'lowtide_policy_protected{namespace="shop",policy="nightly"} 0.0' in text
    assert 'lowtide_policy_suspended{namespace="shop",policy="nightly"} 0.0' in text


def test_a_policy_that_is_suspended_on_purpose_is_told_from_others() -> None:
    metrics = Metrics()
    labels = {"namespace": "shop", "policy": "nightly"}
    for reason, value in (("Suspended", 1), ("Scheduled", 0)):
        metrics.policy("shop", "nightly", {"conditions": [{"type": "Ready", "status": "True", "reason": reason}]})
        assert metrics.registry.get_sample_value("lowtide_policy_suspended", labels) == value
    metrics.policy("shop", "nightly", None)
    assert metrics.registry.get_sample_value("lowtide_policy_suspended", labels) is None


def test_a_log_line_is_one_json_object_with_its_stack() -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, __file__, 1, "two\nlines", (), (ValueError, error, error.__traceback__)
        )
    text = JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["message"]) == ("ERROR", "two\nlines")
    assert "ValueError: why" in line["stack"]
