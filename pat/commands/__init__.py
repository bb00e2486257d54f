"""One module a command: it reads the arguments, calls the layers below and prints. Only the CLI imports it."""
