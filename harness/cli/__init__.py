"""The command line: parse, call, print, translate errors."""
