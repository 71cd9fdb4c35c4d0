"""Arguments are read and not guessed, and a message names the value, what is allowed and what to do."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from teleport_env import TeleportEnv, TeleportVectorEnv
from teleport_env.agents.base import AGENTS, agent_from
from teleport_env.envs.settings import Settings
from teleport_env.optimizers import OPTIMIZERS, optimizer_from
from teleport_env.problems import PROBLEMS, problem_from
from teleport_env.registration import id_of
from teleport_env.searches import KINDS, NAMED, search_from

HUGE = 10**400
ID = "Teleport/Booth-v0"


def made(**arguments: Any) -> Any:
    return gym.make(ID, **arguments)


def made_vec(**arguments: Any) -> Any:
    return gym.make_vec(ID, num_envs=2, vectorization_mode="vector_entry_point", **arguments)


def face(**arguments: Any) -> Any:
    return TeleportEnv("Booth", **arguments)


def vector(**arguments: Any) -> Any:
    return TeleportVectorEnv("Booth", 2, **arguments)


def built(**arguments: Any) -> Any:
    return Settings.build("Booth", **arguments)


FACES = pytest.mark.parametrize("make", [made, made_vec, face, vector, built])

NUMBERS = ("learning_rate", "budget", "tolerance", "group_scale", "cost_weight", "steps_per_action")
NO_NUMBERS = (HUGE, "1", True, np.True_, [1.0], 1j, float("nan"), float("inf"), -1, "abc", object())


@FACES
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_an_environment(make: Callable[..., Any], name: str) -> None:
    for value in NO_NUMBERS:
        with pytest.raises(ValueError, match=rf"^{name} must be an? .*, got ") as caught:
            make(**{name: value})
        assert len(str(caught.value)) < 400
    for scalar in (3, np.int64(3), np.array(3), torch.tensor(3)):
        settings = getattr(made_from := make(**{name: scalar}), "unwrapped", made_from)
        settings = getattr(settings, "settings", settings)
        assert getattr(settings, name) == 3
        assert type(getattr(settings, name)) in (int, float)


@FACES
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rate_factors": 5}, "rate_factors must be a list of numbers, got 5"),
        ({"rate_factors": "24"}, "rate_factors must be a list of numbers, got '24'"),
        ({"rate_factors": (True,)}, "rate_factors must be a positive number, got True"),
        ({"rate_factors": ("2",)}, "rate_factors must be a positive number, got '2'"),
        ({"rate_factors": [1.0, HUGE]}, "rate_factors must be a positive number, got 1000"),
        ({"rate_factors": []}, r"rate_factors must be one or more positive numbers, got \[\]"),
        ({"searches": 5}, "searches must be a list of searches, got 5"),
        ({"searches": "grid"}, "searches must be a list .*write .'grid'"),
        ({"searches": ["gird"]}, "search must be one of .*'grid'.*, got 'gird'. Did you mean 'grid'"),
        ({"symmetry": []}, r"symmetry of Booth must be one of 'rotation', got \[\]"),
        ({"symmetry": 5}, "symmetry of Booth must be one of 'rotation', got 5"),
        ({"symmetry": "rotations"}, "Did you mean 'rotation'"),
        ({"problem": 5}, "problem must be a Problem, or a dict of settings of Booth, got 5"),
        ({"problem": 0}, "problem must be a Problem, or a dict of settings of Booth, got 0"),
        ({"problem": []}, r"problem must be a Problem, or a dict of settings of Booth, got \[\]"),
        ({"problem": ""}, "problem must be a Problem, or a dict of settings of Booth, got ''"),
        ({"problem": "Ellipse"}, "got 'Ellipse'.*chosen by its id"),
        (
            {"problem": torch.nn.Linear(1, 1)},
            r"got Linear\(.*An nn.Module is no problem: pass teleport_env.ModuleProblem",
        ),
        ({"problem": {"ratios": (2.0, 3.0)}}, "'ratios'; it has ratio, largest. Did you mean 'ratio'"),
        ({"problem": {"ratio": "23"}}, "ratio of problem 'Booth' must be a list of numbers, got '23'"),
        ({"problem": {"ratio": (True, 3.0)}}, "entry of ratio .* must be a number, got True"),
        ({"device": "abc"}, "device must be a device of this machine .*got 'abc'"),
        ({"device": 5}, "device must be a device of this machine .*got 5"),
        ({"device": "meta"}, "device must be a device of this machine .*got 'meta'"),
        ({"device": "cuda:99"}, "device must be a device of this machine .*got 'cuda:99'"),
        ({"dtype": "float46"}, "dtype must be one of 'float32', 'float64', got 'float46'. Did you mean 'float64'"),
        ({"dtype": torch.int64}, "dtype must be one of 'float32', 'float64', got torch.int64"),
        ({"dtype": []}, "dtype must be one of"),
        ({"split": "tests"}, "split must be one of .*got 'tests'. Did you mean 'test'"),
        ({"split": None}, "split must be one of .*got None"),
        ({"action_mode": "shedule"}, "action_mode must be one of .*Did you mean 'schedule'"),
        ({"observation": "feature"}, "observation must be one of .*Did you mean 'features'"),
        ({"on_teleport": "keeps"}, "on_teleport must be one of .*Did you mean 'keep'"),
        ({"optimizer": "adams"}, "optimizer must be one of .*Did you mean 'adam'"),
        (
            {"optimizer": {"optimizer": "polyak", "capped": "false"}},
            "capped of optimizer 'polyak' must be True or False, got 'f",
        ),
        ({"optimizer": {"optimizer": "polyak", "caped": True}}, "no setting 'caped'.*Did you mean 'capped'"),
        ({"optimizer": {"optimizer": "adam", "beta1": "0.9"}}, "beta1 of optimizer 'adam' must be a number, got '0.9'"),
        ({"optimizer": {"optimizer": "momentum", "nesterov": 1}}, "nesterov .* must be True or False, got 1"),
        ({"optimizer": {"optimizer": None}}, "optimizer must be one of .*got None"),
        ({"optimizer": 5}, "an optimizer must be a name, a dict with the key 'optimizer', or an Optimizer, got 5"),
        ({"optimizer": [HUGE]}, "an optimizer must be a name, .* that is too long to show|an optimizer must be a name"),
        ({"optimizer": {"momentum": "x" * 5000}}, "names no optimizer; add the key 'optimizer'"),
        ({"searches": [5]}, "a search must be a name, a dict with the key 'search', or a Search, got 5"),
        ({"searches": ["grid", None]}, "a search must be a name, .*, got None"),
        ({"searches": [{"steps": "x" * 5000}]}, "lacks the key 'search'"),
        ({"searches": "x" * 5000}, "searches must be a list of searches, got the single"),
        ({"problem": {1: 2}}, "a setting of Booth must be a name, got 1"),
    ],
    ids=lambda value: str(value)[:40].replace(str(HUGE)[:20], "huge") if isinstance(value, dict) else "",
)
def test_messages_of_an_environment(make: Callable[..., Any], arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        make(**arguments)
    assert len(str(caught.value)) < 800


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"device must be a device of this machine .*'cpu', got 'cuda'"):
        face(device="cuda")


@pytest.mark.parametrize("make", [made, made_vec, face, vector])
def test_unknown_keyword_arguments_are_refused_as_python_does(make: Callable[..., Any]) -> None:
    """TorchRL's GymEnv reads these words of a TypeError."""
    with pytest.raises(
        TypeError, match=r"__init__\(\) got an unexpected keyword argument 'bugdet'. Did you mean 'budget'"
    ):
        make(bugdet=5)
    with pytest.raises(
        TypeError, match=r"got an unexpected keyword argument 'x'\. It takes name, problem, .*render_mode"
    ):
        make(x=1)
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'frame_skip'"):
        Settings.build("Booth", frame_skip=4)  # type: ignore[call-arg]
    # what the vector environment alone takes is unknown to the single one
    if make in (made, face):
        with pytest.raises(TypeError, match="TeleportEnv.*unexpected keyword argument 'output'"):
            make(output="torch")


