"""Write docs/api.md: the engine's public names, from their docstrings.

    python ci/api_reference.py            writes docs/api.md
    python ci/api_reference.py --check    exit status 1 when it is out of date

The source is read, not imported: signatures then look as they were written, with
any Python version. Public is what `shearbolt.__all__` names, and of a class what
does not begin with an underscore and is not listed here as the package's own.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGE = _ROOT / "engine" / "shearbolt"
_TARGET = _ROOT / "docs" / "api.md"
_INTRO = """\
# API reference

Made from the docstrings of `engine/shearbolt` by `python ci/api_reference.py`; a
test fails when it is out of date. [The guide](guide.md) shows the parts together.
"""

_OWN = {
    "DB": {
        *("committing", "durable", "end", "freelist", "freelist_loaded", "identity"),
        *("in_child", "load_freelist", "pager", "require_open", "storage"),
    },
    "Tx": {
        *("abandon", "corrupt", "disown", "free_page", "free_pages", "handle", "load"),
        *("pages", "pass_by", "require_open", "take_handlers"),
    },
    "StorageError": {"of"},
}
"""Methods and attributes that the package's modules share: a program that calls them
can destroy its file."""

Definition = ast.ClassDef | ast.FunctionDef


def _public_names() -> list[tuple[str, str, str]]:
    """(public name, module, name there) for all of `__all__`."""
    tree = ast.parse((_PACKAGE / "__init__.py").read_text("utf-8"))
    origin: dict[str, tuple[str, str]] = {}
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                origin[alias.asname or alias.name] = (node.module, alias.name)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
    return [(name, *origin[name]) for name in names if name in origin]


def _definition(module: str, name: str) -> Definition | None:
    path = _PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, Definition) and node.name == name:
            return node
    return None


def _signature(function: ast.FunctionDef, name: str, *, method: bool) -> str:
    arguments = function.args
    if method and arguments.posonlyargs:
        arguments.posonlyargs = arguments.posonlyargs[1:]
    elif method:
        arguments.args = arguments.args[1:]
    text = ast.unparse(arguments).removeprefix("/, ")
    result = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    one_line = f"{name}({text}){result}"
    if len(one_line) <= 88:
        return one_line
    parts = [ast.unparse(one) for one in _each(arguments)]
    return f"{name}(\n" + "".join(f"    {one},\n" for one in parts) + f"){result}"


def _each(arguments: ast.arguments) -> list[ast.arguments]:
    """The arguments one by one, a bare star among them."""
    single: list[ast.arguments] = []
    plain = [*arguments.posonlyargs, *arguments.args]
    missing = len(plain) - len(arguments.defaults)
    for at, one in enumerate(plain):
        default = arguments.defaults[at - missing : at - missing + 1]
        single.append(
            ast.arguments(
                [], [one], None, [], [], None, default if at >= missing else []
            )
        )
    if arguments.kwonlyargs and arguments.vararg is None:
        star = ast.arguments([], [ast.arg("*")], None, [], [], None, [])
        single.append(star)
    for one, default_value in zip(
        arguments.kwonlyargs, arguments.kw_defaults, strict=True
    ):
        defaults = [] if default_value is None else [default_value]
        single.append(ast.arguments([], [one], None, [], [], None, defaults))
    return single


def _doc(node: Definition, own: Collection[str] = ()) -> str:
    """The docstring as Markdown, without `own`: its sections become lists."""
    lines = inspect.cleandoc(ast.get_docstring(node) or "").splitlines()
    out: list[str] = []
    section = hidden = False
    for line in lines:
        stripped = line.strip()
        if stripped in {"Args:", "Attributes:", "Raises:", "Returns:", "Yields:"}:
            out += ["", f"*{stripped[:-1]}*", ""]
            section = stripped in {"Args:", "Attributes:", "Raises:"}
        elif section and line.startswith("    ") and not line.startswith("     "):
            name, colon, rest = stripped.partition(":")
            hidden = name in own
            if hidden:
                continue
            out.append(f"- `{name}`{colon}{rest}" if colon else f"- {stripped}")
        elif section and line.startswith("     "):
            if hidden:
                continue
            out.append(f"  {stripped}")
        else:
            if line and not line.startswith(" "):
                section = False
            out.append(stripped if line.startswith("    ") else line)
    return "\n".join(out).strip()


def _is_public(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
        return False
    decorators = {ast.unparse(one) for one in node.decorator_list}
    return "overload" not in decorators


def _render(name: str, node: Definition) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        signature = _signature(node, name, method=False)
        return [f"## {name}", "", f"```python\n{signature}\n```", "", _doc(node), ""]
    bases = ", ".join(ast.unparse(one) for one in node.bases)
    title = f"class {name}({bases})" if bases else f"class {name}"
    own = _OWN.get(name, set())
    out = [f"## {name}", "", f"```python\n{title}\n```", "", _doc(node, own), ""]
    for member in node.body:
        if not _is_public(member):
            continue
        assert isinstance(member, ast.FunctionDef)
        if member.name in own:
            continue
        decorators = {ast.unparse(one) for one in member.decorator_list}
        if decorators & {"property", "cached_property"}:
            returns = ast.unparse(member.returns) if member.returns else ""
            head = f"{member.name}: {returns}"
        else:
            head = _signature(
                member, member.name, method="staticmethod" not in decorators
            )
        out += [
            f"### {name}.{member.name}",
            "",
            f"```python\n{head}\n```",
            "",
            _doc(member),
            "",
        ]
    return out


def reference() -> str:
    """The whole document."""
    first = ["open", "DB", "Tx", "Bucket", "Cursor"]
    found = {name: (module, there) for name, module, there in _public_names()}
    order = [*first, *(name for name in sorted(found) if name not in first)]
    out = [_INTRO]
    for name in order:
        node = _definition(*found[name])
        if node is not None:
            out += _render(name, node)
    text = "\n".join(out).rstrip() + "\n"
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    # The parser keeps the number, not how it was written.
    return text.replace("perm: int=384", "perm: int=0o600")


def main() -> int:
    """Write or check docs/api.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    text = reference()
    if not parser.parse_args().check:
        _TARGET.write_text(text, "utf-8")
        return 0
    if _TARGET.read_text("utf-8") == text:
        return 0
    print("docs/api.md is out of date: run python ci/api_reference.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
