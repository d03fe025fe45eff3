"""Uses the real webserver as a browser does, over HTTP and GraphQL."""

import os
import ssl
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from dagster_offload.simulator import Router
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE, asset_name
from tests.support.acceptance import Home, a_home, wait_for
from tests.support.patience import PATIENCE_SECONDS

LOCATION = {"repositoryLocationName": "dagster-offload", "repositoryName": "__repository__"}
OVER = {"SUCCESS", "FAILURE", "CANCELED"}
TLS = ssl.create_default_context()  # httpx would make one for each request, which takes longer than most answers


class UI:
    """The UI of the `up` that runs on `home`."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.home.address}/graphql",
            json={"query": query, "variables": variables},
            timeout=PATIENCE_SECONDS,
            verify=TLS,
        ).json()
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def materialize(self, document: str, *stages: str) -> str:
        """The button *Materialize*; returns the run's id."""
        return self._launch(
            {
                "jobName": "__ASSET_JOB",
                "assetSelection": [{"path": [asset_name(stage)]} for stage in stages or (CLASSIFY, SUMMARIZE)],
                "assetCheckSelection": [],
            },
            [{"key": "dagster/partition", "value": document}],
        )

    def launch(self, job: str) -> str:
        """*Launch run* in the launchpad of a job; returns the run's id."""
        return self._launch({"jobName": job}, [])

    def _launch(self, what: dict[str, Any], tags: list[dict[str, str]]) -> str:
        params = {
            "selector": {**LOCATION, **what},
            "runConfigData": "{}",
            "mode": "default",
            "executionMetadata": {"tags": tags},
        }
        found = self.ask(
            "mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename "
            "... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
            params=params,
        )["launchRun"]
        assert found["__typename"] == "LaunchRunSuccess", found
        run_id: str = found["run"]["runId"]
        return run_id

    def add_partition(self, key: str) -> None:
        """*Add a partition* in the dialog."""
        found = self.ask(
            "mutation($of: RepositorySelector!, $key: String!) { addDynamicPartition(repositorySelector: $of, "
            'partitionsDefName: "documents", partitionKey: $key) { __typename } }',
            of=LOCATION,
            key=key,
        )["addDynamicPartition"]
        assert found["__typename"] == "AddDynamicPartitionSuccess", found

    def backfill(self, documents: Sequence[str]) -> str:
        """*Launch backfill* for classification and summary; returns the backfill's id."""
        params = {
            "assetSelection": [{"path": [asset_name(stage)]} for stage in (CLASSIFY, SUMMARIZE)],
            "partitionNames": list(documents),
        }
        found = self.ask(
            "mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) { __typename "
            "... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }",
            params=params,
        )["launchPartitionBackfill"]
        assert found["__typename"] == "LaunchBackfillSuccess", found
        backfill_id: str = found["backfillId"]
        return backfill_id

    def backfill_status(self, backfill_id: str) -> str:
        found = self.ask(
            "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }",
            id=backfill_id,
        )
        status: str = found["partitionBackfillOrError"]["status"]
        return status

    def cancel_backfill(self, backfill_id: str) -> None:
        """*Cancel* on a backfill's page."""
        found = self.ask(
            "mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }", id=backfill_id
        )["cancelPartitionBackfill"]
        assert found["__typename"] == "CancelBackfillSuccess", found

    def status(self, run_id: str) -> str:
        found = self.ask("query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)
        status: str = found["runOrError"]["status"]
        return status

    def end_of(self, run_id: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait until a run has ended; its last status."""
        wait_for(lambda: self.status(run_id) in OVER, f"the end of run {run_id}", seconds)
        return self.status(run_id)

    def runs(self, **of: Any) -> dict[str, str]:
        """Runs by id, each with its status; `of` is Dagster's RunsFilter."""
        found = self.ask(
            "query($of: RunsFilter!) { runsOrError(filter: $of) { ... on Runs { results { runId status } } } }", of=of
        )
        return {run["runId"]: run["status"] for run in found["runsOrError"]["results"]}

    def cancel(self, run_id: str) -> None:
        """*Terminate* on a run's page."""
        found = self.ask("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run_id)[
            "terminateRun"
        ]
        assert found["__typename"] == "TerminateRunSuccess", found

    def waits(self, run_id: str) -> list[float]:
        """The seconds of each *up for retry* event so far."""
        events = self._events(run_id, "... on ExecutionStepUpForRetryEvent { secondsToWait }")
        return [event["secondsToWait"] for event in events if "secondsToWait" in event]

    def messages(self, run_id: str) -> list[str]:
        """The messages of a run's events, oldest first."""
        events = self._events(run_id, "... on MessageEvent { message }")
        return [event["message"] for event in events if "message" in event]

    def failure(self, run_id: str) -> str:
        """The error messages of a run's failed step, as its page shows them."""
        events = self._events(run_id, "... on ExecutionStepFailureEvent { error { message causes { message } } }")
        errors = [event["error"] for event in events if event.get("error")]
        return " ".join(part["message"] for error in errors for part in (error, *error["causes"]))

    def _events(self, run_id: str, fields: str) -> list[dict[str, Any]]:
        query = "query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { __typename %s } } } }"
        events: list[dict[str, Any]] = self.ask(query % fields, id=run_id)["logsForRun"]["events"]
        return events

    def materialization(self, document: str, stage: str) -> dict[str, Any]:
        """A document's latest materialization: its run and its metadata."""
        found = self.ask(
            "query($key: AssetKeyInput!, $partitions: [String!]) { assetNodeOrError(assetKey: $key) { ... on AssetNode { "
            "assetMaterializations(partitions: $partitions, limit: 1) { runId metadataEntries { label "
            "... on IntMetadataEntry { intValue } ... on TextMetadataEntry { text } } } } } }",
            key={"path": [asset_name(stage)]},
            partitions=[document],
        )
        [latest] = found["assetNodeOrError"]["assetMaterializations"]
        values = {entry["label"]: entry.get("intValue", entry.get("text")) for entry in latest["metadataEntries"]}
        return {"run": latest["runId"], **values}

    def switch_sensor(self, name: str, *, on: bool) -> None:
        """Turn a sensor on or off. Off: returns when no tick of it is under way.

        Dagster's daemon stores the state of a sensor at each tick's begin and end, as it read it just before. It undoes what
        is switched in between, so this looks again, and switches again.
        """
        if on:
            self.ask(
                "mutation($of: SensorSelector!) { startSensor(sensorSelector: $of) { __typename } }",
                of={**LOCATION, "sensorName": name},
            )
            return
        wait_for(lambda: self._is_off(name), f"the end of {name}")

    def _is_off(self, name: str) -> bool:
        """Whether a sensor is off and has no open tick. Turns it off if it is on, but not before its first tick."""
        state = self._sensor(name, "sensorState { id status ticks(limit: 1) { status } }")["sensorState"]
        if state["ticks"] and state["status"] == "RUNNING":
            self.ask("mutation($id: String!) { stopSensor(id: $id) { __typename } }", id=state["id"])
        return state["status"] == "STOPPED" and all(tick["status"] != "STARTED" for tick in state["ticks"])

    def skip_reasons(self, name: str) -> list[str]:
        """The skip messages of a sensor's last ticks, newest first."""
        ticks = self._sensor(name, "sensorState { ticks(limit: 3) { skipReason } }")["sensorState"]["ticks"]
        return [tick["skipReason"] or "" for tick in ticks]

    def _sensor(self, name: str, fields: str) -> dict[str, Any]:
        query = "query($of: SensorSelector!) { sensorOrError(sensorSelector: $of) { ... on Sensor { %s } } }"
        sensor: dict[str, Any] = self.ask(query % fields, of={**LOCATION, "sensorName": name})["sensorOrError"]
        return sensor


@contextmanager
def home_for(router: Router) -> Iterator[Home]:
    """A home with its slot settings in `.env`, so that a test can change them while `up` runs."""
    with a_home(router) as home:
        for name in ("OFFLOAD_DEEP_URL", "OFFLOAD_DEEP_MODEL"):
            del home.environment[name]
        yield home


def configure(home: Home, router: Router | None, **others: Any) -> None:
    """Write the `.env` of `home`: its deep slot (None: without one) and other settings."""
    settings = {f"OFFLOAD_{name.upper()}": value for name, value in others.items()}
    if router is not None:
        settings |= {"OFFLOAD_DEEP_URL": router.url, "OFFLOAD_DEEP_MODEL": "qwen-macbook"}
    written = home.folder / ".env.new"
    written.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    written.replace(home.folder / ".env")


def write_letters(home: Home, *documents: str) -> None:
    """Write documents with an old modification time, so a scan need not read them twice."""
    for document in documents:
        home.write(document, text_of(document))
        os.utime(home.library / document, (1_700_000_000, 1_700_000_000))


def answered(router: Router) -> Counter[tuple[str, str]]:
    """How often each stage of each document (a fingerprint of its text) was answered. Trials have no document."""
    return Counter(
        (entry["document"], entry["stage"])
        for entry in router.completions()
        if entry["document"] and entry["outcome"] == "answered"
    )


def text_of(name: str) -> str:
    """The text of a document: different for each name, and much longer than the rules before it."""
    return f"Letter {name}.\n\n" + f"Dear landlord, the heating of {name} has been cold since Monday. " * 40
