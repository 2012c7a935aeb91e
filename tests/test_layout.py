"""The plan of the house: how large it is, which way imports and calls run, and how long things are.

Every module is read, and every import counts: at the top, in a function, for type checkers, or as a name in a string.
"""

import ast
import graphlib
import io
import re
import sys
import tokenize
from collections import Counter
from pathlib import Path

import gymnasium as gym
import pytest

import keras_dqn
from keras_dqn import CartPole
from keras_dqn.core.loop import interact

MAX_CODE_LINES = 7_650  # without docstrings, comments and blanks
MAX_LINES = 12_200
MAX_MODULES = 80  # those that are empty apart
MIN_SHARE_OF_CORE = 1 / 3
MAX_CLASS = 250
MAX_FUNCTION = 60
MAX_ARGUMENTS = 11
MAX_TEXT = 20  # lines of a string that is no docstring: what is written in another language has a file of its own
MAX_CORRIDOR = 450
FLOORS = [  # a module imports from its own floor and from lower ones
    ["checks", "backend", "version"],
    ["files", "environments"],
    ["core"],
    ["show", "ray", "pytorch"],
    ["training"],
    ["games"],
    ["experiment", "playable", "config"],
    ["cli"],
    ["__main__"],
    ["__init__"],  # offers the public names; nothing imports from it
]
APART = "conformance"  # has limits of its own
MAX_CODE_APART = 1_000

FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


