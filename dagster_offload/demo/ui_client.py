"""Acts like a user of Dagster's UI, through the same GraphQL API: materialize a document, look at the run."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from dagster_offload.defs.location import LOCATION
from dagster_offload.errors import OffloadError
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE, asset_name

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
STATUS = """
query Status($run: ID!) {
  runOrError(runId: $run) { ... on Run { status } }
  logsForRun(runId: $run) { ... on EventConnection { events { __typename } } }
}
"""


class UIClient:
    """A client of the UI at `address`."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port

    def materialize(self, document: str) -> str:
        """Launch a run for a document's classification and summary, as the asset page's button does. Returns the run's id."""
        params = {
            "selector": {
                "repositoryLocationName": LOCATION,
                "repositoryName": "__repository__",
                "jobName": "__ASSET_JOB",
                "assetSelection": [{"path": [asset_name(stage)]} for stage in (CLASSIFY, SUMMARIZE)],
                "assetCheckSelection": [],
            },
            "runConfigData": "{}",
            "mode": "default",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": document}]},
        }
        launch = self._query(LAUNCH, {"params": params})["launchRun"]
        if launch["__typename"] != "LaunchRunSuccess":
            raise OffloadError(f"Dagster did not launch the run: {launch['__typename']} {launch.get('message', '')}")
        run_id: str = launch["run"]["runId"]
        return run_id

    def has_waited(self, run_id: str) -> bool:
        """Whether the run's step has been 'up for retry'."""
        events = self._query(STATUS, {"run": run_id})["logsForRun"]["events"]
        return any(event["__typename"] == "ExecutionStepUpForRetryEvent" for event in events)

    def is_over(self, run_id: str) -> bool:
        """Whether the run has ended, in any state."""
        return self._query(STATUS, {"run": run_id})["runOrError"]["status"] in {"SUCCESS", "FAILURE", "CANCELED"}

    def _query(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=30)
        try:
            body = json.dumps({"query": query, "variables": variables})
            connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise OffloadError(f"the UI does not answer: {error}") from error
        finally:
            connection.close()
        if "errors" in answer:
            raise OffloadError(f"the UI rejected a query: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data
