"""The name of the code location. Apart from the other names, because `up` needs it and does not import Dagster."""

LOCATION = "dagster-offload"  # as in workspace.yaml
