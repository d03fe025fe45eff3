"""The requests that stages send: the prompt, the questions, and how a long document is split into parts. No I/O."""
