"""Rows of the fault matrix about request and reply formats: the forms of answers, and the requests servers accept."""

from tests.faults import acts
from tests.faults.acts import speaks, wraps, writes
from tests.faults.raw_server import Hits
from tests.faults.rows import HELD, Row, done, fails, twice, wrong

ANALYSIS = '<|channel|>analysis<|message|>Perhaps {"category": "letter"}?<|end|><|start|>assistant'
TWO_RECORDS = '{"category": "letter"} or {"category": "other"}'
NESTED = '{"a":' * 1_000 + "1" + "}" * 1_000
NO_TOKENS = {"prompt_tokens": 0, "completion_tokens": 0}

# The forms of an answer, each with broken variants.
ANSWERS: list[Row] = [
    Row("gpt-oss: channels in the content", wraps(f"{ANALYSIS}<|channel|>final<|message|>", "<|return|>"), Hits.ALL, done()),
    Row("gpt-oss: answers in the channel for tools", wraps(f"{ANALYSIS}<|channel|>commentary<|message|>", ""), Hits.ALL, done()),
    *twice("gpt-oss: no final channel", writes(ANALYSIS), wrong(HELD, 14), fails("unclosed_thinking", 7)),
    *twice("half a channel mark", writes("Hm.<|chan"), wrong(HELD, 10), fails("no_json", 6)),
    *twice("a final channel without an answer", writes("<|channel|>final<|mess"), wrong(HELD, 14), fails("no_json", 10)),
    Row("Mistral: [THINK]", wraps('[THINK]{"category": "letter"}[/THINK]', ""), Hits.ALL, done(6)),
    Row("a loose </think>", wraps('{"category": "letter"}</think>', ""), Hits.ALL, done(6)),
    Row("a draft, then the answer", wraps('Draft: {"category": "letter"} Final answer: ', ""), Hits.ALL, done()),
    Row("LM Studio: the answer in reasoning_content", speaks({"content": "", "reasoning_content": "{right}"}), Hits.ALL, done()),
    Row("Ollama: the answer in reasoning", speaks({"content": "", "reasoning": "So: {right}"}), Hits.ALL, done(6)),
    *twice(
        "two records in reasoning_content", speaks({"content": "", "reasoning_content": TWO_RECORDS}),
        wrong(HELD, 14), fails("empty_answer", 10),
    ),
    *twice(
        "half a record in reasoning_content", speaks({"content": "", "reasoning_content": '{"category": "oth'}),
        wrong(HELD, 14), fails("empty_answer", 10),
    ),
    Row("LM Studio: structured output that is empty", acts.writes_nothing_in_a_schema, Hits.ALL, done(2)),
    Row("a line break inside a text", writes('{"category": "other", "language": "en\n"}'), Hits.ALL, done()),
    Row("a trailing comma", writes('{"category": "other", "why": ["a", "b",],}'), Hits.ALL, done()),
    Row("a trailing comma in a fence", writes('```json\n{"category": "other",}\n```'), Hits.ALL, done()),
    *twice("two trailing commas", writes('{"category": "other",,}'), wrong(HELD, 10), fails("no_json", 6)),
    *twice("stop at the token limit", acts.stops_at_its_limit, wrong(HELD, 10), fails("cut_by_max_tokens", 6)),
    *(
        Row(f"confidence {value[:8]}", writes(f'{{"category": "other", "confidence": {value}}}'), Hits.ALL, done())
        for value in ("87.5", "101", "-1", "NaN", '"sure"', "{}", "9" * 5_000)
    ),
    *twice("an answer of 5 MB", writes("x" * 5_000_000), wrong(HELD, 5), fails("answer_too_long")),
    *twice("a thousand nested objects", writes(NESTED), wrong(HELD, 10), fails("no_json", 6)),
    Row("a thousand nested objects before the answer", wraps(NESTED, ""), Hits.ALL, done()),
    *twice(
        "LM Studio: overflow without a token, and too short to split", writes("", usage=NO_TOKENS),
        wrong(HELD, 10), fails("empty_answer", 6),
    ),
    Row("llama.cpp: no system role", acts.without_system_role(500), Hits.ALL, done(2)),
    Row("vLLM: no system role", acts.without_system_role(400), Hits.ALL, done(2)),
    Row("mlx_lm: no system role", acts.without_system_role(404), Hits.ALL, done(2)),
    Row("OpenAI: max_completion_tokens only", acts.wants_max_completion_tokens, Hits.ALL, done(2)),
    Row("vLLM: thinks in a context of 4096", acts.always_thinks_in_a_small_context, Hits.ALL, done(8)),
]  # fmt: skip
