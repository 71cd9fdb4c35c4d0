"""What the project cites of Zhao et al. (NeurIPS 2022) is in the paper, under that number and about that subject.

``paper.toml`` has every number of the paper and a few of its words there. `STATEMENTS` has a row for every number that the
project cites: its subject, words of the paper, words of ours, and the tests of it. A citation in a text file of the project
must be of a number that has a row, and nearer to a word of its row than to one of another row: correct the number, or name
the subject beside it. The numbers of other publications are in `OTHER_WORKS`. Where ``TELEPORT_ENV_PAPER`` names a file
with the paper's text, ``paper.toml`` is compared with it.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import combinations, takewhile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTED = tomllib.loads(Path(__file__).with_name("paper.toml").read_text(encoding="utf-8"))
QUOTATIONS: dict[str, str] = {
    f"{kind} {digits}".lower(): words
    for kind, numbers in LISTED.items()
    if kind != "panels"
    for digits, words in numbers.items()
}
"""Words of the paper by number, for every number that it has."""
PANELS = {f"figure {digits}": letters for digits, letters in LISTED["panels"].items()}


class Statement(NamedTuple):
    """What the paper says under a number.

    Attributes:
        subject: The sentence's subject.
        words: Regular expressions that all match in the paper's words (`QUOTATIONS`). Beside a citation one of them or of
            `ours` matches.
        ours: How the project says the same.
        tests: Names of the tests of it.
    """

    subject: str
    words: tuple[str, ...]
    ours: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()

    def is_named_in(self, text: str) -> bool:
        """Whether a text has one of the words."""
        return any(re.search(word, text, re.IGNORECASE) for word in self.words + self.ours)


STATEMENTS: dict[str, Statement] = {
    "proposition 4.1": Statement(
        "Rosenbrock's and Booth's functions have rotational symmetry",
        ("rotational symmetry",),
        ("rotation", "test functions"),
        ("test_proposition_4_1_rotations_of_test_functions",),
    ),
    "proposition 4.2": Statement(
        "a linear network is invariant under changes of basis between its layers",
        ("linear network",),
        ("product of matrices",),
        ("test_proposition_4_2_linear_networks",),
    ),
    "proposition 4.3": Statement(
        "a network with bijective activations has the general linear symmetry on its data",
        ("bijective activation",),
        ("bijecti", "eq\\. 11", "left inverse", "s\\^-1"),
        ("test_proposition_4_3_any_bijective_activation", "test_proposition_4_3_needs_invertible_layer_inputs"),
    ),
    "proposition 5.1": Statement(
        "a teleport accelerates the decay of the loss where the transported gradient is longer",
        ("accelerates the rate of decay",),
        ("accelerat", "transported", "speeds? descent up", "J\\^-T"),
        (
            "test_proposition_5_1_gradient_after_a_move",
            "test_proposition_5_1_a_move_speeds_descent_up_where_the_transported_gradient_is_longer",
            "test_proposition_5_1_has_both_outcomes",
        ),
    ),
    "corollary 5.2": Statement(
        "orthogonal invariances of the inverse learning rate change nothing",
        ("orthogonal",),
        ("permut",),
        (
            "test_corollary_5_2_orthogonal_actions_change_nothing",
            "test_corollary_5_2_needs_the_learning_rates_kept",
            "test_corollary_5_2_permutations",
        ),
    ),
    "assumption 5.3": Statement(
        "the gradient is Lipschitz continuous",
        ("Lipschitz",),
        (),
        ("test_proposition_5_4_for_losses_that_are_not_quadratic",),
    ),
    "proposition 5.4": Statement(
        "the longer gradient lasts for some steps of descent, for any invariant loss",
        ("invariant loss",),
        ("lasts", "stay longer", "longer gradient for", "Lipschitz"),
        ("test_proposition_5_4_how_long_the_advantage_lasts", "test_proposition_5_4_for_losses_that_are_not_quadratic"),
    ),
    "proposition 5.5": Statement(
        "on a quadratic form the gradient norm stays maximal along the gradient flow",
        ("gradient flow trajectory",),
        (
            "gradient flow",
            "stays so",
            "keeps its direction",
            "one teleport",
            "once teleported",
            "stays on the ray",
            "path leaves",
        ),
        ("test_proposition_5_5_the_norm_stays_maximal_along_the_gradient_flow",),
    ),
    "proposition 5.6": Statement(
        "the steepest point of a level set is the nearest to the minimum",
        ("Consider a point in the parameter space",),
        ("nearest", "distance"),
        ("test_proposition_5_6_and_c_3_steepest_point_is_the_nearest_to_the_minimum",),
    ),
    "proposition 5.7": Statement(
        "at a maximum of the gradient norm on the level set the gradient is Newton's direction",
        ("Newton",),
        (),
        (
            "test_proposition_5_7_newton_direction_is_the_gradient",
            "test_proposition_5_7_on_rosenbrocks_function_that_is_not_quadratic",
        ),
    ),
    "proposition c.1": Statement(
        "a level set of a quadratic form is a single orbit",
        ("single orbit",),
        ("one orbit",),
        ("test_proposition_c_1_a_level_set_is_one_orbit",),
    ),
    "proposition c.2": Statement(
        "the steepest point is an eigenvector of the largest eigenvalue",
        ("eigenvector", "largest eigenvalue"),
        ("closed form", "largest gradient", "most that the level set", "steepest eigenvector", "extreme eigenvalue"),
        (
            "test_proposition_c_2_largest_gradient_of_a_level_set",
            "test_proposition_c_2_is_what_the_closed_form_reaches",
            "test_proposition_c_2_is_where_the_closed_form_search_goes",
        ),
    ),
    "proposition c.3": Statement(
        "the nearest point of a level set is the steepest",
        ("same as the solution to \\(69\\)",),
        ("nearest", "distance"),
        ("test_proposition_5_6_and_c_3_steepest_point_is_the_nearest_to_the_minimum",),
    ),
    "lemma c.4": Statement(
        "where the gradient norm is critical on the level set, the gradient is an eigenvector of the Hessian",
        ("eigenvector of the Hessian",),
        ("Newton", "parallel", "critical", "Hessian"),
        ("test_lemma_c_4_hessian_times_gradient_is_parallel_to_it", "test_lemma_c_4_at_a_critical_angle"),
    ),
    "equation 3": Statement(
        "Rosenbrock's function",
        ("Rosenbrock",),
        (),
        ("test_rosenbrock_has_the_published_coordinates", "test_rosenbrock_descends_as_published"),
    ),
    "equation 4": Statement(
        "Booth's function",
        ("Booth",),
        (),
        ("test_booth_has_its_minimum_at_1_3", "test_booth_descends_as_published"),
    ),
    "equation 6": Statement(
        "the action on a linear network",
        ("linear network",),
        ("linear layers", "product of matrices"),
        ("test_proposition_4_2_linear_networks",),
    ),
    "equation 11": Statement(
        "the action on a network with bijective activations",
        ("bijective",),
        (
            "published",
            "pseudo-inverse",
            "increments",
            "leaves the loss",
            "unchanged",
            "on the data",
            "action=.exact",
            "exact (action|teleport)",
            "true inverse",
            "it changes by",
        ),
        ("test_proposition_4_3_any_bijective_activation",),
    ),
    "equation 13": Statement(
        "the condition under which a teleport accelerates",
        ("accelerates",),
        ("J\\^-T",),
        ("test_proposition_5_1_a_move_speeds_descent_up_where_the_transported_gradient_is_longer",),
    ),
    "equation 20": Statement(
        "the ellipse",
        ("ellipse",),
        (),
        ("test_ellipse_is_steepest_on_its_short_axis",),
    ),
    "algorithm 1": Statement(
        "a schedule of teleports, each an ascent on the objective, the gradient norm",
        ("teleportation schedule",),
        ("objective", "published search", "gradient norm", r"\|grad L"),
        ("test_algorithm_1_ascends",),
    ),
    "algorithm 2": Statement(
        "teleport and step on each of the first mini-batches of an epoch, then step on the rest",
        ("mini-batch",),
        ("mini_batch", "mini-batches", "first epoch", "another reading"),
        ("test_algorithm_2_teleports_and_steps_on_each_mini_batch",),
    ),
    "algorithm 3": Statement(
        "teleports that move the data too",
        ("data transformation",),
        ("data_", "(the|that|and) data", "data (that )?(move|stay)", "new inputs?", "X -> g X", "moved data"),
        (
            "test_algorithm_3_data_element_is_what_new_inputs_go_through",
            "test_algorithm_3_input_transform_keeps_the_loss_with_the_data_and_not_without",
        ),
    ),
    "section 3": Statement(
        "symmetry teleportation",
        ("symmetr",),
        ("sampling",),
        ("test_every_symmetry_keeps_the_loss",),
    ),
    "section 4": Statement(
        "symmetry groups of test functions and networks",
        ("symmetry groups",),
        ("which group", "leaves which loss", "symmetries follow"),
        ("test_symmetries_follow_the_activation",),
    ),
    "section 4.2": Statement(
        "networks, whose activations are bijections",
        ("activation",),
        (),
        ("test_symmetries_follow_the_activation", "test_proposition_4_3_any_bijective_activation"),
    ),
    "section 5": Statement(
        "what accelerates, in theory",
        ("accelerate",),
        ("speeds descent",),
        ("test_proposition_5_1_a_move_speeds_descent_up_where_the_transported_gradient_is_longer",),
    ),
    "section 6.1": Statement(
        "the experiments: test functions, regression, MNIST",
        ("Rosenbrock", "Booth", "regression", "MNIST", "first order approximation"),
        ("first[- ]order", "1 \\+ T", "network", "test functions"),
        (
            "test_published_regression_plays_the_first_order_action",
            "test_first_order_form_of_section_6_1_does_not_keep_the_loss",
            "test_mnist_preset_has_the_published_schedule",
        ),
    ),
    "section 6.2": Statement(
        "teleportation schedules",
        ("schedule",),
        ("`epochs`",),
        ("test_figure_5_varies_epochs_and_mini_batches",),
    ),
    "section 6.3": Statement(
        "runtime",
        ("time|computation",),
        ("width", "depth"),
        ("test_figure_6_lasts_at_any_square_size",),
    ),
    "section 7": Statement(
        "discussion and future work",
        ("permutation", "matrix factorization", "advanced optimizers"),
        ("hope", "future work", "imbalance"),
        ("test_gradient_flow_keeps_the_imbalance_and_a_teleport_changes_it", "test_corollary_5_2_permutations"),
    ),
    "section b.1": Statement(
        "rotations of test functions",
        ("Ellipse", "rotations"),
        ("rotation",),
        ("test_proposition_4_1_rotations_of_test_functions",),
    ),
    "section b.1.2": Statement(
        "the action on Rosenbrock's function in 2 and 2N variables",
        ("2N",),
        ("rosenbrock nd",),
        ("test_rosenbrock_nd_is_a_sum_of_rosenbrocks",),
    ),
    "section d.2": Statement(
        "the regression's settings, and the sweep",
        ("AdaGrad", "gradient ascent", "sweep", "one CPU"),
        ("convergence", "settings"),
        ("test_figure_8_has_two_thousand_steps",),
    ),
    "figure 1": Statement(
        "the ellipse",
        ("gradient descent, second-order methods",),
        ("ellipse",),
        ("test_ellipse_is_steepest_on_its_short_axis",),
    ),
    "figure 2": Statement(
        "Rosenbrock's and Booth's functions",
        ("Rosenbrock", "Booth"),
        ("test functions", "angles", "plane", "released code"),
        (
            "test_published_booth_run_ends_where_it_did",
            "test_some_random_angles_diverge_on_rosenbrocks_function",
        ),
    ),
    "figure 3": Statement(
        "regression",
        ("network optimization",),
        ("regression", "first[- ]order", "timings", "released code"),
        (
            "test_published_regression_plays_the_first_order_action",
            "test_regression_gives_the_figures_of_the_released_code",
        ),
    ),
    "figure 4": Statement(
        "MNIST",
        ("MNIST",),
        ("digits", "classification", "rates chosen", "rule of"),
        ("test_mnist_preset_has_the_published_schedule", "test_the_mnist_presets_lengthen_the_gradient_and_last"),
    ),
    "figure 5": Statement(
        "schedules",
        ("schedules", "mini-batches"),
        ("mini-batch", "mini_batches", "`epochs`", "how often"),
        ("test_figure_5_varies_epochs_and_mini_batches",),
    ),
    "figure 6": Statement(
        "runtime",
        ("training time",),
        ("runtime", "width", "formulas", "square", "timings"),
        ("test_figure_6_lasts_at_any_square_size",),
    ),
    "figure 7": Statement(
        "gradient against loss",
        ("Gradient on the trajectory",),
        (
            "gradient against loss",
            "gradients",
            "same loss",
            "equal loss",
            "released code",
            "look at the same",
            "over many angles",
        ),
        ("test_longer_at_equal_loss_compares_two_curves",),
    ),
    "figure 8": Statement(
        "sweep of ascent steps and rates",
        ("Hyperparameter sweeps",),
        ("ascent", "sweep", "loss by less", "2000", "timings"),
        ("test_figure_8_varies_the_ascent", "test_figure_8_has_two_thousand_steps"),
    ),
}
"""By number."""

SAME = {"proposition 5.6", "proposition c.3"}
"""The same, once more in the appendix."""

MISTAKEN = [
    {"proposition 5.1", "lemma c.4"},
    {"corollary 5.2", "proposition 5.1"},
    {"proposition 4.3", "equation 6"},
    {"proposition 4.2", "equation 11"},
]
"""Numbers of different kinds that are compared as well; those of one kind always are."""

WORDS = {number: re.compile("|".join(row.words + row.ours), re.IGNORECASE) for number, row in STATEMENTS.items()}
"""Words that name what stands under a number."""

OTHER_WORKS = {
    ("agents/comparison/targets.py", "section 7"),  # Hansen et al. 2021
    ("agents/comparison/plots.py", "section 4.2"),  # Agarwal et al. 2021
    ("agents/comparison/statistics.py", "section 4.3"),  # the same
    ("agents/comparison/statistics.py", "section 6.2"),  # the same
    ("teleport_env/searches/fast/linear_chain.py", "algorithm 4.1"),  # Halko et al. 2011
    ("teleport_env/problems/quadratic.py", "equation 5.12"),  # Mezzadri 2007
    ("teleport_env/problems/matrix_factorization.py", "figure 8.6.1"),  # Golub and Van Loan
    ("teleport_env/optimizers.py", "algorithm 1"),  # Kingma and Ba 2015
}
"""File and citation, where another publication is cited."""

_KINDS = {
    "proposition": ("propositions?", "props?"),
    "lemma": ("lemmas?", "lem"),
    "corollary": ("corollar(?:y|ies)", "cor"),
    "assumption": ("assumptions?", "ass(?=[.])"),
    "theorem": ("theorems?", "thms?"),
    "definition": ("definitions?", "def(?=[.])|defns?"),
    "remark": ("remarks?", "rem(?=[.])"),
    "equation": ("equations?|formula|formula[es](?=\\s?\\()", "eqn?s?"),
    "algorithm": ("algorithms?", "algs?"),
    "table": ("tables?", "tabs?(?=[.])"),
    "figure": ("figures?", "figs?|fig\\.s"),
    "section": ("sections?|appendi(?:x|ces)|§+", "sect?s?|app"),
}
"""How kinds are written, in full and abbreviated. The paper has no numbered theorem, definition, remark or table."""
_DIGITS = r"(?:[A-Z]\.|(?-i:[A-Z]))?\d+(?:\.\d+)*"
_PANEL = r"\(?(?-i:[a-z])\)?(?!\w)"
_PANELS = (
    rf"(?:(?:(?-i:[a-z])(?!\w)|\s?\((?-i:[a-z])\)|,?\s\(?panels?\s{_PANEL})"
    rf"(?:\s?(?:,|-|\u2013|to\s|and\s)\s?{_PANEL})*)?"
)
_NUMBER = rf"(?:\({_DIGITS}{_PANELS}\)|`{_DIGITS}{_PANELS}`|{_DIGITS}{_PANELS})(?![^\W_])(?!\.\d)"
_LETTER = r"(?-i:[A-Z])(?!\w|\.\w)"  # of a whole appendix
_WORDS = [f"(?P<{kind}>{full}|(?:{short})\\.?)" for kind, (full, short) in _KINDS.items()]
_GAP = r"[\s~*:#-]*(?:\]\[)?(?:(?:(?:nos?|nrs?)\.|numbers?\b)[\s#]*)?"
_AND = r"\s*\(?(?:[,;&/+\u2013-]\s*|(?:and|or|to|with|through|plus|then|also|as\swell\sas|versus|vs\.?)\b\s*)+"
_CITATION = re.compile(
    rf"(?<![^\W_])(?<!\.)(?P<word>{'|'.join(_WORDS)})(?P<gap>{_GAP})"
    rf"(?P<list>(?:{_NUMBER}|{_LETTER})(?:{_AND}(?:{_NUMBER}|{_LETTER}))*)",
    re.IGNORECASE,
)
_WRITTEN_OUT = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_SPELLED = {word: str(number) for number, word in enumerate(_WRITTEN_OUT, start=1)}
_IN_WORDS = re.compile(
    rf"\b({'|'.join(full for full, _ in _KINDS.values())})\s+({'|'.join(_SPELLED)})\b", re.IGNORECASE
)
_PART = re.compile(rf"(?P<digits>{_DIGITS}|{_LETTER})(?P<panels>{_PANELS})")
_APPENDIX = re.compile(r"\((?P<list>[A-Z]\.\d+(?:\.\d+)*)\)")  # a section of the appendix, without the word

_BESIDE = 150
"""Characters on both sides of a citation in which its subject is named, nearer than the subject of a number that it may be
mistaken for."""
_TEST = re.compile(
    r"(proposition|lemma|corollary|assumption|equation|algorithm|figure|section)_((?:[a-d]_)?\d+(?:_\d+)*(?:_and_(?:[a-d]_)?\d+)*)"
)
_DRAWN = {".csv", ".gif", ".json", ".png", ".svg", ".webp"}
"""Endings of files that are drawn or measured."""


class Citation(NamedTuple):
    """A number that a text cites.

    Attributes:
        number: Kind and digits, such as ``"proposition 5.4"``.
        panels: Letters of a figure's panels.
        left: Text before it.
        right: Text after it.
        together: Numbers that are cited in the same list, each as often as it stands there.
    """

    number: str
    panels: str
    left: str
    right: str
    together: tuple[str, ...]


def _listed(kind: str, written: str) -> Iterator[tuple[str, str]]:
    """Numbers and panels of a list such as ``"2a, 5-7 and D.1"``."""
    before = ""
    for part in _PART.finditer(written):
        digits = part["digits"]
        if digits.isalpha() and kind != "section":
            continue
        if before.isdigit() and digits.isdigit() and written[: part.start()].rstrip(" (").endswith(("-", "\u2013")):
            yield from ((f"{kind} {between}", "") for between in range(int(before) + 1, int(digits)))
        before = digits
        yield f"{kind} {digits.lower()}", "".join(re.findall(r"\b[a-z]\b", part["panels"]))


def cited_in(text: str) -> Iterator[Citation]:
    """What a text cites."""
    text = re.sub(r"\"\s*\n\s*[rf]*\"(?!\")|&nbsp;", lambda joint: " " if joint[0] == "&nbsp;" else "", text)
    text = re.sub(r"\s*\\?\n[\s#*]*", " ", text)
    text = _IN_WORDS.sub(lambda found: f"{found[1]} {_SPELLED[found[2].lower()]}", text)
    for match in (*_CITATION.finditer(text), *_APPENDIX.finditer(text)):
        groups = match.groupdict()
        word, kind = groups.get("word", "§"), next((kind for kind in _KINDS if groups.get(kind)), "section")
        if not (groups.get("gap") or word[-1] in ".§" or word.istitle() or match["list"].startswith("(")):
            continue  # figure2 is a name in code
        left, right = text[max(0, match.start() - _BESIDE) : match.start()], text[match.end() : match.end() + _BESIDE]
        numbers = [*_listed(kind, match["list"])]
        together = tuple(number for number, _ in numbers)
        yield from (Citation(number, panels, left, right, together) for number, panels in numbers)


@cache
def sources() -> dict[str, str]:
    """Text of the project's files by name, without what is drawn or measured, without this test and its list."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("no checkout: git does not say which files are the project's")
    own = (Path(__file__).resolve(), Path(__file__).resolve().with_name("paper.toml"))
    found = {}
    for name in listing.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix not in _DRAWN and path not in own:
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
            found[name] = text
    return found


