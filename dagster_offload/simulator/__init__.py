"""The stand-in router that ships with the product: for the demo, the tests and the benchmarks. It holds no model."""

from dagster_offload.simulator.server import Router

__all__ = ["Router"]
