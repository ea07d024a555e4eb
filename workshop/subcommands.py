"""The subcommands of `workshop`, and what each one does."""

# Each one is main() in the module of its name in workshop/commands, which is imported only
# when it is needed, so that every subcommand starts fast.
SUBCOMMANDS = {
    "progress": "shows which steps have passed, and what to do next",
    "start": "creates my/container.py from step 00",
    "check": "checks your runtime against a step's facts",
    "watch": "checks again whenever you save my/container.py",
    "hint": "prints the next hint for a step",
    "diff": "shows what a step changes in the runtime before it",
    "solve": "shows the reference, or puts it in place of your runtime",
    "reset": "goes back to the runtime that passed your last step",
    "undo": "goes back to the snapshot before, or forward again",
    "breakout": "runs a step's attack against your runtime",
    "report": "writes what the last check found, to hand in or to print",
    "class": "makes one table of the reports of a class",
    "grade": "grades the runtime on standard input",
    "demo": "plays the live part of a talk",
    "slides": "makes slides of the lessons",
    "inspect": "draws a container and its host side by side",
    "image": "lists images and layers, pulls, pushes, removes images",
    "commit": "saves what a container has written as an image",
    "clean": "removes what killed runtimes have left behind",
    "doctor": "says which steps this kernel can run",
    "welcome": "prints where JupyterLab is, and shows a container",
}
