"""The lab on your own machine: `./lab` starts this package. Standard library only, Python 3.9."""
