"""What the code, the tests and the pages cite of Zhao et al. (NeurIPS 2022) is in the paper, under that number.

`STATEMENTS` has a row for every number that may be cited: what the paper says there, and the tests of it. A citation of
another number fails here: correct it, or add the number after looking it up. The numbers of other publications are
in `OTHER_WORKS`. Where ``TELEPORT_ENV_PAPER`` names a file with the paper's text, the numbers are looked up in it.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STATEMENTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # number: (subject of the paper's sentence, its first words in the text, tests)
    "proposition 4.1": (
        "Rosenbrock's and Booth's functions have rotational symmetry",
        "The Rosenbrock and Booth functions have rotational symmetry.",
        ("test_proposition_4_1_rotations_of_test_functions",),
    ),
    "proposition 4.2": (
        "a linear network is invariant under changes of basis between its layers",
        "A linear network is invariant under all groups acting as",
        ("test_proposition_4_2_linear_networks",),
    ),
    "proposition 4.3": (
        "a network with bijective activations has the general linear symmetry on its data",
        "Assume that is invertible.",
        (
            "test_proposition_4_3_any_bijective_activation",
            "test_proposition_4_3_needs_invertible_layer_inputs",
        ),
    ),
    "proposition 5.1": (
        "a teleport accelerates the decay of the loss where the transported gradient is longer",
        "Let be a point we teleport to.",
        (
            "test_proposition_5_1_gradient_after_a_move",
            "test_proposition_5_1_a_move_speeds_descent_up_where_the_transported_gradient_is_longer",
            "test_proposition_5_1_has_both_outcomes",
        ),
    ),
    "corollary 5.2": (
        "orthogonal invariances of the inverse learning rate change nothing",
        "Let denote the orthogonal group of invariances of the inverse of the learning rate",
        (
            "test_corollary_5_2_orthogonal_actions_change_nothing",
            "test_corollary_5_2_needs_the_learning_rates_kept",
            "test_corollary_5_2_permutations",
        ),
    ),
    "assumption 5.3": (
        "the gradient is Lipschitz continuous",
        "The l2 norm of the gradient is Lipschitz continuous with constant",
        (),
    ),
    "proposition 5.4": (
        "the longer gradient lasts for some steps of descent, for any invariant loss",
        "Consider the gradient descent with a -invariant loss and learning rate",
        (
            "test_proposition_5_4_how_long_the_advantage_lasts",
            "test_proposition_5_4_for_losses_that_are_not_quadratic",
        ),
    ),
    "proposition 5.5": (
        "on a quadratic form the gradient norm stays maximal along the gradient flow",
        "If at point , is at a maximum in , then for any point on the gradient flow trajectory",
        (
            "test_proposition_5_5_the_norm_stays_maximal_along_the_gradient_flow",
            "test_proposition_5_5_one_teleport_is_enough_where_descent_keeps_to_the_longest_gradients",
        ),
    ),
    "proposition 5.6": (
        "the steepest point of a level set is the nearest to the minimum",
        "Consider a point in the parameter space.",
        ("test_proposition_5_6_and_c_3_steepest_point_is_the_nearest_to_the_minimum",),
    ),
    "proposition 5.7": (
        "at a maximum of the gradient norm on the level set the gradient is Newton's direction",
        "Let be a level set of .",
        ("test_proposition_5_7_newton_direction_is_the_gradient",),
    ),
    "proposition c.1": (
        "a level set of a quadratic form is a single orbit",
        "contains a single orbit.",
        ("test_proposition_c_1_a_level_set_is_one_orbit",),
    ),
    "proposition c.2": (
        "the steepest point is an eigenvector of the largest eigenvalue",
        "The solution to (69) is an eigenvector of corresponding to its largest eigenvalue.",
        (
            "test_proposition_c_2_largest_gradient_of_a_level_set",
            "test_proposition_c_2_is_what_the_closed_form_reaches",
            "test_proposition_c_2_is_where_the_closed_form_search_goes",
        ),
    ),
    "proposition c.3": (
        "the nearest point of a level set is the steepest",
        "The solution to the following optimization problem is the same as the solution to (69):",
        ("test_proposition_5_6_and_c_3_steepest_point_is_the_nearest_to_the_minimum",),
    ),
    "lemma c.4": (
        "where the gradient norm is critical on the level set, the gradient is an eigenvector of the Hessian",
        "If for all unit vector that is orthogonal to , then is an eigenvector of the Hessian of .",
        ("test_lemma_c_4_hessian_times_gradient_is_parallel_to_it", "test_lemma_c_4_at_a_critical_angle"),
    ),
    "equation 3": ("Rosenbrock's function", "Rosenbrock function has the following form:\n(3)", ()),
    "equation 4": ("Booth's function", "where the function evaluates to :\n(4)", ()),
    "equation 6": ("the action on a linear network", "all groups acting as\n(6)", ()),
    "equation 11": ("the action on a network with bijective activations", "keeps with invariant\n(11)", ()),
    "equation 13": ("the condition under which a teleport accelerates", "if it satisfies\n(13)", ()),
    "equation 20": ("the ellipse", "Consider the following loss function with :\n(20)", ()),
    "algorithm 1": (
        "symmetry teleportation",
        "Algorithm 1Symmetry Teleportation",
        ("test_algorithm_1_ascends",),
    ),
    "algorithm 2": (
        "teleport and step on each of the first mini-batches of an epoch, then step on the rest",
        "Algorithm 2Symmetry Teleportation (SGD)",
        ("test_algorithm_2_teleports_and_steps_on_each_mini_batch",),
    ),
    "algorithm 3": (
        "teleports that move the data too",
        "Algorithm 3Symmetry Teleportation (with data transformation)",
        (
            "test_algorithm_3_data_element_is_what_new_inputs_go_through",
            "test_algorithm_3_input_transform_keeps_the_loss_with_the_data_and_not_without",
        ),
    ),
    "section 3": ("symmetry teleportation", "\n3 Symmetry Teleportation\n", ()),
    "section 4": ("symmetry groups", "\n4 Symmetry Groups of Certain Optimization Problems\n", ()),
    "section 4.2": ("networks, whose activations are bijections", "\n4.2 Multi-layer Neural Networks\n", ()),
    "section 5": ("theory", "\n5 Theoretical Analysis\n", ()),
    "section 6.1": (
        "the experiments: test functions, regression, MNIST",
        "\n6.1 Acceleration through symmetry teleportation\n",
        (),
    ),
    "section 6.2": ("teleportation schedules", "\n6.2 Teleportation schedule\n", ()),
    "section 6.3": ("runtime", "\n6.3 Runtime analysis\n", ()),
    "section 7": ("discussion and future work", "\n7 Discussion and Conclusions\n", ()),
    "section b.1": ("actions on test functions", "\nB.1 Continuous symmetry in test functions\n", ()),
    "section b.1.2": ("the action on Rosenbrock's function in 2 and 2N variables", "\nB.1.2 Rosenbrock function\n", ()),
    "section d.1": ("test functions, further results", "\nD.1 Test functions\n", ()),
    "section d.2": ("the regression's settings, and the sweep", "\nD.2 Multilayer neural network\n", ()),
    "figure 1": ("the ellipse, a picture", "Figure 1: Left to right: gradient descent,", ()),
    "figure 2": (
        "Rosenbrock's and Booth's functions",
        "Figure 2: Optimization of the Rosenbrock function (top row)",
        (),
    ),
    "figure 3": ("regression", "Figure 3: Multi-layer network optimization", ()),
    "figure 4": ("MNIST", "Figure 4: MNIST classification", ()),
    "figure 5": ("schedules", "Figure 5: Teleportation (a) once at different epoch", ()),
    "figure 6": ("runtime", "Figure 6: Gradient descent training time", ()),
    "figure 7": ("gradient against loss on both test functions", "Figure 7: Gradient on the trajectory", ()),
    "figure 8": ("sweep of ascent steps and rates", "Figure 8: Hyperparameter sweeps", ()),
}

OTHER_WORKS = {
    ("agents/comparison/plots.py", "section 4.2"),  # Agarwal et al. 2021
    ("agents/comparison/statistics.py", "section 4.3"),  # the same
    ("agents/comparison/statistics.py", "section 6.2"),  # the same
    ("teleport_env/searches/fast/linear_chain.py", "algorithm 4.1"),  # Halko et al. 2011
    ("teleport_env/problems/quadratic.py", "equation 5.12"),  # Mezzadri 2007
    ("teleport_env/problems/matrix_factorization.py", "figure 8.6.1"),  # Golub and Van Loan
    ("teleport_env/optimizers.py", "algorithm 1"),  # Kingma and Ba 2015
}
"""File and citation, where another publication is cited."""

_KIND = r"(proposition|prop\.|lemma|corollary|assumption|equation|eqs?\.|algorithm|section|figure)s?"
_NUMBER = r"\(?((?:[A-D]\.|\d+\.)*\d+|[A-D]\.\d+(?:\.\d+)*)\)?"
_CITATION = re.compile(rf"\b{_KIND}\s+{_NUMBER}(?:(?:,|,? and| to| with|,? or)\s+{_NUMBER}(?![\w%]))*", re.IGNORECASE)
_APPENDIX = re.compile(r"\(([A-D]\.\d+)\)")  # a section of the appendix, without the word
_TEST = re.compile(r"test_(?:proposition|lemma|corollary|algorithm)_.*")
_LONG = {"prop.": "proposition", "eq.": "equation", "eqs.": "equation"}


def citations(text: str) -> set[str]:
    """What a text cites, such as ``"proposition 5.4"``."""
    found = set()
    for match in _CITATION.finditer(re.sub(r"\s*\n[\s#*]*", " ", text)):
        kind = match[1].lower()
        kind = _LONG.get(kind, kind)
        found |= {f"{kind} {number.lower()}" for number in re.findall(_NUMBER, match[0][len(match[1]) :])}
    return found | {f"section {number.lower()}" for number in _APPENDIX.findall(text)}


def sources() -> list[Path]:
    places = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for folder in ("agents", "docs", "examples", "scripts", "teleport_env", "tests"):
        places += [
            path for ending in ("py", "toml", "c", "h", "inc", "j2") for path in (ROOT / folder).rglob(f"*.{ending}")
        ]
    linked = ROOT / "teleport_env" / "agents"  # a link to the folder above
    return [path for path in places if linked not in path.parents and path != Path(__file__).resolve()]


def test_every_number_that_is_cited_is_in_the_list() -> None:
    unknown = []
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        cited = citations(path.read_text(encoding="utf-8"))
        unknown += [f"{name}: {one}" for one in sorted(cited - STATEMENTS.keys()) if (name, one) not in OTHER_WORKS]
    assert not unknown, "look these up in the paper, and correct them or add them to the lists of this test"


def test_every_test_of_a_statement_is_listed_with_it() -> None:
    """A test that bears a number is in the list, at that number, and the other way round."""
    named = {}
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and _TEST.fullmatch(node.name):
                named[node.name] = node
    listed = {name: number for number, (_, _, tests) in STATEMENTS.items() for name in tests}
    assert listed.keys() == named.keys()
    for number, (_, _, tests) in STATEMENTS.items():
        kind, _, digits = number.partition(" ")
        for name in tests:
            assert digits.replace(".", "_") in name, f"{name} does not bear the number of {number}"
            assert kind in name, f"{name} is not named a {kind}"


def test_citations_are_found_in_all_their_forms() -> None:
    text = "Prop. 5.4, eq. (11); Propositions\n    # 5.5 and 5.6. Figures 2, 3 and 7, sections 6.1 and D.2 "
    text += "(Lemma C.4), one CPU (D.3)."
    assert citations(text) == {
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
    assert not citations("a section of 4 rows, the figures of 2026, propositional logic 3")


@pytest.mark.skipif("TELEPORT_ENV_PAPER" not in os.environ, reason="TELEPORT_ENV_PAPER names no text of the paper")
def test_the_list_agrees_with_the_paper() -> None:
    """Every number stands in the text before the words that the list gives for it."""
    text = Path(os.environ["TELEPORT_ENV_PAPER"]).read_text(encoding="utf-8")
    text = re.sub(r"Algorithm\u0392?\s(\d)", r"Algorithm \1", text)  # a space that was encoded twice
    wrong = []
    for number, (_, words, _) in STATEMENTS.items():
        kind, _, digits = number.partition(" ")
        place = text.find(words)
        if kind in ("proposition", "corollary", "assumption", "lemma"):
            header = f"{kind.capitalize()} {digits.upper()}"
            found = re.search(rf"^{re.escape(header)}(?:\.|\([^)]*\)\.)\n{re.escape(words)}", text, re.MULTILINE)
            place = found.start() if found else -1
        if place < 0:
            wrong.append(number)
    assert not wrong
