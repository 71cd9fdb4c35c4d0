"""The check of prose finds what it looks for, and passes over what it does not read."""

from __future__ import annotations

import inspect
import io
import sys
import tokenize
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
sys.path.insert(0, str(DOCS))
import check_prose  # noqa: E402

LONG = "A sentence of " + "many " * 22 + "words."
"""It has 26."""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("The reader is told so.", '"told"'),
        ("One row a played\nepisode is written.", '"One row a played episode"'),
        ("Actions, one a rate factor.", '"one a rate factor"'),
        ("* Fine.\n* They hold for whoever asks.", '"whoever"'),
        ("256 instances a problem.", '"256 instances a problem"'),
        ("One dict a training seed.", '"One dict a training seed"'),
        ("A row an ascent and seed.", '"A row an ascent and"'),
        ("It is significantly above the rule.", '"significantly above"'),
        ("A run costs 3 us a step.", '"3 us a step"'),
        ("| a | told |", '"told"'),
        ("```python\nx = 1  # nobody knows\n```", '"nobody"'),
        ('```python\ndef f():\n    """One key a row."""\n```', '"One key a row"'),
        ("```bash\nmake  # is told so\n```", '"told"'),
        ("One action a row; see there.", '"One action a row"'),
        ("An array, a flattened image a row.", '"a flattened image a row"'),
        ("| 200 new inputs a run: largest |", '"200 new inputs a run"'),
        ("An interval a problem stands beside it.", '"An interval a problem"'),
        ("The mean is above that of the rule.", '"above that of the rule"'),
        ("It is played twice a policy.", '"twice a policy"'),
        ("On Booth it is above L-BFGS.", '"above L-BFGS"'),
        ("Its mean is below the rule's on 8 of 9.", '"below the rule\'s"'),
        ("It walks on the weights, as a search does.", '"as a search does"'),
        ("This page says more on what the ledger is.", '"what the ledger is"'),
        ("The policy is below its like.", '"below its like"'),
        ("The policy is below plain descent.", '"below plain descent"'),
        ("Momentum is above gradient descent.", '"is above "'),
        ("The generalist lies above whitening.", '"lies above "'),
        ("Descent is far below random search.", '"is far below "'),
        ("It costs three losses a trial.", '"three losses a trial"'),
        ("| 2 evaluations a try |", '"2 evaluations a try"'),
        ("It takes 5 ms a transition here.", '"5 ms a transition"'),
        ("Two calls a client.", '"Two calls a client"'),
        ("Draws, one seed a worker.", '"one seed a worker"'),
        ("What teleports are worth is shown.", '"What teleports are worth"'),
        ("Work that can be cut off.", '"cut off"'),
        ("It (" + "word " * 13 + ") ends.", "13 words in parentheses"),
        (LONG, "26 words"),
        (f"[Good]({'x' * 9}) start. {LONG} A good end.", "26 words"),
        ("A first line\n\nof a paragraph. " + LONG.replace("many ", "many `code` "), "26 words"),
    ],
)
def test_what_is_found(text: str, complaint: str) -> None:
    (found,) = check_prose.complaints(text)
    assert found.startswith(complaint)


@pytest.mark.parametrize(
    "text",
    [
        "`told` is a name.",
        "```\nnobody\n```",
        "| a row | an episode |",
        "```python\nnobody = 1\n```",
        "A training makes a module a problem, and gives a module a name.",
        "After one step a run stops, and after 20 examples a run is over.",
        "Under a fixed schedule a step without a teleport is one.",
        "It says what each action is, and as many rows as it does.",
        "> He was told.",
        LONG.replace("many ", "", 1),
        LONG.replace("many many", "(many many)"),
        LONG.replace("many many", "many. Many"),
        "- " + LONG.replace("many many", "many\n- many"),
        "An old fold.",
        "The loss is above 2, below `x` and below the threshold. No interval lies above.",
        "Three runs lose a seed, and two of them find a longer gradient.",
        "Read what teleports are worth knowing for.",
        "The start of an episode is a step and a row.",
        "With 20 examples a step is cheap, and the loss is below the threshold.",
        "A page on which a person plays an episode.",
        "It (" + "word " * 12 + ") ends.",
        "It (" + "word " * 12 + "2008) ends.",
        "It (" + "word " * 12 + "1.2.3) ends.",
    ],
)
def test_what_is_passed_over(text: str) -> None:
    assert not list(check_prose.complaints(text))


