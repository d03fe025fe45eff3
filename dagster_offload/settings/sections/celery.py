"""The section `celery` of the pipeline file: the broker over which the job `extract` reaches workers on several hosts."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from dagster_offload.settings.sections.section import Section, Variable
from dagster_offload.slot.addresses import has_address

REDIS = ("redis://", "rediss://")


class CelerySection(Section):
    """Where Celery's messages and results are."""

    broker: Annotated[SecretStr | None, Variable("OFFLOAD_CELERY_BROKER")] = Field(
        default=None,
        description="Redis for the job `extract`: `redis://HOST:6379/0`; set = the job runs on Celery workers",
    )

    @field_validator("broker")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_address(value.get_secret_value()):
            raise ValueError(
                "must be the address of a Redis: redis://:PASSWORD@HOST:6379/0, or rediss:// for TLS; percent-encode special "
                "characters in the password"
            )
        return value


def _is_address(text: str) -> bool:
    """Whether this is a URL of Redis that no unencoded `@`, `:` or `/` of the password splits."""
    return text.startswith(REDIS) and has_address(text) and urlsplit(text).netloc.count("@") < 2
