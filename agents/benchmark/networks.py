"""Rows about networks and their teleports."""

from __future__ import annotations

from teleport_env.agents.benchmark.rows import Curve, Row

ROWS: list[Row] = []
CURVES: list[Curve] = []
