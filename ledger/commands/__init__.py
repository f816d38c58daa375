"""The ledger's command line, one command a module: `NAME`, `HELP`, `configure(parser)`, `run(given)`."""
