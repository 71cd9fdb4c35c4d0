"""Execute the tutorials, and write their notebooks and opening pictures: `make tutorials`.

A tutorial is a pair: ``docs/tutorials/NAME.py`` in jupytext's percent format, which people edit and tests run, and
``NAME.ipynb`` with its outputs, which this script makes of it. The site shows the notebook. The figure of the cell with the
tag "opening" becomes the picture with which the tutorial opens.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image
from traitlets.config import Config

from teleport_env.files import write

DOCS = Path(__file__).parent
WIDTH = 1000


def small(picture: str) -> str:
    """A PNG in base64 with at most `WIDTH` columns and 64 colours, which is a third of its size."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.thumbnail((WIDTH, WIDTH))
    image.quantize(64).save(file := io.BytesIO(), "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def kept(output: Any) -> bool:
    """False for progress bars, which are displayed and hold no picture."""
    return output.output_type != "display_data" or "image/png" in output.data


def execute(source: Path) -> None:
    """Write the notebook and the opening picture of a tutorial.

    Raises:
        RuntimeError: A cell writes to stderr, where warnings go.
        nbclient.exceptions.CellExecutionError: A cell fails.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    by_files = Config(KernelManager={"transport": "ipc"})  # by default a kernel listens on the network
    NotebookClient(notebook, config=by_files, timeout=600, record_timing=False).execute()
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"jupytext": {"formats": "ipynb,py:percent"}, "kernelspec": kernel}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # otherwise they are random
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if kept(output)]
        for output in cell.outputs:
            if output.get("name") == "stderr":
                raise RuntimeError(f"{source.name}: a cell warns: {output['text']}")
            if "image/png" not in output.get("data", {}):
                continue
            output.data = {"image/png": small(output.data["image/png"])}
            if "opening" in cell.metadata.get("tags", ()):
                picture = base64.b64decode(output.data["image/png"])
                write(DOCS / "images" / "tutorials" / f"{source.stem}.png", picture)
    print(f"Wrote {write(source.with_suffix('.ipynb'), nbformat.writes(notebook) + chr(10))}")


if __name__ == "__main__":
    names = sys.argv[1:] or [path.stem for path in sorted((DOCS / "tutorials").glob("*.py"))]
    for name in names:
        execute(DOCS / "tutorials" / f"{name}.py")
