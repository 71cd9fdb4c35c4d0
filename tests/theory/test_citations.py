"""What the project cites of Zhao et al. (NeurIPS 2022) is in the paper, under that number and about that subject.

`STATEMENTS` has a row for every number that may be cited: what the paper says there, words of it, and the tests of it. Every
citation in a text file of the project must stand beside such a word: another number, or another subject, fails here. Correct
the citation, or add the number or the word after looking it up. The numbers of other publications are in `OTHER_WORKS`.
Where ``TELEPORT_ENV_PAPER`` names a file with the paper's text, the rows are compared with it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Statement(NamedTuple):
    """What the paper says under a number.

    Attributes:
        subject: The sentence's subject.
        opening: First words in the text.
        words: Regular expressions that all match in the text, near the number. Beside a citation one of them or of `ours`
            matches.
        ours: How the project says the same.
        tests: Names of the tests of it.
    """

    subject: str
    opening: str
    words: tuple[str, ...]
    ours: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()

    def is_named_in(self, text: str) -> bool:
        """Whether a text has one of the words."""
        return any(re.search(word, text, re.IGNORECASE) for word in self.words + self.ours)


STATEMENTS: dict[str, Statement] = {
    "proposition 4.1": Statement(
        "Rosenbrock's and Booth's functions have rotational symmetry",
        "The Rosenbrock and Booth functions have rotational symmetry.",
        ("rotational symmetry",),
        ("rotation", "test functions"),
        ("test_proposition_4_1_rotations_of_test_functions",),
    ),
    "proposition 4.2": Statement(
        "a linear network is invariant under changes of basis between its layers",
        "A linear network is invariant under all groups acting as",
        ("linear network",),
        ("product of matrices",),
        ("test_proposition_4_2_linear_networks",),
    ),
    "proposition 4.3": Statement(
        "a network with bijective activations has the general linear symmetry on its data",
        "Assume that is invertible.",
        ("bijective activation",),
        ("bijecti", r"eq\. 11", "left inverse", r"s\^-1"),
        ("test_proposition_4_3_any_bijective_activation", "test_proposition_4_3_needs_invertible_layer_inputs"),
    ),
    "proposition 5.1": Statement(
        "a teleport accelerates the decay of the loss where the transported gradient is longer",
        "Let be a point we teleport to.",
        ("accelerates the rate of decay",),
        ("accelerat", "transported", "speeds? descent up", r"J\^-T"),
        (
            "test_proposition_5_1_gradient_after_a_move",
            "test_proposition_5_1_a_move_speeds_descent_up_where_the_transported_gradient_is_longer",
            "test_proposition_5_1_has_both_outcomes",
        ),
    ),
    "corollary 5.2": Statement(
        "orthogonal invariances of the inverse learning rate change nothing",
        "Let denote the orthogonal group of invariances of the inverse of the learning rate",
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
        "The l2 norm of the gradient is Lipschitz continuous with constant",
        ("Lipschitz",),
        tests=("test_proposition_5_4_for_losses_that_are_not_quadratic",),
    ),
    "proposition 5.4": Statement(
        "the longer gradient lasts for some steps of descent, for any invariant loss",
        "Consider the gradient descent with a -invariant loss and learning rate",
        ("invariant loss",),
        ("lasts", "stay longer", "longer gradient for", "Lipschitz"),
        ("test_proposition_5_4_how_long_the_advantage_lasts", "test_proposition_5_4_for_losses_that_are_not_quadratic"),
    ),
    "proposition 5.5": Statement(
        "on a quadratic form the gradient norm stays maximal along the gradient flow",
        "If at point , is at a maximum in , then for any point on the gradient flow trajectory",
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
        "Consider a point in the parameter space.",
        ("Consider a point in the parameter space",),
        ("nearest", "distance"),
        ("test_proposition_5_6_and_c_3_steepest_point_is_the_nearest_to_the_minimum",),
    ),
    "proposition 5.7": Statement(
        "at a maximum of the gradient norm on the level set the gradient is Newton's direction",
        "Let be a level set of .",
        ("Newton",),
        tests=(
            "test_proposition_5_7_newton_direction_is_the_gradient",
            "test_proposition_5_7_on_rosenbrocks_function_that_is_not_quadratic",
        ),
    ),
    "proposition c.1": Statement(
        "a level set of a quadratic form is a single orbit",
        "contains a single orbit.",
        ("single orbit",),
        ("one orbit",),
        ("test_proposition_c_1_a_level_set_is_one_orbit",),
    ),
    "proposition c.2": Statement(
        "the steepest point is an eigenvector of the largest eigenvalue",
        "The solution to (69) is an eigenvector of corresponding to its largest eigenvalue.",
        ("eigenvector", "largest eigenvalue"),
        ("closed form", "largest gradient", "most that the level set", "extreme eigenvalue"),
        (
            "test_proposition_c_2_largest_gradient_of_a_level_set",
            "test_proposition_c_2_is_what_the_closed_form_reaches",
            "test_proposition_c_2_is_where_the_closed_form_search_goes",
        ),
    ),
    "proposition c.3": Statement(
        "the nearest point of a level set is the steepest",
        "The solution to the following optimization problem is the same as the solution to (69):",
        (r"same as the solution to \(69\)",),
        ("nearest", "distance"),
        ("test_proposition_5_6_and_c_3_steepest_point_is_the_nearest_to_the_minimum",),
    ),
    "lemma c.4": Statement(
        "where the gradient norm is critical on the level set, the gradient is an eigenvector of the Hessian",
        "If for all unit vector that is orthogonal to , then is an eigenvector of the Hessian of .",
        ("eigenvector of the Hessian",),
        ("Newton", "parallel", "critical", "Hessian"),
        ("test_lemma_c_4_hessian_times_gradient_is_parallel_to_it", "test_lemma_c_4_at_a_critical_angle"),
    ),
    "equation 3": Statement(
        "Rosenbrock's function",
        "Rosenbrock function has the following form:\n(3)",
        ("Rosenbrock",),
        tests=("test_rosenbrock_has_the_published_coordinates", "test_rosenbrock_descends_as_published"),
    ),
    "equation 4": Statement(
        "Booth's function",
        "where the function evaluates to :\n(4)",
        ("Booth",),
        tests=("test_booth_has_its_minimum_at_1_3", "test_booth_descends_as_published"),
    ),
    "equation 6": Statement(
        "the action on a linear network",
        "all groups acting as\n(6)",
        ("linear network",),
        ("linear layers", "product of matrices"),
        ("test_proposition_4_2_linear_networks",),
    ),
    "equation 11": Statement(
        "the action on a network with bijective activations",
        "keeps with invariant\n(11)",
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
        "if it satisfies\n(13)",
        ("accelerates",),
        (r"J\^-T",),
        ("test_proposition_5_1_a_move_speeds_descent_up_where_the_transported_gradient_is_longer",),
    ),
    "equation 20": Statement(
        "the ellipse",
        "Consider the following loss function with :\n(20)",
        ("ellipse",),
        tests=("test_ellipse_is_steepest_on_its_short_axis",),
    ),
    "algorithm 1": Statement(
        "a schedule of teleports, each an ascent",
        "Algorithm 1Symmetry Teleportation",
        ("teleportation schedule",),
        ("objective", "ascen", "published search"),
        ("test_algorithm_1_ascends",),
    ),
    "algorithm 2": Statement(
        "teleport and step on each of the first mini-batches of an epoch, then step on the rest",
        "Algorithm 2Symmetry Teleportation (SGD)",
        ("mini-batch",),
        ("mini_batch", "mini-batches", "first epoch", "another reading"),
        ("test_algorithm_2_teleports_and_steps_on_each_mini_batch",),
    ),
    "algorithm 3": Statement(
        "teleports that move the data too",
        "Algorithm 3Symmetry Teleportation (with data transformation)",
        ("data transformation",),
        ("data_", "(the|that|and) data", "data (that )?(move|stay)", "new inputs?", "X -> g X", "moved data"),
        (
            "test_algorithm_3_data_element_is_what_new_inputs_go_through",
            "test_algorithm_3_input_transform_keeps_the_loss_with_the_data_and_not_without",
        ),
    ),
    "section 3": Statement("symmetry teleportation", "\n3 Symmetry Teleportation\n", ("symmetr",), ("sampling",)),
    "section 4": Statement(
        "symmetries and their groups",
        "\n4 Symmetry Groups of Certain Optimization Problems\n",
        ("symmetries",),
        ("which group",),
    ),
    "section 4.2": Statement(
        "networks, whose activations are bijections", "\n4.2 Multi-layer Neural Networks\n", ("activation",)
    ),
    "section 5": Statement(
        "what accelerates, in theory", "\n5 Theoretical Analysis\n", ("accelerate",), ("speeds descent",)
    ),
    "section 6.1": Statement(
        "the experiments: test functions, regression, MNIST",
        "\n6.1 Acceleration through symmetry teleportation\n",
        ("Rosenbrock", "Booth", "regression", "MNIST", "first order approximation"),
        ("first[- ]order", r"1 \+ T", "network", "rate"),
        ("test_published_regression_plays_the_first_order_action", "test_mnist_preset_has_the_published_schedule"),
    ),
    "section 6.2": Statement(
        "teleportation schedules", "\n6.2 Teleportation schedule\n", ("schedule",), ("variations", "epochs")
    ),
    "section 6.3": Statement("runtime", "\n6.3 Runtime analysis\n", ("time|computation",), ("width", "depth")),
    "section 7": Statement(
        "discussion and future work",
        "\n7 Discussion and Conclusions\n",
        ("permutation", "matrix factorization", "advanced optimizers"),
        ("hope", "future work", "imbalance"),
    ),
    "section b.1": Statement(
        "rotations of test functions",
        "\nB.1 Continuous symmetry in test functions\n",
        ("Ellipse", "rotations"),
        ("rotation",),
        ("test_proposition_4_1_rotations_of_test_functions",),
    ),
    "section b.1.2": Statement(
        "the action on Rosenbrock's function in 2 and 2N variables", "\nB.1.2 Rosenbrock function\n", ("Rosenbrock",)
    ),
    "section d.1": Statement(
        "test functions, further results", "\nD.1 Test functions\n", ("Rosenbrock", "Booth"), ("test functions",)
    ),
    "section d.2": Statement(
        "the regression's settings, and the sweep",
        "\nD.2 Multilayer neural network\n",
        ("AdaGrad", "gradient ascent"),
        ("regression", "network", "CPU", "convergence", "ascent"),
    ),
    "figure 1": Statement(
        "the ellipse, a picture",
        "Figure 1: Left to right: gradient descent,",
        ("gradient descent, second-order methods",),
        ("ellipse", "picture"),
    ),
    "figure 2": Statement(
        "Rosenbrock's and Booth's functions",
        "Figure 2: Optimization of the Rosenbrock function (top row)",
        ("Rosenbrock", "Booth"),
        ("test functions", "angles", "plane", "released code"),
    ),
    "figure 3": Statement(
        "regression",
        "Figure 3: Multi-layer network optimization",
        ("network optimization",),
        ("regression", "first[- ]order", "timings", "released code"),
    ),
    "figure 4": Statement(
        "MNIST", "Figure 4: MNIST classification", ("MNIST",), ("digits", "classification", "images", "rates chosen")
    ),
    "figure 5": Statement(
        "schedules",
        "Figure 5: Teleportation (a) once at different epoch",
        ("schedules", "mini-batches"),
        ("mini-batch", "mini_batches", "epochs", "teleports come", "how often"),
        ("test_figure_5_varies_epochs_and_mini_batches",),
    ),
    "figure 6": Statement(
        "runtime",
        "Figure 6: Gradient descent training time",
        ("training time",),
        ("runtime", "width", "formulas", "square"),
        ("test_figure_6_lasts_at_any_square_size",),
    ),
    "figure 7": Statement(
        "gradient against loss",
        "Figure 7: Gradient on the trajectory",
        ("Gradient on the trajectory",),
        ("gradient against loss", "gradients", "same loss", "released code", "look at the same", "over many angles"),
    ),
    "figure 8": Statement(
        "sweep of ascent steps and rates",
        "Figure 8: Hyperparameter sweeps",
        ("Hyperparameter sweeps",),
        ("ascent", "sweep", "loss by less", "2000", "timings"),
        ("test_figure_8_varies_the_ascent", "test_figure_8_has_two_thousand_steps"),
    ),
}
"""By number."""

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
    r"propositions?|props?\.?": "proposition",
    r"lemmas?|lem\.": "lemma",
    r"corollar(?:y|ies)|cor\.": "corollary",
    r"assumptions?|ass\.": "assumption",
    r"theorems?|thms?\.": "theorem",
    r"equations?|eqns?\.?|eqs?\.?": "equation",
    r"algorithms?|algs?\.": "algorithm",
    r"sections?|sect?s?\.|appendi(?:x|ces)|app\.|§": "section",
    r"figures?|figs?\.": "figure",
}
_NUMBER = r"\(?((?:[A-D]\.|\d+\.)*\d+|[A-D]\.\d+(?:\.\d+)*)\)?"
_CITATION = re.compile(
    rf"(?<![\w`])({'|'.join(_KINDS)})[\s~]+{_NUMBER}(?:(?:,|,? and| to| with|,? or)\s+{_NUMBER}(?![\w%]))*",
    re.IGNORECASE,
)
_APPENDIX = re.compile(r"\(([A-D]\.\d+)\)")  # a section of the appendix, without the word
FIGURES = [row for number, row in STATEMENTS.items() if number.startswith("figure")]

_BESIDE = 250, 60
"""Characters on both sides of a citation in which its subject is named, and in which a figure's is to be no other's."""
_TEST = re.compile(r"test_(?:proposition|lemma|corollary|algorithm)_")
_ENDINGS = {".py", ".md", ".toml", ".ipynb", ".c", ".h", ".inc", ".j2", ".yml", ".html", ".js", ".cff", ".txt", ""}


def cited_in(text: str) -> Iterator[tuple[str, str, str]]:
    """What a text cites, such as ``"proposition 5.4"``, and the text on both sides, farther and nearer."""
    text = re.sub(r"\s*\n[\s#*]*", " ", text)
    for match in (*_CITATION.finditer(text), *_APPENDIX.finditer(text)):
        written = match[1].lower()
        kind = next((kind for words, kind in _KINDS.items() if re.fullmatch(words, written)), None)
        beside, near = (
            text[max(0, match.start() - n) : match.start()] + text[match.end() : match.end() + n] for n in _BESIDE
        )
        if kind is None:
            yield f"section {written}", beside, near
        else:
            for number in re.findall(_NUMBER, match[0][len(written) :]):
                yield f"{kind} {number.lower()}", beside, near


@cache
def sources() -> dict[str, str]:
    """Text of the project's files by name, without what is drawn or measured, and without this test."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("no checkout: git does not say which files are the project's")
    found = {}
    for name in listing.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix in _ENDINGS and path != Path(__file__).resolve():
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
            found[name] = text
    return found


