"""Players that are not made here: models of stable-baselines3, modules and functions, each in its own environment."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from teleport_env.agents import Never, Stall, as_agent, feature
from teleport_env.agents.comparison.rollout import roll_out
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.agents.learning.sb3 import SB3VecEnv
from teleport_env.agents.naming import agent_for
from teleport_env.agents.outside import Outside
from teleport_env.agents.play import draw_instances, play, play_all
from teleport_env.agents.saved import saved_policy
from teleport_env.envs.features import NAMES

MADE_FOR: dict[str, Any] = {
    "searches": ["virtual_step", "random"],
    "rate_factors": [1.0, 0.5, 2.0],
    "learning_rate": 0.03,
}
IDS = draw_instances("Booth", "test", 5, seed=1)
ASKED: dict[str, Any] = {"split": "test", "budget": 10.0}


def trained(algorithm: Any = PPO, **settings: Any) -> Any:
    env = SB3VecEnv("Teleport/Booth-v0", 4, budget=10.0, **MADE_FOR)
    model = algorithm("MlpPolicy", env, seed=0, device="cpu", **settings)
    return model.learn(64)


@pytest.fixture(scope="module")
def model() -> Any:
    return trained(n_steps=8, batch_size=32, n_epochs=1)


def by_hand(policy: Any, prepare: Any = None) -> list[list[int]]:
    """Actions of each instance, played by the policy alone in an environment of its own."""
    import gymnasium as gym

    found = []
    for number in IDS:
        env = gym.make("Teleport/Booth-v0", **ASKED, **MADE_FOR)
        observation, _ = env.reset(seed=0, options={"instance_id": int(number)})
        actions, over, state = [], False, None
        while not over:
            seen = observation if prepare is None else prepare(observation)
            action, state = policy.predict(seen, state, np.array([not actions]), deterministic=True)
            observation, _, terminated, truncated, _ = env.step(int(action))
            actions.append(int(action))
            over = terminated or truncated
        found.append(actions)
    return found


def chosen(agent: Any, beside: tuple[Any, ...] = ()) -> list[list[int]]:
    played = play_all("Booth", [*beside, agent], IDS, **ASKED)[-1]
    assert played.actions is not None
    return [[int(action) for action in column if action >= 0] for column in played.actions.T]


def test_a_model_plays_in_the_environment_that_it_was_made_for(model: Any) -> None:
    agent = as_agent(model)
    assert isinstance(agent, Outside)
    assert (agent.name, agent.kind) == ("PPO", "learned")
    assert agent.environment == MADE_FOR  # not the budget, and not the split that it was trained on
    assert chosen(agent) == by_hand(model)
    assert chosen(agent, (Never(), Stall(environment={"searches": ["random"]}))) == by_hand(model)
    assert chosen(pickle.loads(pickle.dumps(agent))) == by_hand(model)


def test_episodes_are_played_by_whatever_plays(model: Any) -> None:
    def always_step(observation: np.ndarray) -> np.ndarray:
        return np.zeros(len(observation), dtype=np.int64)

    mine, steps, never = play_all("Booth", [model, always_step, Never()], IDS, **ASKED)
    assert mine.rows[0]["agent"] == "PPO"
    np.testing.assert_array_equal(mine.gained, play("Booth", as_agent(model), IDS, **ASKED).gained)
    np.testing.assert_array_equal(steps.gained, never.gained)
    with pytest.raises(ValueError, match=r"agent_for\(problem, name\) makes one of a name, got 'every:k=3'"):
        play("Booth", "every:k=3", IDS, **ASKED)
    with pytest.raises(ValueError, match="an Agent, something with `predict`"):
        play("Booth", 3, IDS, **ASKED)
    with pytest.raises(ValueError, match="made for the actions"):
        play("Booth", as_agent(model, environment={"rate_factors": [1.0]}), IDS, **ASKED)


def test_a_normalization_of_observations_goes_along() -> None:
    env = VecNormalize(SB3VecEnv("Teleport/Booth-v0", 4, budget=10.0, **MADE_FOR), norm_reward=False)
    model = A2C("MlpPolicy", env, seed=0, device="cpu").learn(40)
    agent = as_agent(model)
    assert isinstance(agent, Outside)
    assert agent.prepare is not None
    assert agent.environment == MADE_FOR
    assert chosen(agent) == by_hand(model, env.normalize_obs)


@pytest.mark.parametrize("algorithm", [PPO, DQN], ids=lambda kind: kind.__name__)
def test_a_saved_model_plays_as_the_model_does(algorithm: Any, tmp_path: Path, model: Any) -> None:
    one = model if algorithm is PPO else trained(DQN, learning_starts=8, buffer_size=100)
    one.save(tmp_path / "mine.zip")
    path = f"{tmp_path / 'mine.zip'}"
    with pytest.raises(ValueError, match="can run any code: pass --trust"):
        agent_for("Booth", path)
    asked = 'searches=["virtual_step","random"],rate_factors=[1.0,0.5,2.0],learning_rate=0.03'
    agent = agent_for("Booth", f"{path}:{asked}", trust=True)
    assert agent.name == "mine"
    assert chosen(agent) == by_hand(one)
    with pytest.raises(ValueError, match=r"made for the actions Discrete\(5\), and its environment has .* actions"):
        agent_for("Booth", f"{path}:rate_factors=[1.0,0.5]", trust=True)  # one more than with the menu alone


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        saved_policy(tmp_path / "none.zip")
    (tmp_path / "other.zip").write_text("hello")
    with pytest.raises(ValueError, match=r"other\.zip is no model of stable-baselines3"):
        saved_policy(tmp_path / "other.zip")


def test_rows_one_by_one_do_not_depend_on_their_company(model: Any) -> None:
    agent = as_agent(model, row_by_row=True)
    generator = np.random.default_rng(0)
    seen = generator.normal(size=(7, len(NAMES))).astype(np.float32)
    together = agent.predict(seen)[0]
    alone = [agent.predict(seen[row : row + 1])[0][0] for row in range(7)]
    assert together.tolist() == alone
    assert chosen(agent) == by_hand(model)


def test_modules_and_functions_play() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(len(NAMES), 8), nn.Dropout(0.5), nn.Linear(8, 5))
    agent = as_agent(module, environment=MADE_FOR)
    assert agent.name == "Sequential"
    assert module.training  # the caller's own is left alone
    scores = module.eval()

    class ByHand:
        def predict(self, seen: Any, state: Any, start: Any, deterministic: bool) -> tuple[int, None]:
            return int(scores(torch.from_numpy(seen)).argmax()), None

    assert chosen(agent) == by_hand(ByHand())

    def slow(observation: np.ndarray) -> np.ndarray:
        return np.where(feature(observation, "loss_drop") < 0.1, 3, 0)

    agent = as_agent(slow, environment=MADE_FOR, kind="adaptive")
    assert (agent.name, agent.kind) == ("slow", "adaptive")

    class Slow:
        def predict(self, seen: Any, state: Any, start: Any, deterministic: bool) -> tuple[int, None]:
            return int(slow(seen[None])[0]), None

    assert chosen(agent) == by_hand(Slow())


def test_actions_of_the_group_mode() -> None:
    def turn(observation: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([1.0, 0.25]), (len(observation), 1))

    agent = as_agent(turn, environment={"action_mode": "group"})
    played = play("Booth", agent, IDS, **ASKED)
    assert played.actions is not None
    assert played.actions.max() == 1
    module = nn.Linear(len(NAMES), 2)
    assert play("Booth", as_agent(module, environment={"action_mode": "group"}), IDS, **ASKED).rows


def test_what_is_no_player_is_refused() -> None:
    with pytest.raises(ValueError, match=r"an agent must be an Agent, something with `predict`"):
        as_agent(3)
    with pytest.raises(ValueError, match="an agent must be an Agent"):
        Study(agents=(3,))
    wrong = as_agent(lambda observation: np.zeros(3), name="three")
    with pytest.raises(ValueError, match=r"'three' gave actions of shape \(3,\) for observations of shape \(5, "):
        play("Booth", wrong, IDS, **ASKED)
    with pytest.raises(
        ValueError, match=r"must take observations \(B, F\) alone.*missing a required argument: 'state'"
    ):
        as_agent(lambda observation, state: 0)
    with pytest.raises(ValueError, match=r"the module Linear cannot play observations of shape \(5, "):
        play("Booth", nn.Linear(3, 2), IDS, **ASKED)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"environment": {"serches": []}}, "environment of the agent has no argument 'serches'.* mean 'searches'"),
        ({"environment": 3}, "environment of the agent must be a dict of keyword arguments of the environment, got 3"),
        ({"kind": "larned"}, "kind of Outside must be one of .* mean 'learned'"),
        ({"prepare": 3}, "prepare must be a function of observations, or None, got 3"),
        ({"row_by_row": "yes"}, "row_by_row must be True or False, got 'yes'"),
    ],
)
def test_what_an_agent_cannot_be_given_is_refused(settings: dict[str, Any], message: str) -> None:
    for player in (np.sign, Stall()):
        if isinstance(player, Stall) and "kind" in settings:
            continue
        with pytest.raises(ValueError, match=message):
            as_agent(player, **settings)


@pytest.mark.parametrize(
    ("ids", "settings", "message"),
    [
        ([], {}, "instance_ids must be a list of one or more integers"),
        (3, {}, "instance_ids must be a list of one or more integers"),
        (["a"], {}, "instance_ids must be integers"),
        (IDS, {"seed": "a"}, "seed must be an integer of at least 0, got 'a'"),
        (IDS, {"rows": 0.5}, "rows must be an integer of at least 1, got 0.5"),
        (IDS, {"observations": 3}, "observations must be True or False, got 3"),
        (IDS, {"settings": {"serches": []}}, "settings has no argument 'serches'.* mean 'searches'"),
        (IDS, {"settings": [3]}, "settings must be a dict of keyword arguments"),
    ],
)
def test_what_cannot_be_played_is_refused(ids: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        play("Booth", Never(), ids, **ASKED, **settings)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="count must be an integer of at least 0, got 'a'"):
        draw_instances("Booth", "test", "a", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be an integer of at least 0, got None"):
        draw_instances("Booth", "test", 2, None)  # type: ignore[arg-type]


def test_an_agent_is_itself_and_may_be_asked_for_another_environment() -> None:
    agent = Stall(patience=3)
    assert as_agent(agent) is agent
    other = as_agent(agent, name="patient", environment={"learning_rate": 0.02})
    assert (other.name, other.environment["learning_rate"]) == ("patient", 0.02)
    assert isinstance(other, Stall)
    assert other.environment["steps_per_action"] == 1


def test_a_model_in_a_comparison(model: Any, tmp_path: Path) -> None:
    """Beside an agent with settings of its own and a function."""
    agents = (
        as_agent(model, name="mine"),
        Stall(patience=3, environment={"searches": ["virtual_step"]}),
        "never",
        zeros,
    )
    few: dict[str, Any] = {
        "instances": 3,
        "budget": 10.0,
        "tuning_instances": 2,
        "tuning_rules": 4,
        "references": False,
    }
    study = Study(problems=("Booth",), agents=agents, jobs=1, out=tmp_path, **few)
    found = run_study(study, report=lambda line: None)
    table = found["summary"].set_index("agent")
    assert table.loc["mine", "learning_rate"] == 0.03
    assert table.loc["mine", "menu"] == "virtual step; random, gradient norm, candidates 8"
    assert table.loc["never", "menu"] == "none"
    assert "Booth/mine" not in found["settings"]["learning_rates"]  # its rate is not tuned
    assert not found["settings"]["learning_rates"]["Booth/stall"]["settings"]  # nor what an object was made with
    assert found["settings"]["agents"] == ["mine", "stall", "never", "zeros"]


def zeros(observation: np.ndarray) -> np.ndarray:
    return np.zeros(len(observation), dtype=np.int64)


def test_a_model_in_a_rollout(model: Any) -> None:
    import gymnasium as gym

    agent = as_agent(model)
    env = gym.make("Teleport/Booth-v0", render_mode="rgb_array", **ASKED, **agent.environment)
    seen = roll_out(env, agent, options={"instance_id": int(IDS[0])})
    assert seen.name == "PPO"


class Masked:
    """As the policies of sb3-contrib: it takes masks, and would else ask for what cannot be paid."""

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, None]:
        assert action_masks is not None
        assert action_masks.shape == (len(observation), 5)
        return np.where(action_masks[:, 4], 4, 0), None


def test_masks_reach_those_who_take_them_in_any_company() -> None:
    agent = as_agent(Masked(), environment=MADE_FOR)
    alone = chosen(agent)
    assert any(0 in actions for actions in alone)  # the last steps, which teleports would be too dear for
    assert any(4 in actions for actions in alone)
    beside = (Never(), Stall(environment={"searches": ["grid", "random", "virtual_step"]}))
    assert chosen(agent, beside) == alone


def test_the_maskable_and_recurrent_policies_of_sb3_contrib(tmp_path: Path) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    env = SB3VecEnv("Teleport/Booth-v0", 4, budget=10.0, **MADE_FOR)
    for kind, policy in ((contrib.MaskablePPO, "MlpPolicy"), (contrib.RecurrentPPO, "MlpLstmPolicy")):
        model = kind(policy, env, n_steps=8, batch_size=32, n_epochs=1, seed=0, device="cpu").learn(64)
        agent = as_agent(model)
        assert isinstance(agent, Outside)
        assert agent.masked == (kind is contrib.MaskablePPO)
        if not agent.masked:
            assert chosen(agent) == by_hand(model)
        model.save(tmp_path / "contrib.zip")
        saved = as_agent(saved_policy(tmp_path / "contrib.zip"), environment=MADE_FOR)
        assert chosen(saved) == chosen(agent) == chosen(agent, (Never(),))
        assert chosen(as_agent(model, row_by_row=True)) == chosen(agent)
