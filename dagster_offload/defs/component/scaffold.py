"""What `dg scaffold defs dagster_offload.OffloadPipeline NAME` writes: a commented `defs.yaml`, and nothing else."""

from pathlib import Path

import dagster as dg

TEMPLATE = Path(__file__).parent / "template.yaml"  # with the name `defs.yaml`, Dagster would load it


class Scaffolder(dg.Scaffolder):
    """Writes a commented `defs.yaml`."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write the file. Raises `ValueError` for a Python scaffold: attributes are written in YAML."""
        if request.scaffold_format != "yaml":
            raise ValueError("OffloadPipeline is configured in YAML: leave out --format python")
        text = TEMPLATE.read_text(encoding="utf-8").replace("TYPE", request.type_name)
        file = request.target_path if request.append else request.target_path / "defs.yaml"
        with file.open("a" if request.append else "w", encoding="utf-8") as stream:
            stream.write(f"---\n{text}" if request.append else text)
