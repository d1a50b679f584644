"""Write docs/api.md and docs/api-tornpage.md: public names, from their docstrings.

    python ci/api_reference.py            writes both
    python ci/api_reference.py --check    exit status 1 when one is out of date

The source is read, not imported: signatures then look as they were written, with
any Python version. Public is what the package's `__all__` names, and of a class what
does not begin with an underscore and is not listed here as the package's own.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Document:
    """One reference.

    Attributes:
        source: The folder of the package.
        target: The file that is written.
        title: What the document is, with the words around it.
        first: Names that come first; the others follow by the alphabet.
        own: By class, methods and attributes that the package's modules share, and
            that no program should call.
    """

    source: Path
    target: Path
    title: str
    first: Sequence[str]
    own: Mapping[str, Collection[str]]


ENGINE = Document(
    source=_ROOT / "engine" / "shearbolt",
    target=_ROOT / "docs" / "api.md",
    title="""\
# API reference

Made from the docstrings of `engine/shearbolt` by `python ci/api_reference.py`; a
test fails when it is out of date. [The guide](guide.md) shows the parts together.
""",
    first=("open", "DB", "Tx", "Bucket", "Cursor"),
    own={
        "DB": {
            *("committing", "durable", "end", "ending", "freelist"),
            *("freelist_loaded", "identity", "in_child", "load_freelist", "pager"),
            *("require_open", "storage"),
        },
        "Tx": {
            *("abandon", "corrupt", "disown", "free_page", "free_pages", "handle"),
            *("give_up", "load", "pages", "pass_by", "require_open", "take_handlers"),
        },
        "Bucket": {"require_changeable"},
        "StorageError": {"of"},
    },
)
TESTER = Document(
    source=_ROOT / "faultinject" / "tornpage",
    target=_ROOT / "docs" / "api-tornpage.md",
    title="""\
# API reference of tornpage

Made from the docstrings of `faultinject/tornpage` by `python ci/api_reference.py`; a
test fails when it is out of date. All of it can be had from `tornpage` itself:
`from tornpage import subject_from`. [Your own store](your-own-store.md) shows the parts
together; what the disk may do is in [the crash model](crash-model.md).
""",
    first=("subject_from", "Subject", "Violation", "patched", "Disk", "CrashModel"),
    own={
        "CrashModel": {"atom", "mixes", "separate", "spoils", "unit_atoms"},
        "Disk": {"assume_dir", "on_image", "refuse", "refused", "remember"},
        "Explorer": {"eager", "marks_before", "memory"},
        "Drawn": {"asked"},
    },
)

Definition = ast.ClassDef | ast.FunctionDef


def _imports(package: Path, module: str) -> dict[str, tuple[str, str]]:
    """By name (module, name there), of what a module imports from its package.

    Imports for the type checker count: those stand for what is imported when used.
    """
    tree = ast.parse(_file(package, module).read_text("utf-8"))
    blocks = [tree.body, *(one.body for one in tree.body if isinstance(one, ast.If))]
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for block in blocks
        for node in block
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").partition(".")[0] == package.name
        for alias in node.names
        if node.module
    }


def _file(package: Path, module: str) -> Path:
    place = package.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _public_names(package: Path) -> list[str]:
    tree = ast.parse((package / "__init__.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise LookupError(f"{package} has no __all__")


def _definition(package: Path, module: str, name: str) -> Definition | None:
    """The class or function, wherever a package has it from; None: it is neither."""
    for node in ast.parse(_file(package, module).read_text("utf-8")).body:
        if isinstance(node, Definition) and node.name == name:
            return node
    there = _imports(package, module).get(name)
    return _definition(package, *there) if there else None


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


_LISTS = frozenset({"Args:", "Attributes:", "Raises:"})
_TEXTS = frozenset({"Returns:", "Yields:"})


def _doc(node: Definition, own: Collection[str] = ()) -> str:
    """The docstring as Markdown, without `own`: its sections become lists.

    What is indented outside of a section is a drawing or a program.
    """
    lines = inspect.cleandoc(ast.get_docstring(node) or "").splitlines()
    out: list[str] = []
    section, hidden, drawn = "", False, False
    for line in lines:
        stripped, inside = line.strip(), line.startswith("    ")
        if stripped in _LISTS | _TEXTS:
            section = stripped
            out += ["", f"*{stripped[:-1]}*", ""]
            continue
        if stripped and not inside:
            section = ""
        if stripped and not section and inside != drawn:
            drawn = inside
            out.insert(len(out) - (not drawn), "```")
        if section in _LISTS and inside and not line.startswith("     "):
            name, colon, rest = stripped.partition(":")
            hidden = name in own
            text = f"- `{name}`{colon}{rest}" if colon else f"- {stripped}"
        elif section in _LISTS and stripped:
            text = f"  {stripped}"
        else:
            text = line[4:] if drawn and not section else line.strip()
        if not (hidden and section in _LISTS and stripped):
            out.append(text)
    if drawn:
        out.append("```")
    return "\n".join(out).strip()


def _is_public(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
        return False
    decorators = {ast.unparse(one) for one in node.decorator_list}
    return "overload" not in decorators and f"{node.name}.setter" not in decorators


def _render(name: str, node: Definition, own: Collection[str]) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        signature = _signature(node, name, method=False)
        if "contextmanager" in {ast.unparse(one) for one in node.decorator_list}:
            signature = f"@contextmanager\n{signature}"
        return [f"## {name}", "", f"```python\n{signature}\n```", "", _doc(node), ""]
    bases = ", ".join(ast.unparse(one) for one in node.bases)
    title = f"class {name}({bases})" if bases else f"class {name}"
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


def reference(document: Document) -> str:
    """The whole document."""
    package = document.source
    names = _public_names(package)
    out = [document.title]
    for name in [*document.first, *sorted(set(names) - set(document.first))]:
        node = _definition(package, package.name, name)
        if node is not None:
            out += _render(name, node, document.own.get(name, ()))
    text = "\n".join(out).rstrip() + "\n"
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    # The parser keeps the number, not how it was written.
    return text.replace("perm: int=384", "perm: int=0o600")


def main() -> int:
    """Write or check both documents."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = 0
    for document in (ENGINE, TESTER):
        text = reference(document)
        if not check:
            document.target.write_text(text, "utf-8")
        elif document.target.read_text("utf-8") != text:
            stale = 1
            where = document.target.relative_to(_ROOT)
            print(f"{where} is out of date: run python ci/api_reference.py")
    return stale


if __name__ == "__main__":
    sys.exit(main())
