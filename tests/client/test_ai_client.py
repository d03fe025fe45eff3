"""The client without a socket: which slot is used, and what becomes a deferral."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import httpx
import pytest

from dagster_offload.client.ai_client import AIClient, call_deep_or_defer
from dagster_offload.client.faults import (
    retry_after_of,
)
from dagster_offload.errors import CutAnswer, MalformedAnswer, SettingsError, StageDeferred, WrongModel
from dagster_offload.slot.completion import RequestOptions
from tests.support.client import status_error


def client_with(deep: object, primary: object, request: Callable[..., Awaitable[str]]) -> AIClient:
    client = AIClient.__new__(AIClient)
    client.ai = SimpleNamespace(deep=deep, primary=primary)  # type: ignore[assignment]
    client._request = request  # type: ignore[method-assign, assignment]
    return client


def failing(error: Exception) -> Callable[..., Awaitable[str]]:
    async def request(slot: object, prompt: str, system: str | None = None) -> str:
        raise error

    return request


class FalsySlot:
    """A slot is configured if it is not None, even if it is falsy."""

    def __bool__(self) -> bool:
        return False


@pytest.mark.rule("slot-2")
async def test_deep_calls_go_to_the_deep_slot() -> None:
    requests = []

    async def request(slot: object, prompt: str, system: str | None = None) -> str:
        requests.append((slot, prompt, system))
        return "an answer"

    deep = FalsySlot()
    client = client_with(deep, object(), request)
    assert await client.call_deep("question", system="rules") == "an answer"
    assert requests == [(deep, "question", "rules")]


async def test_without_a_deep_slot_primary_answers_deep_calls() -> None:
    requests = []

    async def request(slot: object, prompt: str, system: str | None = None) -> str:
        requests.append(slot)
        return "an answer"

    primary = object()
    await client_with(None, primary, request).call_deep("question")
    assert requests == [primary]


@pytest.mark.rule("slot-2")
@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), status_error(503), status_error(500), ValueError()])
async def test_primary_never_answers_for_an_unavailable_deep_slot(error: Exception) -> None:
    requests = []

    async def request(slot: object, prompt: str, system: str | None = None) -> str:
        requests.append(slot)
        raise error

    deep = object()
    client = client_with(deep, object(), request)
    with pytest.raises(type(error)):
        await client.call_deep("question")
    assert requests == [deep]


async def test_options_are_passed_only_when_given() -> None:
    given = []

    async def request(slot: object, prompt: str, system: str | None = None, **more: object) -> str:
        given.append(more)
        return ""

    client = client_with(object(), None, request)
    options = RequestOptions(max_tokens=1)
    await client.call_deep("question")
    await client.call_deep("question", options=options)
    await call_deep_or_defer(client, "question", options=options)
    assert given == [{}, {"options": options}, {"options": options}]


async def test_the_error_without_any_slot_names_the_settings() -> None:
    with pytest.raises(SettingsError, match="OFFLOAD_DEEP_URL"):
        await client_with(None, None, failing(AssertionError())).call_deep("question")


@pytest.mark.rule("slot-3")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (status_error(503, {"error": {"type": "upstream_cold"}}), "upstream_cold"),
        (status_error(503, {"error": "editor_busy"}), "editor_busy"),
        (status_error(503, {"detail": {"reason": "warming"}}), "warming"),
        (status_error(502), "HTTPStatusError"),
        (status_error(503, {"error": "come back tomorrow"}), "HTTPStatusError"),
        (status_error(429), "HTTPStatusError"),
        (httpx.ConnectError("refused"), "ConnectError"),
        (httpx.ConnectTimeout("slow"), "ConnectTimeout"),
        (httpx.ReadTimeout("slow"), "ReadTimeout"),
        (httpx.ReadError("reset"), "ReadError"),
        (httpx.RemoteProtocolError("closed"), "RemoteProtocolError"),
        (CutAnswer("cut"), "CutAnswer"),
        (WrongModel("tiny"), "WrongModel"),
    ],
)
async def test_an_unavailable_slot_raises_a_deferral_with_its_reason(error: Exception, reason: str) -> None:
    for deep, primary, name in ((object(), object(), "deep"), (None, object(), "primary")):
        with pytest.raises(StageDeferred) as deferred:
            await call_deep_or_defer(client_with(deep, primary, failing(error)), "question")
        assert str(deferred.value) == f"{name}_unavailable:{reason}"
        assert deferred.value.retry_after_minutes == 30
        assert deferred.value.__cause__ is error


async def test_the_slots_retry_after_is_kept() -> None:
    error = status_error(503, None, **{"retry-after": "120"})
    with pytest.raises(StageDeferred) as deferred:
        await call_deep_or_defer(client_with(object(), None, failing(error)), "question")
    assert deferred.value.retry_after_minutes == 2
    assert retry_after_of(deferred.value) == 120
    assert retry_after_of(StageDeferred("deep_unavailable:warming")) is None


@pytest.mark.rule("slot-3")
@pytest.mark.parametrize(
    "error", [status_error(400), status_error(401), status_error(500), ValueError("x"), MalformedAnswer("x")]
)
async def test_every_other_error_propagates_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        await call_deep_or_defer(client_with(object(), None, failing(error)), "question")
    assert raised.value is error