@cache
def citations() -> list[tuple[str, Citation]]:
    """File and citation, for all that the project cites of the paper."""
    found = ((name, one) for name, text in sources().items() for one in cited_in(text))
    return [(name, one) for name, one in found if (name, one.number) not in OTHER_WORKS]


def distance(number: str, name: str, one: Citation) -> float:
    """Characters from a citation to the next word of what the paper has under a number; infinite: there is none."""
    found = [len(one.left) - match.end() for match in WORDS[number].finditer(one.left)]
    found += [match.start() for match in WORDS[number].finditer(one.right)]
    found += [_BESIDE] * bool(WORDS[number].search(name))
    return min(found, default=math.inf)


@cache
def mistakable(number: str) -> frozenset[str]:
    """Numbers of a list row that this one could be exchanged with unseen, were their subjects not compared."""
    kind = number.partition(" ")[0]
    alike = {other for other in STATEMENTS if other.startswith(kind)}.union(
        *(pair for pair in MISTAKEN if number in pair)
    )
    return frozenset(alike - {number} - (SAME if number in SAME else set()))


def fault(name: str, one: Citation) -> str:
    """What is wrong with a citation: the paper has no such number, or the project says nothing of it, or its list has it
    twice, or another number's subject is nearer than its own, or none is named. Empty: nothing."""
    number, place = one.number, f"{name}: {one.left[-80:]}<{one.number}>{one.right[:80]}"
    if number not in QUOTATIONS:
        return f"{place}: the paper has no {number}"
    if extra := set(one.panels) - set(PANELS.get(number, "")):
        return f"{place}: {number} has no panel {', '.join(sorted(extra))}"
    if number not in STATEMENTS:
        return f"{place}: the paper has {QUOTATIONS[number]!r} there; give {number} a row and a test of it, if that is meant"
    if one.together.count(number) > 1:
        return f"{place}: {number} stands twice in this list"
    own = distance(number, name, one)
    rivals = {other: distance(other, name, one) for other in mistakable(number).difference(one.together)}
    nearest = min(rivals, key=rivals.__getitem__, default="")
    if nearest and rivals[nearest] < own:
        return f"{place}: this is about {STATEMENTS[nearest].subject} ({nearest})"
    return f"{place}: name what it is about, one of {WORDS[number].pattern}" if math.isinf(own) else ""


