"""The pipeline schedules by name: how many stages a rank holds, which ones, and what each asks of a batch. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from maquette.errors import unknown_name


@dataclass(frozen=True)
class Schedule:
    """One way through a pipeline.

    Args:
        word: its name in the configuration.
        torch_name: of the class in ``torch.distributed.pipelining.schedules``.
        stages_per_rank: stages that each rank holds.
        is_v: rank r holds stages r and last - r, so that the first rank also ends the pipeline.
        splits_backward: gradients of inputs and of weights are computed apart ("zero bubble").
        fills_rounds: microbatches go in equal rounds of at least as many as there are ranks.
        least_per_stage: fewest microbatches per stage of the pipeline; 0 where any number will do.
    """

    word: str
    torch_name: str
    stages_per_rank: int = 1
    is_v: bool = False
    splits_backward: bool = False
    fills_rounds: bool = False
    least_per_stage: int = 0

    def stages(self, ranks: int) -> int:
        """How many stages a pipeline of ``ranks`` ranks has."""
        return ranks * self.stages_per_rank

    def held(self, rank: int, ranks: int) -> list[int]:
        """The stages that a rank holds, in order."""
        return [stage for stage in range(self.stages(ranks)) if self.owner(stage, ranks) == rank]

    def owner(self, stage: int, ranks: int) -> int:
        """Which rank holds a stage."""
        if self.is_v and stage >= ranks:
            return self.stages(ranks) - 1 - stage
        return stage % ranks

    def takes(self, microbatches: int, ranks: int) -> bool:
        """Whether this schedule can run with so many microbatches."""
        if microbatches < max(1, self.least_per_stage * self.stages(ranks)):
            return False
        return not self.fills_rounds or (microbatches >= ranks and microbatches % (microbatches // ranks) == 0)

    def choices(self, rows: int, ranks: int) -> list[int]:
        """The numbers of microbatches that divide a batch of ``rows`` and that this schedule takes."""
        return [count for count in range(1, rows + 1) if rows % count == 0 and self.takes(count, ranks)]

    def choose(self, rows: int, ranks: int) -> int | None:
        """A number of microbatches for a batch: the smallest that leaves at most a third idle, else the largest.

        With m microbatches on p ranks a schedule without interleaving idles (p - 1) / (m + p - 1) of its time
        (Huang et al., "GPipe", 2019): m = 2p leaves less than a third.
        """
        choices = self.choices(rows, ranks)
        return next((count for count in choices if count >= 2 * ranks), choices[-1] if choices else None)


SCHEDULES = {
    schedule.word: schedule
    for schedule in (
        Schedule("gpipe", "ScheduleGPipe"),
        Schedule("1f1b", "Schedule1F1B", least_per_stage=1),
        Schedule("interleaved", "ScheduleInterleaved1F1B", stages_per_rank=2, fills_rounds=True),
        Schedule("looped_bfs", "ScheduleLoopedBFS", stages_per_rank=2),
        Schedule(
            "interleaved_zero_bubble",
            "ScheduleInterleavedZeroBubble",
            stages_per_rank=2,
            splits_backward=True,
            fills_rounds=True,
        ),
        Schedule("zbv", "ScheduleZBVZeroBubble", stages_per_rank=2, is_v=True, splits_backward=True),
        Schedule(
            "dualpipev", "ScheduleDualPipeV", stages_per_rank=2, is_v=True, splits_backward=True, least_per_stage=1
        ),
    )
}
"""Narayanan et al., "Efficient Large-Scale Language Model Training", 2021 (1f1b, interleaved); Qi et al., "Zero Bubble
Pipeline Parallelism", 2023 (zero bubble, zbv); DeepSeek-AI, "DeepSeek-V3", 2024 (dualpipe)."""


def schedule_named(word: str) -> Schedule:
    """The schedule of that name.

    Raises:
        MaquetteError: there is none.
    """
    if word not in SCHEDULES:
        raise unknown_name("pipeline schedule", word, SCHEDULES)
    return SCHEDULES[word]


def block_counts(blocks: int, stages: int) -> list[int]:
    """How many blocks each stage gets: as even as can be.

    What is left over goes to the stages after the first, which has the embeddings and the conditioner already.
    """
    least, left = divmod(blocks, stages)
    return [least + (1 <= stage <= left) for stage in range(stages)]
