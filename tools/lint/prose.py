"""Prose of a source file: the comments, docstrings and messages that people read, with their line numbers."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MESSAGE_WORDS = 3  # a shorter string is a key, a name or a label
_SLASHES = {".go", ".js", ".json5", ".css"}
_HASHES = {".yaml", ".yml", ".toml", ".sh", ".Dockerfile", ".lua"}
_NAMES = {"Makefile", "Dockerfile", "run", "python", ".gitignore", ".dockerignore", ".yamllint", ".helmignore"}
_COMMENT = re.compile(r"(?:^|\s)#+(?:!.*$|\s*-- |\s)(.*)$")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'')
_ACTION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_ITEM = re.compile(r"^\s*(?:[-*] |\w+(?: \([^)]*\))?: )")
_SECTION = re.compile(r"^\s*(?:Args|Returns|Raises|Yields|Attributes):\s*$")


@dataclass
class Passage:
    """Text that is read as one piece, with the line of the file that each part comes from."""

    headline: bool = False  # the first sentence of a module's or a class's docstring
    parts: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, text: str) -> None:
        """Append the text of one line; blank text adds nothing."""
        if text.strip():
            self.parts.append((line, text.strip()))


def _with_code_masked(text: str) -> str:
    return re.sub(r"`+[^`\n]+`+|<[\w./-]+>|https?://\S+", lambda match: "X" * len(match[0]), text)


def _is_message(text: str) -> bool:
    words = re.findall(r"(?:^|\s)['(]?[A-Za-z][A-Za-z']*(?=[\s.,:;!?)']|$)", text)
    return len(words) >= MESSAGE_WORDS and "\n" not in text.strip()


def _docstring(text: str, line: int, headline: bool) -> Iterator[Passage]:
    """Yield the paragraphs of a docstring and the items of its sections, each on its own."""
    passage = Passage(headline=headline)
    for number, content in enumerate(text.splitlines(), line):
        if not content.strip() or _SECTION.match(content) or _ITEM.match(content):
            yield passage
            passage = Passage()
        if not _SECTION.match(content):
            passage.add(number, content)
    yield passage


def _text_of(node: ast.expr) -> str | None:
    """Return the text of a string or an f-string, whose expressions become X."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    return None


def _python(source: str) -> Iterator[Passage]:
    tree = ast.parse(source)
    docstrings: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and ast.get_docstring(node):
                docstrings.add(first.value)
                is_noun = isinstance(node, ast.Module | ast.ClassDef)
                yield from _docstring(str(first.value.value), first.lineno, headline=is_noun)
    inside = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - {
        node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and node not in docstrings and node not in inside:
            text = _text_of(node)
            if text and _is_message(text):
                passage = Passage()
                passage.add(node.lineno, text)
                yield passage
    comments = (
        (token.start[0], token.string.lstrip("#"), token.line.strip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    )
    yield from _joined(comments)


def _joined(comments: Iterable[tuple[int, str, bool]]) -> Iterator[Passage]:
    """Yield comments; those that fill successive lines are one passage unless an item starts in between."""
    passage, previous = Passage(), -1
    for line, text, alone in comments:
        if not alone or line != previous + 1 or not text.strip() or re.match(r"\s*(?:[-*] |@\w)", text):
            yield passage
            passage = Passage()
        passage.add(line, text)
        previous = line if alone else -1
    yield passage


def _lines(source: str, comment: re.Pattern[str]) -> Iterator[Passage]:
    """Yield the comments of a file that is read line by line, then the sentences in its values and strings."""
    comments, sentences = [], []
    for line, content in enumerate(source.splitlines(), 1):
        match = None if _quoted(content, comment) else comment.search(content)
        if match:
            text = re.sub(r"\s*# @schema.*|@schema .*", "", match[1])
            comments.append((line, text, not content[: match.start()].strip()))
            content = content[: match.start()]
        sentences.append((line, re.sub(r"^[\s-]*(?:[\w./$-]+\s*[:=]+\s+)?[\"'@|>]*", "", content)))
    yield from _joined(comments)
    yield from (Passage(parts=[(line, text.strip())]) for line, text in sentences if _is_message(text))


def _quoted(content: str, comment: re.Pattern[str]) -> bool:
    """Return whether what looks like a comment is part of a string."""
    match = comment.search(content)
    return bool(match) and any(
        string.start() < match.start() < string.end() and "#" in string[0]
        for string in _STRING.finditer(content)
        if match
    )


def _slashes(source: str) -> Iterator[Passage]:
    source = re.sub(
        r"/\*.*?\*/", lambda block: re.sub(r"(?m)^\s*(?:/\*)?[* ]*", "// ", block[0][:-2]), source, flags=re.DOTALL
    )
    for passage in _lines(source, re.compile(r"(?:^|\s)//+\s?(.*)$")):
        if not re.search(r"[{}=();]\s*$", passage.parts[0][1] if passage.parts else ""):  # code, not a sentence
            yield passage


def _template(source: str, comment: re.Pattern[str] = _COMMENT) -> Iterator[Passage]:
    """Yield a Helm template's comments, the sentences in its actions' strings, and its text without actions."""

    def blank(action: re.Match[str]) -> str:
        return "X" if "\n" not in action[0] else "\n" * action[0].count("\n")

    for action in _ACTION.finditer(source):
        line = source.count("\n", 0, action.start()) + 1
        inside = re.fullmatch(r"\{\{-?\s*/\*(.*)\*/\s*-?\}\}", action[0], re.DOTALL)
        if inside:
            yield from _docstring(inside[1], line, headline=False)
            continue
        for string in _STRING.finditer(action[0]):
            text = re.sub(r"%[a-z]", "X", string[1] or "")
            if _is_message(text):
                yield Passage(parts=[(line + action[0].count("\n", 0, string.start()), text)])
    yield from _lines(re.sub(r"(?m)^\s*\{\{-?[^}]*\}\}\s*$", "", _ACTION.sub(blank, source)), comment)


def _html(source: str) -> Iterator[Passage]:
    source = re.sub(
        r"<(script|style|svg)\b.*?</\1>", lambda block: "\n" * block[0].count("\n"), source, flags=re.DOTALL
    )
    text = re.sub(r"<[^>]*>", lambda tag: "\n" * tag[0].count("\n") or " ", source, flags=re.DOTALL)
    for line, content in enumerate(text.splitlines(), 1):
        if _is_message(content):
            yield Passage(parts=[(line, content.strip())])


def is_markdown(path: Path) -> bool:
    """Return whether Vale reads the file by itself."""
    return path.suffix in (".md", ".gotmpl")


def is_prose(path: Path) -> bool:
    """Return whether the file has text that this module extracts, or that Vale reads by itself."""
    suffixes = {".py", ".txt", ".tpl", ".html"} | _SLASHES | _HASHES
    return path.name in _NAMES or path.suffix in suffixes or is_markdown(path)


def passages(path: Path, source: str) -> list[Passage]:
    """Return what people read in a file; code spans, placeholders and addresses are masked."""
    if path.suffix == ".py":
        found = _python(source)
    elif "templates" in path.parts and path.suffix in (".yaml", ".tpl", ".txt"):
        found = _template(source)
    elif path.suffix == ".html":
        found = _html(source)
    elif path.suffix in _SLASHES:
        found = _slashes(source)
    else:
        found = _lines(source, _COMMENT)
    kept = [passage for passage in found if passage.parts]
    for passage in kept:
        passage.parts = [(line, _with_code_masked(text)) for line, text in passage.parts]
    return kept
