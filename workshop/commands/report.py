"""`workshop report [--out DIR] [--name NAME]`: what the last check has found, as JUnit XML, as
JSON, and as a page to read or print; and, when step 07 has passed, a certificate. The JSON of
a whole class makes one table: `workshop class`.

The pages are whole by themselves: they load nothing.
"""

import ast
import datetime
import hashlib
import io
import json
import tokenize
from pathlib import Path

from rich.panel import Panel
from rich.text import Text

from workshop import diagnose, learner, sandbox
from workshop.commands import progress
from workshop.command_line import Parser
from workshop.errors import Failure
from workshop.terminal import printable

SILENT = {  # tokens that are no code
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
ISOLATED = {  # in the words of namespaces(7)
    "uts": "host name",
    "ipc": "message queues",
    "pid": "processes",
    "mnt": "files and mounts",
    "net": "network",
    "user": "users",
    "cgroup": "limits",
}


def main(arguments):
    """Writes the files, and says where they are. Returns the exit status."""
    parser = Parser(prog="workshop report")
    parser.add_argument("--out", metavar="DIR", help="where to: my/report by default")
    parser.add_argument("--name", help="whose it is; it is remembered")
    options = parser.parse_args(arguments)
    last = last_check()
    if options.name is not None:
        with learner.remembering() as remembered:
            remembered["name"] = printable(options.name)
    folder = Path(options.out).absolute() if options.out else learner.MY / "report"
    learner.make_folder(folder)
    results = summary(last)
    learner.write(folder / "report.json", json.dumps(results, indent=1).encode())
    learner.write(folder / "report.xml", (learner.STATE / "last.xml").read_bytes())
    learner.write(folder / "report.html", page("report.html", results))
    print(
        f"{learner.shown(folder)}: report.html to read, report.json, report.xml (JUnit)"
    )
    if learner.STEPS[-1][:2] in learner.load()["passed"]:
        print(f"{learner.shown(certificate())}: your certificate")
    return 0


def last_check():
    """What the last check has found. Failure: there is none, or it cannot be read."""
    path = learner.STATE / "last.json"
    try:
        last = json.loads(path.read_bytes())
        check_findings(last)
        return {key: last[key] for key in ("when", "step", "facts", "sha256")}
    except FileNotFoundError:
        raise Failure("nothing has been checked yet: `workshop check`") from None
    except (ValueError, KeyError, TypeError):
        raise Failure(
            f"{learner.shown(path)} cannot be read: `workshop check` makes it anew"
        ) from None


def check_findings(last):
    """KeyError, TypeError or ValueError unless these are the findings of a check."""
    datetime.datetime.fromisoformat(last["when"])
    texts = [last["step"], last["sha256"]]
    if not last["facts"]:
        raise ValueError("no facts")
    for fact in last["facts"]:
        texts += [fact["step"], fact["name"], fact["why"]]
        if fact["step"] not in {name[:2] for name in learner.STEPS}:
            raise ValueError(fact["step"])
        if not isinstance(fact["holds"], bool):
            raise TypeError(fact["holds"])
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(texts)


def summary(last):
    """What there is to report: the check's findings by step, and the runtime's size."""
    source, remembered = learner.source(), learner.load()
    steps = []
    for name in sorted({fact["step"] for fact in last["facts"]}, reverse=True):
        facts = [fact for fact in last["facts"] if fact["step"] == name]
        folder = next(step for step in learner.STEPS if step[:2] == name)
        held = sum(fact["holds"] for fact in facts)
        adds = progress.adds(folder)
        steps.append({"name": folder, "adds": adds, "held": held, "facts": facts})
    return {
        "name": remembered["name"],
        "passed": sorted(remembered["passed"]),
        "hints": sum(remembered["hints"].values()),
        "when": last["when"],
        "step": last["step"],
        "runtime": learner.shown(),
        "lines": lines_of_code(source),
        "sha256": last["sha256"],
        "changed_since": hashlib.sha256(source).hexdigest() != last["sha256"],
        "held": sum(step["held"] for step in steps),
        "facts": len(last["facts"]),
        "steps": steps,
    }


def lines_of_code(source):
    """How many lines are code: no blank ones, comments or docstrings. None: it is no Python."""
    try:
        tree = ast.parse(source)
        tokens = list(tokenize.tokenize(io.BytesIO(source).readline))[1:]
    except (SyntaxError, ValueError, tokenize.TokenError):
        return None
    lines = set()
    for token in tokens:
        if token.type not in SILENT:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        kinds = ast.Module | ast.FunctionDef | ast.ClassDef
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            first = node.body[0]
            lines -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def page(template, values):
    """A page's bytes, of a template beside this file."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters["day"] = day
    return environment.get_template(template).render(values).encode()


def day(when):
    """A date as people write it: 24 November 2026."""
    time = datetime.datetime.fromisoformat(when)
    return f"{time.day} {time:%B %Y}"


# ---- step 07 has passed


def celebrate(out):
    """Says it, and writes the certificate."""
    path = certificate()
    lines = lines_of_code(learner.source())
    text = Text.assemble(
        ("You have built a container.\n\n", "bold"),
        f"{lines} lines of Python, and no container engine anywhere: system calls, the very\n"
        "ones that Docker and Kubernetes end in. All eight steps hold.\n\n",
        ("Your certificate: ", "bold"),
        f"{learner.shown(path)}\n",
        ("Now try: ", "bold"),
        f"sudo {learner.shown()} run --memory 64M debian bash",
    )
    out.print()
    out.print(Panel(text, border_style="green", expand=False), soft_wrap=False)


def certificate():
    """Writes the page about the runtime that has passed the last step, whatever has become of
    it since. Returns its path."""
    remembered, last = learner.load(), learner.STEPS[-1][:2]
    passed = remembered["passed"]
    source = (learner.STATE / f"passed-{last}.py").read_bytes()
    with sandbox.workbench(source) as bench:
        isolated = diagnose.isolation(bench, 30)
    values = {
        "name": printable(remembered["name"] or ""),
        "when": passed[last]["when"],
        "lines": lines_of_code(source),
        "facts": sum(step["facts"] for step in passed.values()),
        "isolated": [(kind, ISOLATED[kind], *ids) for kind, ids in isolated.items()],
        "steps": [(step, progress.adds(step)) for step in learner.STEPS],
        "sha256": hashlib.sha256(source).hexdigest(),
    }
    path = learner.MY / "certificate.html"
    learner.write(path, page("certificate.html", values))
    return path
