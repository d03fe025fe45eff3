"""What every section of the pipeline file has in common."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator


def absolute(path: Path) -> Path:
    """The path from the root, without `~` and `..`, so that prefix checks on paths below it work. Links are not resolved."""
    return Path(os.path.abspath(path.expanduser()))


AbsolutePath = Annotated[Path, AfterValidator(absolute)]


def _split(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


# A program and its arguments. A single text is split as a shell would.
Arguments = Annotated[tuple[str, ...], BeforeValidator(_split)]


@dataclass(frozen=True)
class Variable:
    """Marks a field whose environment variable cannot be derived from its key."""

    name: str


class Section(BaseModel):
    """Base class of everything in the file: immutable, and a key that it does not know is an error.

    A key without a value is not set: such keys remain when a person comments out the values below them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if values is None:
            return {}
        return (
            {key: value for key, value in values.items() if value is not None or not cls._may_be_unset(key)}
            if isinstance(values, dict)
            else values
        )

    @classmethod
    def _may_be_unset(cls, key: str) -> bool:
        """Whether `key` without a value is left out. An unknown one stays and is refused, as it is with a value."""
        known = (field.alias or name for name, field in cls.model_fields.items())
        return cls.model_config.get("extra") == "allow" or key in known
