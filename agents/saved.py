"""Models that stable-baselines3 or sb3-contrib has saved, for play.

Such a file is an archive whose settings are unpickled, which can run any code; callers ask for trust first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from teleport_env.reading import shown


def saved_policy(path: Path | str) -> Any:
    """The policy of a model that ``model.save(path)`` has written, whatever its algorithm.

    Raises:
        ValueError: The file is no such model.
        FileNotFoundError: There is none.
        ImportError: stable-baselines3, or the library of the model's policy, is not installed.
    """
    try:
        from stable_baselines3.common.save_util import load_from_zip_file
    except ImportError as error:
        raise ImportError('models need stable-baselines3: pip install "teleport-env[train]"') from error
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        data, tensors, _ = load_from_zip_file(path, device="cpu")
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is no model of stable-baselines3: {shown(error)}") from error
    missing = [key for key in ("policy_class", "observation_space", "action_space") if key not in (data or {})]
    if data is None or missing or "policy" not in tensors:
        raise ValueError(f"{path} is no model of stable-baselines3: it lacks {', '.join(missing) or 'a policy'}")
    if isinstance(data["policy_class"], str):
        raise ImportError(
            f"the policy of {path} cannot be made: install the library that trained it, such as sb3-contrib"
        )
    settings = {"use_sde": True} if data.get("use_sde") else {}
    policy = data["policy_class"](
        data["observation_space"], data["action_space"], lambda _: 0.0, **settings, **(data.get("policy_kwargs") or {})
    )
    policy.load_state_dict(tensors["policy"])
    policy.set_training_mode(False)
    policy.lr_schedule = None
    return policy
