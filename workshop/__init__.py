"""The guide: what a learner, a teacher or a speaker types in the lab."""

__version__ = "0.2.0"  # the project's: pyproject.toml and lab read it here