def faults(name: str, text: str) -> list[str]:
    """Citations of a file that name no statement of the paper, or stand beside another subject. The mention of a figure may
    say nothing of it, but must not stand near the words of another."""
    found = []
    for one, beside, near in cited_in(text):
        if (name, one) in OTHER_WORKS:
            continue
        if one not in STATEMENTS:
            found.append(f"{name}: {one} is in no row")
        elif one.startswith("figure"):
            if not STATEMENTS[one].is_named_in(near) and any(row.is_named_in(near) for row in FIGURES):
                found.append(f"{name}: {one} is about {STATEMENTS[one].subject}, not about: {near}")
        elif not STATEMENTS[one].is_named_in(f"{name} {beside}"):
            found.append(f"{name}: {one} is about {STATEMENTS[one].subject}, not about: {beside}")
    return found


def test_every_citation_is_in_the_list_and_beside_its_subject() -> None:
    wrong = [fault for name, text in sources().items() for fault in faults(name, text)]
    assert not wrong, "look these up in the paper, and correct them or add them to the lists of this test"


@pytest.mark.parametrize(
    "text",
    [
        "Theorem 9.9",
        "Fig. 12",
        "Eqn. (99)",
        "Sec. 9.4",
        "Eq (98)",
        "Props. 9.1",
        "Alg. 7",
        "Appendix D.9",
        "Proposition 9.9",
        "on a quadratic form the gradient norm stays maximal along the flow (Proposition 5.4)",
        "the gradient is an eigenvector of the Hessian (Proposition 5.1)",
        "data and weights move together (Algorithm 2)",
        "activations must be bijections (section 6.3)",
        "the action on bijective layers (eq. 6)",
        "MNIST with ten digits (figure 8)",
    ],
)
def test_wrong_numbers_are_found(text: str) -> None:
    assert faults("page.md", text)


