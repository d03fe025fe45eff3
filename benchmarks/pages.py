"""Dagster's pages of an asset: one partition for each of 100,000 documents, against the 2,000 partitions of a million.

A real web server answers the queries of each page. The queries are those of Dagster 1.13, without the fields that do not
depend on partitions. Events are copies of one real event, made by SQL. Pages read nothing of the ledger, so it is empty.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import httpx

from benchmarks.rows import Benchmark, Row, at_most, median
from benchmarks.workspace import Home, Workspace
from dagster_offload.defs.instance import open_instance
from dagster_offload.defs.names import names_of
from dagster_offload.defs.shown.documents import CODE_VERSION_TAG, DATA_VERSION_TAG
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.library.partition_keys import MOST_PARTITIONS
from dagster_offload.stages.graph import BUILT_IN
from tests.support.ports import hold_port, port_of

ONE_DOCUMENT_EACH = 100_000
TURNS = 6  # the first one fills Dagster's cache
KEYS = names_of(BUILT_IN).keys
ASSETS = [{"path": list(key.path)} for key in KEYS.values()]

HEALTH = """query PartitionHealthQuery($assetKey: AssetKeyInput!) { assetNodeOrError(assetKey: $assetKey) { ... on AssetNode {
  id partitionKeysByDimension { name type partitionKeys } assetPartitionStatuses { ... on DefaultPartitionStatuses {
  materializedPartitions materializingPartitions failedPartitions } } } } }"""
LIVE = """query AssetGraphLiveQuery($assetKeys: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $assetKeys, loadMaterializations: true) {
  id assetKey { path } assetMaterializations(limit: 1) { timestamp runId }
  partitionStats { numMaterialized numMaterializing numPartitions numFailed } }
  assetsLatestInfo(assetKeys: $assetKeys) { id unstartedRunIds inProgressRunIds latestRun { id status } } }"""
DETAIL = """query AssetPartitionDetailQuery($assetKey: AssetKeyInput!, $partitionKey: String!) { assetNodeOrError(
  assetKey: $assetKey) { ... on AssetNode { id latestMaterializationByPartition(partitions: [$partitionKey]) { runId timestamp }
  latestRunForPartition(partition: $partitionKey) { id } } } }"""
LOADER = """query LaunchAssetLoaderQuery($assetKeys: [AssetKeyInput!]!) { assetNodes(assetKeys: $assetKeys) { id jobNames
  partitionDefinition { name type dimensionTypes { name dynamicPartitionsDefinitionName } } dependencyKeys { path } }
  assetNodeAdditionalRequiredKeys(assetKeys: $assetKeys) { path } }"""


@dataclass(frozen=True)
class Site:
    """A web server whose assets have these partitions."""

    client: httpx.Client
    keys: Sequence[str]

    def seconds(self, page: str) -> float:
        """How long the queries of a page take, one after another."""
        asset = {"assetKey": ASSETS[-1]}
        pages: Mapping[str, list[tuple[str, dict[str, Any]]]] = {
            "the asset": [(LIVE, {"assetKeys": ASSETS}), (HEALTH, asset)],
            "its partitions": [(HEALTH, asset), (DETAIL, {**asset, "partitionKey": self.keys[len(self.keys) // 2]})],
            "the launch dialog": [(LOADER, {"assetKeys": ASSETS}), *((HEALTH, {"assetKey": key}) for key in ASSETS)],
        }
        began = time.perf_counter()
        for query, variables in pages[page]:
            self.ask(query, variables)
        return time.perf_counter() - began

    def ask(self, query: str, variables: dict[str, Any]) -> None:
        body = {"query": query, "variables": variables}
        found = self.client.post("/graphql", json=body).raise_for_status().json()
        if found.get("errors"):
            raise RuntimeError(found["errors"])


@contextmanager
def site(workspace: Workspace, keys: Sequence[str]) -> Iterator[Site]:
    with workspace.home() as (home, ledger), open_instance(home.settings) as instance:
        workspace.report(f"materializing {len(keys):,} partitions of {len(KEYS)} assets")
        for start in range(0, len(keys), 1_000):
            instance.add_dynamic_partitions("documents", keys[start : start + 1_000])
        materialize_all(instance, ledger)
        with (
            web_server(home, Path(instance.root_directory)) as url,
            httpx.Client(base_url=url, timeout=600) as client,
        ):
            yield Site(client, keys)


def materialize_all(instance: dg.DagsterInstance, ledger: Ledger) -> None:
    """Copy one real event of each asset to every partition."""
    for key in KEYS.values():
        tags = {DATA_VERSION_TAG: "d" * 64, CODE_VERSION_TAG: "c" * 16}
        metadata: dict[str, Any] = {"preview": "x" * 500, "tokens_in": 500, "path": dg.MetadataValue.path("PARTITION")}
        instance.report_runless_asset_event(
            dg.AssetMaterialization(key, partition="PARTITION", tags=tags, metadata=metadata)
        )
    with ledger.connect() as connection:
        connection.execute("set search_path to offload_dagster")
        connection.execute(
            "insert into event_logs (run_id, dagster_event_type, timestamp, step_key, asset_key, partition, event) "
            "select run_id, dagster_event_type, timestamp, step_key, asset_key, p.partition, "
            "  replace(e.event, 'PARTITION', p.partition) from event_logs e "
            "cross join (select id as place, partition from dynamic_partitions) p where e.partition = 'PARTITION' "
            "order by e.asset_key, p.place"
        )
        connection.execute("delete from event_logs where partition = 'PARTITION'")
        connection.execute("vacuum analyze")


@contextmanager
def web_server(home: Home, dagster_home: Path) -> Iterator[str]:
    holder = hold_port()
    command = [str(Path(sys.executable).parent / "dagster-webserver"), "-m", "dagster_offload.definitions"]
    with subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", str(port_of(holder))],
        env=home.environment | {"DAGSTER_HOME": str(dagster_home)},
        cwd=home.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            url = f"http://127.0.0.1:{port_of(holder)}"
            while not _answers(url):
                if server.poll() is not None:
                    raise RuntimeError("the web server ended")
                time.sleep(0.2)
            yield url
        finally:
            server.terminate()
            holder.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/server_info", timeout=60).is_success
    except httpx.TransportError:
        return False


def pages(workspace: Workspace, documents: int = ONE_DOCUMENT_EACH) -> Iterator[Row]:
    with ExitStack() as stack:
        each = stack.enter_context(site(workspace, [f"letters/{number}.txt" for number in range(documents)]))
        many = stack.enter_context(site(workspace, [f"shard-{number:04}" for number in range(MOST_PARTITIONS)]))
        for page in ("the asset", "its partitions", "the launch dialog"):
            pairs = [(many.seconds(page), each.seconds(page)) for _ in range(TURNS)]
            first, (fast, slow) = pairs[0], ([pair[side] for pair in pairs[1:]] for side in (0, 1))
            raw = {"2000_partitions_s": fast, f"{documents}_partitions_s": slow, "first_s": first}
            what = f"{page}: 2,000 partitions against {documents:,}"
            yield Row(what, at_most(0.5), median(fast) / median(slow), raw)
            yield Row(f"{page}: 2,000 partitions", at_most(5, "s"), median(fast), {})


BENCHMARKS = (Benchmark("pages", pages),)
