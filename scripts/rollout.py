"""Play one episode and save its picture (.png) or the whole course as an animation (.gif).

python scripts/rollout.py --problem Rosenbrock --agent relative_decrease --out rosenbrock.gif
python scripts/rollout.py --paper Booth --out booth.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym

from teleport_env.agents import AGENTS, PAPER, Agent, agent_from, paper
from teleport_env.agents.comparison.rollout import check_ending, roll_out
from teleport_env.problems import PROBLEMS
from teleport_env.registration import id_of


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="Rosenbrock", choices=list(PROBLEMS), metavar="PROBLEM", help="its name")
    parser.add_argument(
        "--agent", default="relative_decrease", choices=sorted(AGENTS), metavar="AGENT", help="its name"
    )
    parser.add_argument("--paper", choices=sorted(PAPER), metavar="PRESET", help=f"a published run: {', '.join(PAPER)}")
    parser.add_argument("--split", default="test", choices=["paper", "train", "validation", "test"])
    parser.add_argument("--instance", type=int, help="instance id; default: drawn from the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=60, help="most frames of an animation")
    parser.add_argument("--out", type=Path, default=Path("rollout.png"), help=".png or .gif")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    try:
        check_ending(given.out)
        if given.paper:
            preset = paper(given.paper)
            agent: Agent = preset.agent
            steps: int | None = preset.steps
            env = preset.make(render_mode="rgb_array")
        else:
            agent, steps = agent_from(given.agent), None
            env = gym.make(id_of(given.problem), render_mode="rgb_array", split=given.split, **agent.environment)
        options = None if given.instance is None else {"instance_id": given.instance}
        animate = given.out.suffix == ".gif"
        seen = roll_out(env, agent, seed=given.seed, options=options, steps=steps, animate=animate)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"rollout: {error}") from error
    seen.save(given.out, given.frames)
    print(f"{seen}.\nSaved {given.out}")


if __name__ == "__main__":
    main()