def test_some_pages_are_counted_with_code_and_parentheses(tmp_path: Path) -> None:
    text = "# Title\n\nWritten by a command.\n\n" + LONG.replace("many many many", "`many` (many many)") + "\n"
    for name, found in (("README.md", 1), ("transfer-more.md", 1), ("guide.md", 0), ("reproduction-details.md", 0)):
        page = tmp_path / name
        page.write_text(text, encoding="utf-8")
        assert len(list(check_prose.of_page(page))) == found, name


def test_docstrings_and_messages_are_read(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""Fine."""\n\nNAME = "told"\nraise ValueError(f"it is told {NAME} so")\n', encoding="utf-8")
    (found,) = check_prose.of_code(module)
    assert found.startswith('"told"')
    page = f'"""Title.\n\n## Description\n{LONG}\n\nArgs:\n    a: {LONG[:60]}\n    b: {LONG[:60]}\n"""\n'
    module.write_text(page, encoding="utf-8")
    (found,) = check_prose.of_code(module)
    assert found.startswith("26 words")


def test_an_f_string_is_one_text(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "raise ValueError(f\"it took {2} us a {'good for nobody'} step, 3 us a step and {3} steps a run\")\n"
    )
    assert [one.split(" (")[0] for one in check_prose.of_code(module)] == ['"3 us a step"', '"steps a run"', '"nobody"']


def test_arguments_begin_with_a_noun() -> None:
    docstring = """Play.

    Of this, nothing: What is no argument.

    Args:
        rate: Of the steps.
        instance, seed: What is
            played: How, and Where.

        env: Environment that is played.
        quiet: Whether lines are printed.
        offset: Offset.
        fitted: Whether so.
        scale: Given as a number.
        every: Per step.
        seed: Is a number.
        mask: Not used.
        key: Used for runs.
        body: On each step.

    Raises:
        ValueError: What was asked for does not exist.

    Attributes:
        best: Where it ends.
    """
    found = list(check_prose.openings(inspect.cleandoc(docstring)))
    assert [one.split(" ...")[0] for one in found] == [
        '"rate: Of',
        '"instance, seed: What',
        '"fitted: Whether so',
        '"scale: Given',
        '"every: Per',
        '"seed: Is',
        '"mask: Not',
        '"key: Used',
        '"body: On',
        '"best: Where',
    ]


def test_arguments_of_modules_are_read(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('def play(rate):\n    """Play.\n\n    Args:\n        rate: Of the steps.\n    """\n')
    (found,) = check_prose.of_code(module)
    assert found.startswith('"rate: Of ..."')


def test_comments_are_read_and_the_texts_of_tests(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        'a = "# told"  # fine\nb = 1  # one row\n# a run\n\ndef test_c():\n    """For nobody."""\n    d = "\\"is told"\n'
    )
    assert next(one.split(" (")[0] for one in check_prose.of_code(module)) == '"one row a run"'
    assert [one.split(" (")[0] for one in check_prose.of_test(module)] == ['"one row a run"', '"nobody"', '"told"']


def test_comments_are_those_that_python_sees() -> None:
    code = Path(__file__).read_text(encoding="utf-8")
    seen = [one.string for one in tokenize.generate_tokens(io.StringIO(code).readline) if one.type == tokenize.COMMENT]
    found = [f"# {line}" for text in check_prose.comments(code) for line in text.splitlines()]
    assert found == seen  # of which there is this one
    # and this one


def test_cells_of_tables_are_read(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text('what,steps\n"The reader is told, twice",1\n')
    (found,) = check_prose.of_table(table)
    assert found.startswith('"told"')


def test_other_languages_are_read_with_their_comments(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text(
        "# One row a run\n  // is told\n/* One key */ /* a run */\ntext = `${one} for nobody` + {{ told }} {% if told %}\n"
    )
    assert sorted(one.split(" (")[0] for one in check_prose.of_source(source)) == [
        '"One row a run"',
        '"nobody"',
        '"told"',
    ]


def test_tutorials_are_read_in_their_prose(tmp_path: Path) -> None:
    tutorial = tmp_path / "tutorial.py"
    tutorial.write_text("# %%\ntold = 1\n\n# %% [markdown]\n# Nobody\n# knows.\n", encoding="utf-8")
    (found,) = check_prose.of_tutorial(tutorial)
    assert found.startswith('"Nobody"')
