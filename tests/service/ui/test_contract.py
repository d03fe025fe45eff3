"""What we rely on in Dagster's web server. If a new version fails here, look at `service/ui/` again."""

import inspect

import dagster as dg
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_webserver import cli
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute

from dagster_offload.service.ui import server

# GET requests of these routes only read, or are refused (`/graphql`). The others change something, by POST only.
READ = {
    "/",
    "/{path:path}",
    "/server_info",
    "/dagit_info",
    "/logs/{path:path}",
    "/notebook",
    "/dagit/notebook",
    "/download_debug/{run_id:str}",
}
CHANGED_BY_POST = {f"/report_asset_{what}/{{asset_key:path}}" for what in ("materialization", "check", "observation")}


def test_dagsters_app_has_the_routes_that_our_rules_were_written_for() -> None:
    with dg.instance_for_test() as instance, server.serving_context(instance, EmptyWorkspaceTarget()) as context:
        app = create_app_from_workspace_process_context(context, "")
    assert isinstance(app, Starlette)
    methods = {route.path: route.methods or set() for route in app.routes if isinstance(route, Route)}
    static = {route.path for route in app.routes if isinstance(route, Mount) or route.name == "root_static"}  # type: ignore[attr-defined]
    assert {path for path in methods if path not in static} == READ | CHANGED_BY_POST | {"/graphql"}
    assert all(methods[path] <= {"GET", "HEAD"} for path in READ)
    assert all(methods[path] == {"POST"} for path in CHANGED_BY_POST)
    assert [route.path for route in app.routes if isinstance(route, WebSocketRoute)] == ["/graphql"]


def test_our_server_uses_the_defaults_of_dagster_webserver() -> None:
    assert cli.DEFAULT_DB_STATEMENT_TIMEOUT == server.STATEMENT_TIMEOUT_MS
    assert cli.DEFAULT_POOL_RECYCLE == server.POOL_RECYCLE_SECONDS
    assert cli.DEFAULT_POOL_MAX_OVERFLOW == server.MAX_POOL_OVERFLOW
    [rate] = [option.default for option in cli.dagster_webserver.params if option.name == "live_data_poll_rate"]
    assert rate == server.LIVE_DATA_POLL_RATE_MS
    parameters = inspect.signature(create_app_from_workspace_process_context).parameters
    assert [*parameters][:3] == ["workspace_process_context", "path_prefix", "live_data_poll_rate"]