def test_every_citation_is_in_the_list_and_beside_its_subject() -> None:
    wrong = [found for name, one in citations() if (found := fault(name, one))]
    assert not wrong, "look these up in the paper, and correct them or add them to the lists of this test"


@pytest.mark.parametrize(
    "text",
    [
        *("Theorem 9.9", "Fig. 12", "Eqn. (99)", "Sec. 9.4", "Eq (98)", "Props. 9.1", "Alg. 7", "Appendix D.9"),
        *("Prop.5.9", "Fig.12", "Fig 12", "Eq.(99)", "Figure-12", "Figures 2 & 9", "Figure 4e", "section E.4"),
        *(
            "Appendix E",
            "Definition 3.2",
            "Table 2",
            "Remark 5.8",
            "Figures 6-9",
            "Figure 5 (d)",
            "Fig12",
            "§ 9",
            "(E.2)",
        ),
        *("figure\n    # 12", "Eqs. 3 and 99", "Figure&nbsp;12", "appendix\n9.1", "**Proposition** 9.9"),
        "on a quadratic form the gradient norm stays maximal along the flow (Proposition 5.4)",
        "the gradient is an eigenvector of the Hessian (Proposition 5.1)",
        "data and weights move together (Algorithm 2)",
        "activations must be bijections (section 6.3)",
        "the action on bijective layers (eq. 6)",
        "MNIST with ten digits (figure 8)",
        "Rosenbrock's function and then MNIST (section D.2)",
        "in Algorithm 3 each mini-batch is teleported on and stepped on",
        "the longer gradient lasts for a while (Proposition 5.5)",
        "it was said so before (Proposition 5.5)",
        "the action on a network with bijective activations (eq. 18)",
        "quadratic functions (Section 5.3)",
        "an eigenvector of the largest eigenvalue stays so along the gradient flow (Propositions 5.5 and 5.5)",
        "the ellipse, Rosenbrock's function and its gradient against loss: Figures 1, 2 and 1",
        "first-order regression (Sections 6.1 and B)",
        *(
            f"Rosenbrock's function ({written})"
            for written in (
                *("Figures 2 and 12 of the paper", "Figures 2 and 12 runs", "Figure 2 and 12 %", "Figures 2 and 12%"),
                *("Figure no. 12", "Figure number 12", "Figure #12", "`Figure 12`", "Figure `12`", "[Figure][12]"),
                *(
                    "Figure: 12",
                    "Figure 12%",
                    "Figures 2, 12 to be sure",
                    "Figures `2` and `12`",
                    "formula (99)",
                    "formula 99",
                ),
            )
        ),
        *(
            f"the longer gradient lasts, {written}"
            for written in (
                *(
                    "Propositions 5.4 and 5.9 of the paper",
                    "Proposition 5.4 or 5.9 to be sure",
                    "Propositions 5.4; 5.9",
                ),
                *("Propositions 5.4 through 5.9", "Propositions 5.4 as well as 5.9", "Propositions 5.4 plus 5.9"),
                *(
                    "Proposition 5.4 (and 5.9)",
                    "Propositions 5.4, and also 5.9",
                    "Proposition: 5.9",
                ),
                *("Propositions 5.4, then 5.9", "Propositions 5.4 and/or 5.9", "Propositions 5.4 + 5.9"),
            )
        ),
        *(
            f"MNIST, {written}"
            for written in (
                *("Figure 4a-f", "Figure 4(a)-(f)", "Figures 4(a) to (f)", "Figure 4a\u2013f", "Figure 4 panel f"),
                *("Figure 4 (panel e)", "Figure 4, panels c and f", "Figures 4a to 4f"),
            )
        ),
        "symmetry groups (section b.9)",
        *("the eigenvector, Proposition C4", "the longer gradient lasts, __proposition 5.9__", "MNIST, Figure twelve"),
        *("MNIST, Fig.s 12", "the longer gradient lasts, Proposition nine"),
    ],
)
def test_wrong_numbers_are_found(text: str) -> None:
    for written in (text, f'"""{text}."""', f"({text}) and more"):
        assert any(fault("page.md", one) for one in cited_in(written))


