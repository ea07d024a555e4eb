"""The lab on your own machine, which `./lab` starts. Standard library only, Python 3.9."""
