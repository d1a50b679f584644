"""What `import tornpage` offers: it is there, and costs nothing before its use."""

import ast
import importlib
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import tornpage

PACKAGES = [
    one.name
    for one in pkgutil.iter_modules(tornpage.__path__, "tornpage.")
    if one.ispkg
]


@pytest.mark.parametrize("name", sorted({*tornpage.__all__} - {"__version__"}))
def test_every_name_is_the_one_of_its_home(name):
    home = importlib.import_module(f"tornpage.{tornpage._HOMES[name]}")
    assert name in home.__all__
    assert getattr(tornpage, name) is getattr(home, name)


def test_what_is_listed_is_what_can_be_had():
    listed = {*tornpage._HOMES, "__version__"}
    assert set(tornpage.__all__) == listed <= set(dir(tornpage))
    with pytest.raises(AttributeError, match="has no attribute 'disc'"):
        tornpage.disc  # noqa: B018


def test_the_package_by_itself_imports_none_of_its_parts():
    code = (
        "import sys, tornpage\n"
        "parts = [one for one in sys.modules if one.startswith('tornpage.')]\n"
        "sys.exit(str(parts) if parts else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_of_a_package_hides_one_of_its_modules(package):
    module = importlib.import_module(package)
    inside = {one.name for one in pkgutil.iter_modules(module.__path__)}
    assert not inside & set(getattr(module, "__all__", ()))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_package_is_there(package):
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name)


def test_a_misspelt_name_is_an_error_to_a_type_checker() -> None:
    """It would be Any, if a type checker saw the module's `__getattr__`."""
    tree = ast.parse(pathlib.Path(tornpage.__file__).read_text(encoding="utf-8"))
    seen = {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}
    assert "__dir__" in seen
    assert "__getattr__" not in seen
