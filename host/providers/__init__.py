"""The ways to a VM: a class for each, behind the interface in base.py."""
