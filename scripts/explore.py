"""Open a page in the browser on which you play an episode yourself; stop it with Ctrl+C.

python scripts/explore.py --problem Rosenbrock
python scripts/explore.py --problem Booth --agent every:k=3
"""

from __future__ import annotations

import socket
import webbrowser
from dataclasses import dataclass

import torch

import command_line
from explorer.session import Wish, admit
from teleport_env.reading import integer
from teleport_env.registration import problem_named


@dataclass(frozen=True)
class Explorer:
    """What the page shows first, and where it is served.

    Attributes:
        problem: Registered name, or module:Name for one of your own.
        agent: Agent that advises, such as every:k=3; None: the policy that the package brings.
        trust: Read a model of stable-baselines3 that is named as the agent: its file can run any code.
        split: Split of the instance.
        instance: Number of the instance; None: drawn from the seed.
        seed: Seed of the environment.
        port: Port on this machine; 0: a free one.
        browser: Whether to open a browser.
    """

    problem: str = "Rosenbrock"
    agent: str | None = None
    trust: bool = False
    split: str = "test"
    instance: int | None = None
    seed: int = 0
    port: int = 8765
    browser: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "problem", problem_named(self.problem))
        if self.agent is not None:
            object.__setattr__(self, "agent", admit(self.problem, self.agent, self.trust))
        self.wish()
        integer("port", self.port, 0, 65535)

    def wish(self) -> Wish:
        """The episode that the page offers first."""
        names = ("problem", "agent", "split", "instance", "seed")
        return Wish.read({name: getattr(self, name) for name in names})


def main() -> None:
    given = command_line.read(Explorer, description=__doc__)
    try:
        import uvicorn

        from explorer.server import application
    except ImportError as error:
        raise SystemExit('the explorer needs a server: pip install "teleport-env[explore]"') from error
    torch.set_num_threads(1)  # the tensors are small
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", given.port))
    except OSError as error:
        raise SystemExit(
            f"explore: port {given.port} is taken ({error.strerror}); choose another, or --port 0 for a free one"
        ) from error
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    print(f"The explorer is at {address} until you press Ctrl+C.", flush=True)
    if given.browser:
        webbrowser.open(address)
    uvicorn.Server(uvicorn.Config(application(given.wish()), log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main()