def test_arguments_of_the_vector_environment() -> None:
    for value in (0, -1, 2.0, "2", True, HUGE, None):
        with pytest.raises(ValueError, match="num_envs must be an integer of at least 1 and at most 2147483648, got "):
            TeleportVectorEnv("Booth", value)  # type: ignore[arg-type]
    assert TeleportVectorEnv("Booth", np.int64(2)).num_envs == 2  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="output must be one of 'numpy', 'torch', got 'jax'"):
        vector(output="jax")
    with pytest.raises(ValueError, match="autoreset_mode must be one of .*got 'SameSteps'. Did you mean 'SameStep'"):
        vector(autoreset_mode="SameSteps")
    with pytest.raises(ValueError, match="autoreset_mode must be one of .*got None"):
        vector(autoreset_mode=None)
    assert vector(autoreset_mode="same_step").autoreset_mode == gym.vector.AutoresetMode.SAME_STEP


def test_names_match_whatever_their_case() -> None:
    env = TeleportVectorEnv(
        "booth",
        1,
        split="Test",
        optimizer="ADAM",
        searches=["Grid", {"search": "RANDOM"}],
        symmetry="Rotation",
        action_mode="Schedule",
        observation="Both",
        reward="Terminal",
        on_teleport="Reset",
        dtype="Float32",
        output="Torch",
        render_mode="RGB_array",
    )
    s = env.settings
    assert (s.problem.name, s.split, s.optimizer.name, s.symmetry) == ("Booth", "test", "adam", "rotation")
    assert (s.action_mode, s.observation, s.on_teleport, s.dtype) == ("schedule", "both", "reset", torch.float32)
    assert [search.kind for search in s.searches] == ["grid", "random"]
    assert (env.output, env.render_mode) == ("torch", "rgb_array")
    assert agent_from("NEVER") == agent_from("never")
    assert id_of("booth") == ID
    with pytest.raises(ValueError, match="got 'Both'. Did you mean 'Booth'"):
        id_of("Both")