def test_numbers_of_the_paper_pass() -> None:
    text = "The schedule and the sweep: sections 6.2 and D.2. "
    text += "Prop.5.5 is of the gradient flow. Eq.(3) is Rosenbrock's function. Figures 4a,b are of MNIST. "
    text += "Algorithm 1, the ascent on the gradient norm. Fig 1: the ellipse."
    assert [fault("page.md", one) for one in cited_in(text)] == [""] * 7


def exchanged() -> Iterator[tuple[str, str, str, bool]]:
    """File, a number that it cites, another of the paper in its place, and whether the exchange is found: there is a fault
    at one of the numbers of the list."""
    for name, one in citations():
        kind = one.number.partition(" ")[0]
        alike = mistakable(one.number).union(number for number in QUOTATIONS if number.partition(" ")[0] == kind)
        for other in sorted(alike - {one.number} - (SAME if one.number in SAME else set())):
            together = tuple(other if number == one.number else number for number in one.together)
            listed = (
                one._replace(number=number, panels=one.panels if number == other else "", together=together)
                for number in together
            )
            yield name, one.number, other, any(fault(name, written) for written in listed)


def test_an_exchange_of_two_numbers_is_found_at_every_place() -> None:
    """Any other number of its kind in the place of a citation is a fault, with a row in the list or without."""
    found = list(exchanged())
    assert len(found) > 4000
    assert not [(name, number, other) for name, number, other, seen in found if not seen]


