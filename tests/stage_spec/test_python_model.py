"""A pydantic model as the form of an answer: by import path, and in Python."""

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from dagster_offload.errors import SettingsError, UnusableAnswer
from dagster_offload.settings import Stage, load_settings, with_stages
from dagster_offload.stage_spec.python_model import import_model
from dagster_offload.stages.catalog import llm_stages, recipes, stage_graph
from dagster_offload.stages.own import own_stage


class Payment(BaseModel):
    payee: str
    amount: float

    @field_validator("amount")
    @classmethod
    def _is_positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError("must be above zero")
        return value

    @field_validator("payee")
    @classmethod
    def _without_title(cls, value: str) -> str:
        return value.removeprefix("Dr. ")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path with the module `answers_of_mine`."""
    folder = tmp_path / "site"
    folder.mkdir(mode=0o755)
    (folder / "answers_of_mine.py").write_text(
        "from pydantic import BaseModel\n\nclass Payment(BaseModel):\n    payee: str\n\nother = 3\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    monkeypatch.delitem(sys.modules, "answers_of_mine", raising=False)
    return folder


def test_a_model_of_a_module_on_pythons_path_is_imported(package: Path) -> None:
    assert list(import_model("answers_of_mine:Payment").model_fields) == ["payee"]


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("answers_of_mine", "must be module:Class"),
        ("answers of mine:Payment", "must be module:Class"),
        ("answers_of_mine:other", "has no pydantic model 'other'"),
        ("answers_of_mine:Missing", "has no pydantic model 'Missing'"),
        ("no_such_module_here:Payment", "there is no module 'no_such_module_here'"),
    ],
)
def test_what_is_no_model_is_refused(package: Path, written: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        import_model(written)


def test_a_module_that_another_user_could_change_is_not_imported(package: Path) -> None:
    (package / "answers_of_mine.py").chmod(0o666)
    with pytest.raises(ValueError, match="another user could change it"):
        import_model("answers_of_mine:Payment")
    assert "answers_of_mine" not in sys.modules


def test_a_module_of_the_working_folder_is_not_imported(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `python -m` puts the working folder first.
    monkeypatch.setattr(sys, "path", [str(package), *[entry for entry in sys.path if entry != str(package)]])
    monkeypatch.chdir(package)
    with pytest.raises(ValueError, match="there is no module 'answers_of_mine'"):
        import_model("answers_of_mine:Payment")


def test_a_module_of_the_working_folder_is_not_imported_instead_of_the_one_that_was_checked(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "answers_of_mine.py").write_text("raise SystemExit('ran')")
    monkeypatch.setattr(sys, "path", [str(shared), *sys.path])
    monkeypatch.chdir(shared)
    with pytest.raises(
        ValueError, match=r"because .*/shared/answers_of_mine\.py stands before .*/site/answers_of_mine"
    ):
        import_model("answers_of_mine:Payment")


def test_a_module_that_breaks_is_named_with_its_error(package: Path) -> None:
    (package / "answers_of_mine.py").write_text("1 / 0")
    with pytest.raises(ValueError, match="answers_of_mine cannot be imported: ZeroDivisionError"):
        import_model("answers_of_mine:Payment")


def test_the_model_of_a_pipeline_file_and_of_python_ask_the_same_question(package: Path) -> None:
    in_file = Stage.model_validate({"prompt": "Who?", "model": "answers_of_mine:Payment"})
    in_python = Stage(prompt="Who?", answer=import_model("answers_of_mine:Payment"))  # type: ignore[arg-type]
    written = Stage.model_validate({"prompt": "Who?", "answer": {"payee": "string"}})
    settings = load_settings()
    assert len({recipes(with_stages(settings, money=spec))["money"] for spec in (in_file, in_python, written)}) == 1


def test_two_forms_of_the_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="answer and schema both give the fields"):
        Stage.model_validate({"prompt": "Who?", "answer": {"payee": "string"}, "schema": {"type": "object"}})


def test_a_model_checks_and_reads_every_answer_itself() -> None:
    stage = own_stage("payment", Stage(prompt="What?", answer=Payment))  # type: ignore[arg-type]
    assert stage.parse('{"payee": "Dr. Kim", "amount": 3}').model_dump() == {"payee": "Kim", "amount": 3.0}
    with pytest.raises(UnusableAnswer, match="amount: must be above zero"):
        stage.parse('{"payee": "Kim", "amount": -3}')


class Line(BaseModel):
    what: str = "goods"
    price: Decimal


class Bill(BaseModel):
    number: str
    copies: int = 1
    currency: Literal["EUR", "USD"] = "EUR"
    paid: int | None = 0
    total: Decimal | None = None
    lines: list[Line] = []


def test_a_value_that_the_document_does_not_state_gets_the_default_of_the_model() -> None:
    stage = own_stage("bill", Stage(prompt="What?", answer=Bill))  # type: ignore[arg-type]
    assert '"copies": a whole number, or null' in stage.instruction
    answer = {"number": "7", "copies": None, "currency": None, "paid": None, "total": None}
    record = stage.parse(json.dumps(answer | {"lines": [{"what": None, "price": 2}]})).model_dump()
    assert (record["copies"], record["currency"], record["lines"]) == (1, "EUR", ({"what": "goods", "price": 2.0},))
    assert record["paid"] is None, "the model accepts null there"


def test_a_null_where_the_model_needs_a_value_is_still_refused() -> None:
    class Strict(BaseModel):
        number: str | None

        @field_validator("number")
        @classmethod
        def _is_there(cls, value: str | None) -> str | None:
            if value is None:
                raise ValueError("must be stated")
            return value

    stage = own_stage("bill", Stage(prompt="What?", answer=Strict))  # type: ignore[arg-type]
    with pytest.raises(UnusableAnswer, match="number: must be stated"):
        stage.parse('{"number": null}')


def test_a_decimal_is_a_number_which_may_be_null_where_the_model_says_so() -> None:
    stage = own_stage("bill", Stage(prompt="What?", answer=Bill))  # type: ignore[arg-type]
    assert '"total": a number, or null' in stage.instruction
    assert '"price": a number}' in stage.instruction
    answer = {"number": "7", "copies": 1, "currency": "USD", "paid": 0, "total": "1.234,56", "lines": []}
    assert stage.parse(json.dumps(answer)).model_dump()["total"] == 1234.56


def test_stages_of_python_join_those_of_the_pipeline_file() -> None:
    settings = with_stages(load_settings(), payment=Stage(prompt="What?", answer=Payment, reads="summarize"))  # type: ignore[arg-type]
    assert stage_graph(settings).names == ("extract", "classify", "summarize", "payment")
    assert llm_stages(settings)["payment"].options.response_schema is not None
    with pytest.raises(SettingsError, match=r"stages\.payment\.reads: there is no stage 'sumarize'"):
        with_stages(load_settings(), payment=Stage(prompt="What?", answer=Payment, reads="sumarize"))  # type: ignore[arg-type]
