"""How each language's programs are compiled and run: a table of `Toolchain` records, joined in `table`."""
