"""The order in which the modules of the backend import each other."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
BACKEND = HERE / "keras/src/backend/openvino"
PACKAGE = "keras.src.backend.openvino"


def modules():
    names = {file.stem for file in BACKEND.glob("*.py")}
    tests = {name for name in names if name.endswith("_test")}
    return names - tests - {"__init__", "testing"}


def imported_by(name):
    """The modules of the backend that one of them imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((BACKEND / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {other for other in modules() if f"{PACKAGE}.{other}" in found}


def order_of_the_readme():
    _, _, text = (
        (HERE / "README.md")
        .read_text()
        .partition("`keras/src/backend/openvino/` in the order of its imports:")
    )
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)\.py`", row)]


def test_the_table_names_each_module_once():
    assert sorted(order_of_the_readme()) == sorted(modules())


def test_modules_import_only_what_stands_before_them():
    order = order_of_the_readme()
    wrong = [
        f"{name} imports {other}"
        for index, name in enumerate(order)
        for other in imported_by(name) - set(order[:index])
    ]
    assert not wrong
