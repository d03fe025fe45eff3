"""The stand-in router for the demo, the tests and the benchmarks. It runs no model."""

from dagster_offload.simulator.server import Router

__all__ = ["Router"]
