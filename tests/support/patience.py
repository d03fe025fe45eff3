"""How long a test waits for something that must happen."""

PATIENCE_SECONDS = 300.0  # for a busy machine; every wait ends as soon as its condition is true