def _slip(name: str) -> str:
    return name[: len(name) // 2] + "x" + name[len(name) // 2 :]


@pytest.mark.parametrize(
    ("read", "names"),
    [(problem_from, PROBLEMS), (optimizer_from, OPTIMIZERS), (search_from, {**NAMED, **KINDS}), (agent_from, AGENTS)],
)
def test_every_name_has_its_suggestion(read: Callable[[str], Any], names: dict[str, Any]) -> None:
    for name in names:
        slip = _slip(name)
        with pytest.raises(ValueError, match=rf"got '{re.escape(slip)}'\. Did you mean '"):
            read(slip)
    for wrong in ("", "qqqqqq"):
        with pytest.raises(ValueError, match=rf"must be one of .*got '{wrong}'(\. Your own|$)"):
            read(wrong)


@pytest.mark.parametrize("name", PROBLEMS)
def test_settings_of_every_problem_are_read(name: str) -> None:
    factory: Any = PROBLEMS[name]
    read = 0
    for setting, parameter in inspect.signature(factory).parameters.items():
        if re.match(r"(int|float|bool|Sequence\[)", str(parameter.annotation)):
            for wrong in ("12", object(), {"a": 1}):
                with pytest.raises(ValueError, match=f"{setting} of problem '{name}' must be .*, got "):
                    problem_from(name, **{setting: wrong})
            read += 1
    assert read


@pytest.mark.parametrize("wrong", [(5,), ([],), (None,), (0,), ("",)], ids=repr)
def test_a_problem_that_is_no_name(wrong: tuple[Any]) -> None:
    with pytest.raises(ValueError, match="problem must be one of 'Ellipse', .*, got "):
        TeleportEnv(wrong[0])


# -- actions -----------------------------------------------------------------------------------------------------------


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


KINDS_OF_ARRAYS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "<i8", ">i8", ">u2", "O"]


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("factors", [(1.0,), (1.0, 0.5, 2.0)])
@pytest.mark.parametrize("first", [0, 1])
def test_actions_of_every_integer_type_are_the_same_actions(
    output: str, factors: tuple[float, ...], first: int
) -> None:
    """Regression: uint64 actions failed within torch, and read-only ones warned of undefined behavior."""
    wanted = np.array([first, 0, 1])

    def outcome(action: Any) -> list[Any]:
        env = TeleportVectorEnv("Rosenbrock", 3, output=output, rate_factors=factors)
        env.reset(seed=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env.step(action)
        return [env.params.tolist(), [float(rate) for rate in env.episodes.runs.progress.learning_rate]]

    reference = outcome(wanted)
    kinds: list[Any] = [wanted.astype(kind) for kind in KINDS_OF_ARRAYS]
    kinds += [_read_only(wanted.copy()), wanted.tolist(), tuple(wanted), [torch.tensor(a) for a in wanted]]
    kinds += [torch.tensor(wanted).to(kind) for kind in (torch.uint8, torch.uint16, torch.uint64, torch.int32)]
    for action in kinds:
        assert outcome(action) == reference, repr(action)


@pytest.mark.parametrize("mode", ["group", "hybrid"])
def test_actions_of_every_real_type_are_the_same_actions(mode: str) -> None:
    numbers = np.array([[1.0, 0.5], [-1.0, 0.25]])

    def outcome(numbers: Any, teleport: Any = (1, 0)) -> list[Any]:
        env = TeleportVectorEnv("Rosenbrock", 2, action_mode=mode)
        env.reset(seed=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env.step(numbers if mode == "group" else {"teleport": teleport, "group": numbers[:, 1:]})
        return env.params.tolist()

    reference = outcome(numbers)
    for kind in ("f2", "f4", ">f4", ">f8", "g", "O"):
        assert outcome(numbers.astype(kind)) == reference, kind
    assert outcome(_read_only(numbers.copy())) == reference
    assert outcome(torch.tensor(numbers, dtype=torch.bfloat16)) == reference
    if mode == "hybrid":
        for teleport in (np.array([1, 0], dtype=np.uint64), np.array([True, False]), torch.tensor([True, False])):
            assert outcome(numbers, teleport) == reference


@pytest.mark.parametrize("mode", ["schedule", "group", "hybrid"])
@pytest.mark.parametrize("value", [None, "a", 1j, [[1], [1, 2]], object])
def test_messages_of_actions(mode: str, value: Any) -> None:
    for env in (TeleportEnv("Booth", action_mode=mode), TeleportVectorEnv("Booth", 2, action_mode=mode)):
        env.reset(seed=0)
        action = {"teleport": value, "group": value} if mode == "hybrid" else value
        with pytest.raises(ValueError, match=rf"actions of the {mode} mode must be (integers|numbers) .*, got .*"):
            env.step(action)


@pytest.mark.parametrize("dtype", [">f8", "f4", "i8", "u2", "O", "f2"])
def test_params_of_every_type(dtype: str) -> None:
    for env in (TeleportEnv("Rosenbrock"), TeleportVectorEnv("Rosenbrock", 1)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env.reset(seed=0, options={"params": _read_only(np.array([1, 3]).astype(dtype))})
        assert env.params.reshape(-1).tolist() == [1.0, 3.0]
        env.reset(options={"params": [Fraction(1), np.float32(3)]})
        assert env.params.reshape(-1).tolist() == [1.0, 3.0]


def test_the_callers_params_stay_the_callers() -> None:
    for given in (np.array([1.0, 3.0]), torch.tensor([1.0, 3.0], dtype=torch.float64)):
        env = TeleportEnv("Rosenbrock")
        env.reset(seed=0, options={"params": given})
        env.step(0)
        assert given.tolist() == [1.0, 3.0]


def test_messages_of_instance_ids() -> None:
    env, envs = TeleportEnv("Rosenbrock"), TeleportVectorEnv("Rosenbrock", 3)
    for wrong in ([1, 2], [1], 2**63, -1, 1.0, "1", None, True):
        with pytest.raises(ValueError, match="instance_id must be an integer of at least 0 .*, got "):
            env.reset(options={"instance_id": wrong})
    for wrong in ([1, 2], [1, 2, -3], [[1, 2, 3]]):
        with pytest.raises(ValueError, match="instance_id must be one integer of at least 0 or 3 of them, got "):
            envs.reset(options={"instance_id": wrong})
    for wrong in ([1, 2, 3.0], [1, 2, 2**63], [True, 1, 2]):
        with pytest.raises(ValueError, match="instance_id must be integers of at most 64 bits, got "):
            envs.reset(options={"instance_id": wrong})
    for right in (7, np.uint64(7), np.array(7), torch.tensor(7)):
        assert env.reset(options={"instance_id": right})[1]["instance_id"] == 7
        assert envs.reset(options={"instance_id": right})[1]["instance_id"].tolist() == [7, 7, 7]
    for ids in ([7, 8, 9], np.array([7, 8, 9], dtype=">u2"), torch.tensor([7, 8, 9])):
        assert envs.reset(options={"instance_id": ids})[1]["instance_id"].tolist() == [7, 8, 9]
    assert env.reset(options={"instance_id": 2**63 - 1})[1]["instance_id"] == 2**63 - 1


def test_an_unknown_option_gets_a_suggestion() -> None:
    for env in (TeleportEnv("Booth"), TeleportVectorEnv("Booth", 2)):
        with pytest.raises(ValueError, match="a reset option must be one of .*, got 'param'. Did you mean 'params'"):
            env.reset(options={"param": [0.0, 0.0]})
