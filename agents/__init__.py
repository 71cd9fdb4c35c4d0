"""Policies over the environments: published schedules, adaptive rules, and what they are compared with.

`AGENTS` is the table of names and `agent_from` builds one of them. `agent_for` builds it as it plays a problem, and
`as_agent` makes an agent of any other player. `default_agents` is a comparison's roster, and `paper` gives the published
experiments. A trained policy is a `LearnedSchedule`. Its training is `teleport_env.agents.learning`, and the adapter for
stable-baselines3 `teleport_env.agents.learning.sb3`; neither is imported here.
"""

from teleport_env.agents.base import AGENTS, KINDS, Agent, State, agent_from, feature, register_agent
from teleport_env.agents.edge_rule import EdgeOfStability
from teleport_env.agents.known import Known, known_of, register_known
from teleport_env.agents.naming import agent_for
from teleport_env.agents.outside import as_agent
from teleport_env.agents.paper import PAPER, Preset, paper
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.presets import default_agents, reference, whitening
from teleport_env.agents.rules import (
    AcceptIfBetter,
    Alignment,
    MomentumTrigger,
    RelativeDecrease,
    Rule,
    Stall,
)
from teleport_env.agents.schedules import (
    AtSteps,
    Cycle,
    Every,
    First,
    Never,
    RandomElement,
    RandomTiming,
    RateAndTeleport,
    RateWarmupDecay,
    ResetOptimizer,
    Schedule,
    line_search,
)
from teleport_env.agents.teleporter import Teleporter

__all__ = [
    "AGENTS",
    "AcceptIfBetter",
    "Agent",
    "Alignment",
    "AtSteps",
    "Cycle",
    "EdgeOfStability",
    "Every",
    "First",
    "KINDS",
    "Known",
    "LearnedSchedule",
    "MomentumTrigger",
    "Never",
    "PAPER",
    "Preset",
    "RandomElement",
    "RandomTiming",
    "RateAndTeleport",
    "RateWarmupDecay",
    "RelativeDecrease",
    "ResetOptimizer",
    "Rule",
    "Schedule",
    "Stall",
    "State",
    "Teleporter",
    "agent_for",
    "agent_from",
    "as_agent",
    "default_agents",
    "feature",
    "known_of",
    "line_search",
    "paper",
    "reference",
    "whitening",
    "register_agent",
    "register_known",
]
