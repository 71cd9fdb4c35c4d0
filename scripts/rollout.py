"""Play one episode and save its picture (.png), the whole course as an animation (.gif), or a page that plays it (.html).

python scripts/rollout.py --problem Rosenbrock --agent relative_decrease --out rosenbrock.gif
python scripts/rollout.py --problem my_module:Mine --agent every:k=3 --out mine.png
python scripts/rollout.py --paper Booth --out booth.png
python scripts/rollout.py --problem Booth --html booth.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym

import command_line
from explorer.course import Recorder
from explorer.page import export
from teleport_env.agents import PAPER, Agent, paper
from teleport_env.agents.comparison.rollout import check_ending, roll_out
from teleport_env.agents.naming import agent_for, described_agents
from teleport_env.files import check_file, write
from teleport_env.problems.base import SPLITS
from teleport_env.reading import integer, known
from teleport_env.registration import id_of, problem_named


@dataclass(frozen=True)
class Episode:
    """Which episode, and where its picture goes.

    Attributes:
        problem: Registered name, or module:Name.
        agent: Name of the agent that plays, with settings: every:k=3; help lists all.
        trust: Read a model of stable-baselines3 that is named as the agent: its file can run any code.
        paper: Published run to play instead, such as Booth; None: none.
        split: Split of the instance.
        instance: Number of the instance; None: drawn from the seed.
        seed: Seed of the environment.
        frames: Most frames of an animation.
        out: File of the picture (.png) or of the animation (.gif); None: rollout.png, or none where a page is asked for.
        html: File of a page on which the episode can be played again, without a server (.html); None: none.
    """

    problem: str = "Rosenbrock"
    agent: str = "relative_decrease"
    trust: bool = False
    paper: str | None = None
    split: str = "test"
    instance: int | None = None
    seed: int = 0
    frames: int = 60
    out: Path | None = None
    html: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "problem", problem_named(self.problem))
        object.__setattr__(self, "split", known("split", self.split, SPLITS))
        if self.paper is not None:
            object.__setattr__(self, "paper", known("paper", self.paper, PAPER))
        integer("instance", self.instance or 0, 0, (1 << 63) - 1)
        integer("seed", self.seed, 0, (1 << 63) - 1)
        integer("frames", self.frames, 1, 10_000)
        if self.out is None and self.html is None:
            object.__setattr__(self, "out", Path("rollout.png"))
        if self.out is not None:
            check_ending(self.out)
        if self.html is not None and self.html.suffix != ".html":
            raise ValueError(f"html must be a file that ends in .html, got {str(self.html)!r}")


def main() -> None:
    given = command_line.read(Episode, description=__doc__)
    if given.agent == "help":
        print(described_agents())
        return
    try:
        for path in (given.out, given.html):
            if path is not None:
                check_file(path)
        if given.paper:
            preset = paper(given.paper)
            agent: Agent = preset.agent
            steps: int | None = preset.steps
            env = preset.make(render_mode="rgb_array")
        else:
            agent, steps = agent_for(given.problem, given.agent, trust=given.trust), None
            env = gym.make(id_of(given.problem), render_mode="rgb_array", split=given.split, **agent.environment)
        options = None if given.instance is None else {"instance_id": given.instance}
        animate = given.out is not None and given.out.suffix == ".gif"
        recorder = Recorder(env, {"agent": agent.name, "seed": given.seed})
        seen = roll_out(env, agent, seed=given.seed, options=options, steps=steps, animate=animate, watch=recorder)
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise SystemExit(f"rollout: {error}") from error
    print(f"{seen}.")
    if given.out is not None:
        seen.save(given.out, given.frames)
        print(f"Saved {given.out.resolve()}")
    if given.html is not None:
        print(f"Saved {write(given.html, export(recorder.document())).resolve()}")


if __name__ == "__main__":
    main()
