"""The guide: what a learner, a teacher or a speaker types in the lab."""

__version__ = "0.2.0"  # of the project; pyproject.toml and lab read it from here


# Imported here, because most programs that import workshop have no use for IPython.


def load_ipython_extension(shell: object) -> None:
    """Adds the magics to a notebook: IPython calls this for `%load_ext workshop`."""
    from workshop import magics

    magics.load(shell)


def unload_ipython_extension(shell: object) -> None:
    """Ends the boxes of a notebook: IPython calls this for `%unload_ext workshop`."""
    from workshop import magics

    magics.unload()