def test_files_of_all_kinds_are_read() -> None:
    listed = {
        "Makefile",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "pyproject.toml",
        "scripts/reproduction/claims.toml",
        ".ci/run",
    }
    assert listed <= sources().keys()
    assert {Path(name).suffix for name in sources()} >= {
        ".py",
        ".md",
        ".ipynb",
        ".toml",
        ".c",
        ".h",
        ".inc",
        ".css",
        ".html",
    }


def test_the_words_of_a_row_stand_in_the_paper_and_in_its_subject() -> None:
    """The words that a citation stands beside are the paper's own, and those of ours belong to the same subject."""
    for number, row in STATEMENTS.items():
        for word in row.words:
            assert re.search(word, QUOTATIONS[number], re.IGNORECASE), f"the paper does not say {word!r} at {number}"
        assert row.is_named_in(row.subject), f"no word of {number} is in its subject"


def test_no_word_of_a_statement_fits_the_subject_of_another() -> None:
    """Otherwise an exchange of two numbers would not be seen."""
    for (number, one), (other_number, other) in combinations(STATEMENTS.items(), 2):
        kind = number.partition(" ")[0]
        alike = kind in ("proposition", "equation", "algorithm", "figure") and other_number.startswith(kind)
        if alike and {number, other_number} != SAME:
            assert not one.is_named_in(other.subject), f"{number} is mistaken for {other_number}"
            assert not other.is_named_in(one.subject), f"{other_number} is mistaken for {number}"


