"""Another role's objects in our schema of a shared Postgres are refused, and nothing is changed."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from dagster_offload.defs.instance import prepare_instance
from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.postgres import DAGSTER_SCHEMA
from dagster_offload.postgres.urls import libpq_url
from dagster_offload.settings import load_settings
from dagster_offload.stages.graph import BUILT_IN


class SharedDatabase:
    """A database with two ordinary roles, a victim and an attacker, that may both create schemas."""

    def __init__(self, url: str) -> None:
        self.url = url
        mark = uuid.uuid4().hex[:8]
        self.victim, self.attacker = f"victim_{mark}", f"attacker_{mark}"

    def url_of(self, role: str) -> str:
        return libpq_url({**conninfo_to_dict(self.url), "options": f"-c role={role}"})

    def run(self, role: str, *statements: str) -> None:
        names = {"victim": sql.Identifier(self.victim), "attacker": sql.Identifier(self.attacker)}
        with psycopg.connect(self.url_of(role) if role else self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(sql.SQL(statement).format(**names))

    def ledger(self) -> Ledger:
        return Ledger(self.url_of(self.victim))


@pytest.fixture
def shared(empty_url: str) -> Iterator[SharedDatabase]:
    database = SharedDatabase(empty_url)
    name = conninfo_to_dict(empty_url)["dbname"]
    database.run(
        "",
        "create role {victim}",
        "create role {attacker}",
        f"grant create on database {name} to {{victim}}, {{attacker}}",
    )
    try:
        yield database
    finally:
        database.run("", "drop owned by {victim}, {attacker} cascade", "drop role {victim}, {attacker}")


def test_migrating_our_own_ledger_twice_works(shared: SharedDatabase) -> None:
    with shared.ledger() as ledger:
        migrate(ledger, BUILT_IN)
        migrate(ledger, BUILT_IN)


def test_a_schema_created_by_the_administrator_is_accepted(shared: SharedDatabase) -> None:
    shared.run("", "create schema offload", "grant all on schema offload to {victim}")
    with shared.ledger() as ledger:
        migrate(ledger, BUILT_IN)


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["create schema offload", "grant all on schema offload to {victim}"], "the schema offload "),
        (
            ["create table offload.migrations (number integer, name text, applied_at timestamptz)"],
            "the table offload.migrations",
        ),
        (["create view offload.documents as select 1 as number"], "the view offload.documents"),
        (["create sequence offload.claim_tokens"], "the sequence offload.claim_tokens"),
        (
            ["create function offload.now() returns int language sql as 'select 1'"],
            "the function offload.now()",
        ),
        (
            [
                "create function public.same(text, text) returns boolean language sql as 'select true'",
                "create operator offload.= (function = public.same, leftarg = text, rightarg = text)",
            ],
            "the operator offload.=(text,text)",
        ),
        (["create domain offload.key as text"], "the type offload.key"),
    ],
)
def test_an_object_of_another_role_in_our_schema_is_refused(
    shared: SharedDatabase, statements: list[str], named: str
) -> None:
    shared.run("", "grant create on schema public to {attacker}")
    if not statements[0].startswith("create schema"):
        shared.run(shared.victim, "create schema offload", "grant all on schema offload to {attacker}")
    shared.run(shared.attacker, *statements)
    with shared.ledger() as ledger, pytest.raises(LedgerUnavailable) as refused:
        migrate(ledger, BUILT_IN)
    assert named in str(refused.value)
    assert f"belongs to the role {shared.attacker}" in str(refused.value)
    assert "OFFLOAD_POSTGRES_URL" in str(refused.value)
    with psycopg.connect(shared.url) as connection:
        created = connection.execute("select 1 from pg_class where relname = 'work_items'").fetchone()
    assert created is None


@pytest.mark.parametrize("grantee", ["{attacker}", "public"])
def test_a_schema_in_which_another_role_may_create_is_refused(shared: SharedDatabase, grantee: str) -> None:
    shared.run(shared.victim, "create schema offload", f"grant create on schema offload to {grantee}")
    with shared.ledger() as ledger, pytest.raises(LedgerUnavailable, match="revoke create on schema offload from"):
        migrate(ledger, BUILT_IN)


def test_dagster_tables_of_another_role_are_refused(shared: SharedDatabase, tmp_path: object) -> None:
    shared.run(
        shared.attacker,
        f"create schema {DAGSTER_SCHEMA}",
        f"create table {DAGSTER_SCHEMA}.runs (id integer)",
        f"grant all on schema {DAGSTER_SCHEMA} to {{victim}}",
    )
    with pytest.raises(LedgerUnavailable, match=DAGSTER_SCHEMA):
        prepare_instance(load_settings(home=f"{tmp_path}/home"), shared.url_of(shared.victim))
