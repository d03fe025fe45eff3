"""Turn a folder of documents into typed records with a large language model that is only sometimes available."""

__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    """`OffloadPipeline`, imported when it is asked for: `import dagster_offload` does not import Dagster."""
    if name == "OffloadPipeline":
        from dagster_offload.defs.component.component import OffloadPipeline

        return OffloadPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), "OffloadPipeline"]
