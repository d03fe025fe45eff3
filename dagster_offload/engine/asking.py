"""The question about a passage, with the values that other documents have."""

from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.reports.used_values import used_values
from dagster_offload.stages.answers.canonical import offer
from dagster_offload.stages.llm_stage import LLMStage
from dagster_offload.stages.prompts.long_documents import Passage
from dagster_offload.stages.prompts.questions import Question


async def question_about(ledger: AsyncLedger, stage: LLMStage, passage: Passage) -> Question:
    """The stage's question. If it has canonical fields, it offers the values used so far."""
    if not stage.canonical:
        return Question(passage.instruction, stage.options)
    offered = offer(await ledger.run(used_values, stage.name, stage.canonical))
    return Question(passage.instruction + offered, stage.options)