def test_files_of_all_kinds_are_read() -> None:
    assert {"Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", "agents/paper.py"} <= sources().keys()
    assert {Path(name).suffix for name in sources()} >= {".py", ".md", ".ipynb", ".toml", ".c", ".h", ".inc"}


def test_no_word_of_a_statement_fits_the_subject_of_another() -> None:
    """Otherwise an exchange of two numbers would not be seen. Propositions 5.6 and C.3
    are the same."""
    same = {"proposition 5.6", "proposition c.3"}
    for (number, one), (other_number, other) in combinations(STATEMENTS.items(), 2):
        kind = number.partition(" ")[0]
        assert one.is_named_in(one.subject), f"no word of {number} is in its subject"
        pair = {number, other_number}
        if (
            kind in ("proposition", "equation", "algorithm", "figure")
            and other_number.startswith(kind)
            and pair != same
        ):
            assert not one.is_named_in(other.subject), f"{number} is mistaken for {other_number}"
            assert not other.is_named_in(one.subject), f"{other_number} is mistaken for {number}"


def test_every_test_of_a_statement_is_listed_with_it() -> None:
    """A test that bears a number is in the list, at that number; a listed test is there and says what it is about."""
    functions = {
        node.name: node
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    listed = {name for row in STATEMENTS.values() for name in row.tests}
    assert {name for name in functions if _TEST.match(name)} <= listed <= functions.keys()
    for number, row in STATEMENTS.items():
        kind, _, digits = number.partition(" ")
        for name in row.tests:
            said = ast.get_docstring(functions[name]) or name.replace("_", " ")
            assert row.is_named_in(said), f"{name} does not say that {row.subject}"
            if _TEST.match(f"test_{kind}_"):
                assert kind in name, f"{name} is not named a {kind}"
                assert digits.replace(".", "_") in name, f"{name} does not bear the number of {number}"


def test_citations_are_found_in_all_their_forms() -> None:
    text = "Prop. 5.4, eq. (11); Propositions\n    # 5.5 and 5.6. Figures 2, 3 and 7, sections 6.1 and D.2 "
    text += "(Lemma C.4), one CPU (D.3)."
    assert {one for one, _, _ in cited_in(text)} == {
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
    assert not [*cited_in("a section of 4 rows, the figures of 2026, propositional logic 3")]


@pytest.mark.skipif("TELEPORT_ENV_PAPER" not in os.environ, reason="TELEPORT_ENV_PAPER names no text of the paper")
def test_the_list_agrees_with_the_paper() -> None:
    """Every number stands in the text before the words that the list gives for it."""
    text = Path(os.environ["TELEPORT_ENV_PAPER"]).read_text(encoding="utf-8")
    text = re.sub(r"Algorithm\u0392?\s(\d)", r"Algorithm \1", text)  # a space that was encoded twice
    wrong = []
    for number, row in STATEMENTS.items():
        kind, _, digits = number.partition(" ")
        place, before, after = text.find(row.opening), 400, 1200
        if kind in ("proposition", "corollary", "assumption", "lemma"):
            header = f"{kind.capitalize()} {digits.upper()}"
            opening = re.escape(row.opening)
            found = re.search(rf"^{re.escape(header)}(?:\.|\([^)]*\)\.)\n{opening}", text, re.MULTILINE)
            place, before, after = (found.start() if found else -1), 0, 500
        elif kind == "section":
            before, after = 0, 9000
        elif kind == "algorithm":  # the caption stands below
            before, after = 1200, 100
        near = text[max(0, place - before) : place + after]
        if place < 0 or not all(re.search(word, near, re.IGNORECASE) for word in row.words):
            wrong.append(number)
    assert not wrong