def numbers_in(name: str) -> Iterator[str]:
    """Numbers that the name of a test bears, such as ``"proposition 5.6"``."""
    for kind, listed in _TEST.findall(name):
        for one in listed.split("_and_"):
            digits = one.replace("_", ".")
            yield f"{kind} {digits}"


def test_every_test_of_a_statement_is_listed_with_it() -> None:
    """A test that bears a number is in the list, at that number; every number has a test, which is there, is no stub and
    says what it is about."""
    functions = {
        node.name: node
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    for name in functions:
        for number in numbers_in(name):
            assert number in STATEMENTS, f"{name} bears the number of nothing in the list"
            assert name in STATEMENTS[number].tests, f"{name} is missing at {number}"
    for number, row in STATEMENTS.items():
        assert row.tests, f"{number} has no test"
        for name in row.tests:
            assert name in functions, f"there is no {name}, which is listed at {number}"
            assert any(
                isinstance(node, ast.Assert | ast.With) for node in ast.walk(functions[name])
            ) or "assert_" in ast.dump(functions[name]), f"{name} asserts nothing"
            said = f"{name.replace('_', ' ')} {ast.get_docstring(functions[name]) or ''}"
            assert row.is_named_in(said), f"{name} does not say that {row.subject}"
            bears = [one for one in numbers_in(name) if one.startswith(number.partition(" ")[0])]
            assert not bears or number in bears, f"{name} bears another number than {number}"


def test_citations_are_found_in_all_their_forms() -> None:
    text = "Prop. 5.4, eq. (11); Propositions\n    # 5.5 and 5.6. Figures 2, 3 and 7, sections 6.1 and D.2 "
    text += "(Lemma C.4), one CPU (D.3)."
    assert {one.number for one in cited_in(text)} == {
        "proposition 5.4",
        "equation 11",
        "proposition 5.5",
        "proposition 5.6",
        *(f"figure {n}" for n in (2, 3, 7)),
        "section 6.1",
        "section d.2",
        "section d.3",
        "lemma c.4",
    }
    assert not [
        *cited_in("a section of 4 rows, the figures of 2026, propositional logic 3, figure2.png, this section. A row")
    ]


# -- the paper's text --------------------------------------------------------------------------------------------------


_HEADING = r"^(?:Appendix )?(?:[1-7]|[A-D])(?:\.\d)* [A-Z]\w+"
_HEADER = r"^(?:Proposition|Corollary|Assumption|Lemma) [\dC]\.\d(?:\.|\([^)]*\)\.)$"


def passage(number: str, text: str) -> str:
    """What stands in the paper's text under a number; empty: there is no such number."""
    kind, _, digits = number.partition(" ")
    digits = digits.upper()
    escaped = re.escape(digits)
    if kind == "section":
        below = rf"(?!^(?:Appendix )?{escaped}\.)"
        found = re.search(
            rf"^(?:Appendix )?{escaped} ([A-Z].*?)(?={below}{_HEADING}|\Z)", text, re.MULTILINE | re.DOTALL
        )
        found = found or re.search(rf"([^.\n(]*Appendix {escaped})(?!\d)", text)  # a heading that is lost
    elif kind == "equation":
        found = re.search(rf"((?:^(?!\(\d+\)$).*\n){{0,7}})^\({escaped}\)$", text, re.MULTILINE)
    elif kind == "figure":
        found = re.search(rf"^Figure {escaped}: ((?:.*\n?){{1,3}})", text, re.MULTILINE)
    elif kind == "algorithm":  # the caption stands below
        found = re.search(rf"^((?:.*\n){{24}})Algorithm[\u0392\s]*{escaped}(Symmetry.*)$", text, re.MULTILINE)
        return f"{found[2]}\n{found[1]}" if found else ""
    else:
        header = rf"^{kind.capitalize()} {escaped}(?:\.|\([^)]*\)\.)\n"
        found = re.search(rf"{header}(.*?)(?=^Proof\.|{_HEADER}|{_HEADING}|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


@pytest.mark.skipif("TELEPORT_ENV_PAPER" not in os.environ, reason="TELEPORT_ENV_PAPER names no text of the paper")
def test_the_list_agrees_with_the_paper() -> None:
    """Every number of the text is in ``paper.toml``, with words that stand there in that order; there are no others."""
    text = Path(os.environ["TELEPORT_ENV_PAPER"]).read_text(encoding="utf-8")
    for number, words in QUOTATIONS.items():
        there, place = passage(number, text), 0
        assert there or not words, f"the text has no {number}"
        for part in words.split(" ... "):
            place = there.find(part, place)
            assert place >= 0, f"the text does not say {part!r} at {number}"
            place += len(part)
    counted = {
        "equation": re.findall(r"^\((\d+)\)$", text, re.MULTILINE),
        "figure": re.findall(r"^Figure (\d+):", text, re.MULTILINE),
        "algorithm": re.findall(r"^Algorithm[\u0392\s]*(\d)Symmetry", text, re.MULTILINE),
        "section": re.findall(
            r"^(?:Appendix )?([1-7A-D](?:\.\d)*) [A-Z]\w+", text.partition("\nReferences\n")[0], re.MULTILINE
        ),
    }
    counted["section"] += re.findall(
        r"^(?:Appendix )?([A-D](?:\.\d)*) [A-Z]\w+", text.rpartition("\nReferences\n")[2], re.MULTILINE
    )
    for kind in ("Proposition", "Corollary", "Assumption", "Lemma"):
        counted[kind.lower()] = re.findall(rf"^{kind} ([\dC]\.\d)(?:\.$|\()", text, re.MULTILINE)
    for kind, digits in counted.items():
        lost = {"C.1", "C.2"} if kind == "section" else set()
        assert set(digits) | lost == set(LISTED[kind]), f"other numbers of a kind: {kind}"
    for figure, letters in PANELS.items():
        above = text[: text.index(f"\nFigure {figure[-1]}:")].splitlines()
        drawn = list(takewhile(lambda line: re.fullmatch(r"(?:[a-h][\s\u0392]+)+", line), reversed(above)))
        assert "".join(re.findall("[a-h]", " ".join(reversed(drawn)))) == letters, f"other panels of {figure}"
    assert not re.search(r"^(?:Definition|Remark|Table|Theorem) \d", text, re.MULTILINE)
