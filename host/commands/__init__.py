"""One file for each subcommand of ./lab."""