class Module:
    """A module of the package, read."""

    def __init__(self, path):
        self.text = path.read_text()
        self.tree = ast.parse(self.text)
        self.nodes = list(ast.walk(self.tree))
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        self.folder = parts[0]  # or the module itself, where it lies in none
        self.name = ".".join(["keras_dqn", *parts]).removesuffix(".__init__")
        self.code = self._code()

    def _code(self):
        """The numbers of the lines that are neither docstring nor comment nor blank."""
        lines = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in NO_CODE:
                lines |= set(range(token.start[0], token.end[0] + 1))
        return lines - {line for one in self.docstrings() for line in range(one.lineno, one.end_lineno + 1)}

    def docstrings(self):
        for node in self.nodes:
            if isinstance(node, ast.Module | ast.ClassDef | FUNCTIONS) and ast.get_docstring(node, False) is not None:
                yield node.body[0].value

    def imports(self):
        """The modules of keras_dqn that are imported here, as (line, name)."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = self.name.split(".")[: -node.level] if node.level else []
                source = ".".join([*above, *filter(None, [node.module])])
                names = [f"{source}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = re.findall(r"^(keras_dqn(?:\.\w+)+)(?::\S+)?$", node.value)
            else:
                continue
            for name in names:
                if name.split(".")[0] == "keras_dqn" and name.split(".")[1:2] != [APART]:
                    yield node.lineno, name if name in MODULES else name.rpartition(".")[0]


def floor(name):
    """How high a module lies."""
    folder = name.split(".")[1] if "." in name else "__init__"
    return {known: number for number, folders in enumerate(FLOORS) for known in folders}[folder]


PACKAGE = Path(keras_dqn.__file__).parent
MODULES = {}
for path in sorted(PACKAGE.rglob("*.py")):
    if APART not in path.relative_to(PACKAGE).parts:
        module = Module(path)
        MODULES[module.name] = module


# ---------------------------------------------------------------- size


def test_it_can_be_read_in_an_evening():
    code = Counter()
    for module in MODULES.values():
        code[module.folder] += len(module.code)
    sizes = f"{code.total()} lines of code: {dict(code.most_common())}"
    assert code.total() <= MAX_CODE_LINES, sizes
    assert code["core"] >= MIN_SHARE_OF_CORE * code.total() and code.most_common(1)[0][0] == "core", sizes
    assert sum(module.text.count("\n") for module in MODULES.values()) <= MAX_LINES
    assert sum(bool(module.code) for module in MODULES.values()) <= MAX_MODULES


def written_arguments(function):
    """Of a signature, without the object itself."""
    own = function.args
    named = [*own.posonlyargs, *own.args, *own.kwonlyargs, *filter(None, [own.vararg, own.kwarg])]
    return [argument.arg for argument in named if argument.arg not in ("self", "cls")]


def test_nothing_is_long():
    long = []
    for module in MODULES.values():
        docstrings = set(map(id, module.docstrings()))
        for node in module.nodes:
            lines = getattr(node, "end_lineno", 0) - getattr(node, "lineno", 0) + 1
            if isinstance(node, ast.ClassDef) and lines > MAX_CLASS:
                long.append(f"{module.name}: class {node.name} has {lines} lines")
            if isinstance(node, FUNCTIONS) and lines > MAX_FUNCTION:
                long.append(f"{module.name}: {node.name} has {lines} lines")
            if isinstance(node, FUNCTIONS) and len(written_arguments(node)) > MAX_ARGUMENTS:
                long.append(f"{module.name}: {node.name} has {len(written_arguments(node))} arguments")
            if isinstance(node, ast.Constant | ast.JoinedStr) and lines > MAX_TEXT and id(node) not in docstrings:
                long.append(f"{module.name}: a text of {lines} lines at {node.lineno}")
    assert not long, "\n".join(long)


# ---------------------------------------------------------------- imports


def test_imports_run_one_way():
    against = [
        f"{module.name}:{line} imports {name}"
        for module in MODULES.values()
        for line, name in module.imports()
        if floor(name) > floor(module.name)
    ]
    assert not against, "\n".join(against)


def test_imports_run_in_no_circle():
    graph = {module.name: {name for _, name in module.imports()} for module in MODULES.values()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


def names_made(module):
    """What a module defines or assigns: functions, classes, variables and attributes."""
    for node in module.nodes:
        if isinstance(node, FUNCTIONS | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def names_used(module):
    """What a module imports, or asks an object for, as (line, name)."""
    for node in module.nodes:
        if isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr


def test_no_private_name_is_taken_from_another_module():
    """Nor a private attribute from an object or a base class of another module."""
    makers = {name: set(names_made(module)) for name, module in MODULES.items()}
    ours = {name for made in makers.values() for name in made if name.startswith("_") and not name.endswith("__")}
    ours -= {"_replace"}  # of named tuples, where it is public
    taken = [
        f"{module.name}:{line} {name}"
        for module in MODULES.values()
        for line, name in names_used(module)
        if name in ours - makers[module.name]
    ]
    assert not taken, "\n".join(taken)


# ---------------------------------------------------------------- what stands apart


def test_conformance_is_short_and_knows_the_rest_by_its_public_names():
    modules = [Module(path) for path in sorted((PACKAGE / APART).rglob("*.py"))]
    assert sum(len(module.code) for module in modules) <= MAX_CODE_APART
    for module in modules:
        for line, name in module.imports():
            public = name in {"keras_dqn", *(f"keras_dqn.{one}" for one in keras_dqn.__all__)}
            assert public, f"{module.name}:{line} imports {name}"


# ---------------------------------------------------------------- the corridor


@pytest.fixture(scope="module")
def corridor():
    """The calls among our functions in the step of the first update, tracing included: (caller or None, callee).

    Each is (module, line where it is defined); the caller is the nearest function of ours on the stack.
    """
    game = CartPole(recipe="fast", weights=None, weight_backup=None, seed=0)
    names = {module.__file__: name for name, module in list(sys.modules.items()) if name in MODULES}
    calls = set()

    def ours(frame):
        while frame is not None and (frame.f_code.co_filename not in names or frame.f_code.co_name.startswith("<")):
            frame = frame.f_back
        return frame and (names[frame.f_code.co_filename], frame.f_code.co_firstlineno)

    def record(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename in names and not code.co_name.startswith("<"):  # "<lambda>"
            calls.add((ours(frame.f_back), ours(frame)))

    steps = interact(game.agent, gym.make("CartPole-v1"), replay_every=1, seed=0)
    while not game.agent.learner.updates:
        calls.clear()
        sys.setprofile(record)
        try:
            next(steps)
        finally:
            sys.setprofile(None)
    return calls


def functions_of(calls):
    """The functions that were called, as (module, node)."""
    for name, line in {callee for _, callee in calls}:
        for node in MODULES[name].nodes:
            if isinstance(node, FUNCTIONS) and line == min(one.lineno for one in [node, *node.decorator_list]):
                yield MODULES[name], node


def test_a_reader_follows_a_transition_in_few_lines(corridor):
    """From the step of the environment to the new weights: the bodies of all functions, without their docstrings."""
    lines = set()
    for module, function in functions_of(corridor):
        body = function.body[ast.get_docstring(function) is not None :]
        lines |= {(module.name, line) for part in body for line in range(part.lineno, function.end_lineno + 1)}
    walked = Counter(name for name, _ in lines)
    assert len(lines) <= MAX_CORRIDOR, f"{len(lines)} lines in {len(walked)} files: {walked}"
    assert {"keras_dqn.core.loop", "keras_dqn.core.agent", "keras_dqn.core.learner"} <= set(walked)


def below(name):
    """A module and all those that it imports, and those that they import."""
    found, new = set(), {name}
    while new:
        found |= new
        new = {inner for outer in new for _, inner in MODULES[outer].imports()} - found
    return found


def test_calls_run_down_the_order_of_imports(corridor):
    up = {(caller[0], callee[0]) for caller, callee in corridor if caller and caller[0] != callee[0]}
    up = {f"{caller} calls {callee}" for caller, callee in up if caller in below(callee)}
    assert not up, "\n".join(sorted(up))


def test_nobody_writes_into_what_was_handed_to_it(corridor):
    written = []
    for module, function in functions_of(corridor):
        arguments = written_arguments(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
                whole = node
                while isinstance(whole, ast.Attribute | ast.Subscript):
                    whole = whole.value
                if isinstance(whole, ast.Name) and whole.id in arguments:
                    written.append(f"{module.name}:{node.lineno} {ast.unparse(node)}")
    assert not written, "\n".join(written)


# ---------------------------------------------------------------- the public names


def test_public_names_are_offered():
    assert {"CartPole", "Agent", "plots", "inside", "train_seeds"} <= set(dir(keras_dqn))
    for_checkers = [
        (part.module, alias.name, alias.asname)
        for node in MODULES["keras_dqn"].nodes
        if isinstance(node, ast.If)
        for part in node.body
        if isinstance(part, ast.ImportFrom)
        for alias in part.names
    ]
    assert sorted(name for _, name, _ in for_checkers) == keras_dqn.__all__
    for home, name, shown in for_checkers:
        expected = f"{home}.{name}" if f"{home}.{name}" in MODULES else home
        found = getattr(keras_dqn, name)
        assert shown == name and getattr(found, "__module__", found.__name__).startswith(expected)
    assert {"train", "run", "evaluate"} <= set(dir(CartPole))
